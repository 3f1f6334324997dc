"""Whatever is wished for, the plan meets the limits in exact integers and wastes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.budget import Costs, Limits
from amcc.errors import BudgetError, UsageError
from amcc.ir import Array
from amcc.search import GroupInfo, Problem
from amcc.search.fit import CLOSE, fit
from tests.search_problems import Chain, plans, problems


def steps_up(problem: Problem, keep: Array) -> list[Array]:
    found = []
    for group, width in enumerate(keep):
        wider = problem.wider(group, int(width))
        if wider is not None:
            step = keep.copy()
            step[group] = wider
            found.append(step)
    return found


def assert_tight(problem: Problem, keep: Array) -> None:
    assert keep.dtype == np.int64
    assert all(k in widths for k, widths in zip(keep, problem.widths, strict=True))
    assert problem.limits.admit(problem.cost(keep))
    assert not any(problem.limits.admit(problem.cost(step)) for step in steps_up(problem, keep))


@given(size=st.integers(1, 300), multiple=st.sampled_from([1, 2, 7, 8, 16]), minimum=st.integers(0, 300))
def test_widths_are_multiples_or_the_whole(size: int, multiple: int, minimum: int) -> None:
    widths = GroupInfo(0, "g", size, multiple=multiple, minimum=minimum).widths().tolist()
    legal = [w for w in range(1, size) if w % multiple == 0 and w >= minimum]
    assert widths == [*legal, size]


@given(problem=problems(), data=st.data())
def test_down_is_the_widest_feasible_keep_below(problem: Problem, data: st.DataObject) -> None:
    wanted = np.array([data.draw(st.floats(-1.0, 14.0)) for _ in problem.groups])
    expected = [
        max((w for w in widths if w <= x), default=widths[0]) for widths, x in zip(problem.widths, wanted, strict=True)
    ]
    assert problem.down(wanted).tolist() == expected


@given(problem=problems(), data=st.data())
def test_any_wish_meets_every_limit_with_no_step_to_spare(problem: Problem, data: st.DataObject) -> None:
    wanted = np.array([data.draw(st.floats(-2.0, 15.0)) for _ in problem.groups])
    assert_tight(problem, fit(problem, wanted))


@given(problem=problems(), data=st.data())
def test_a_preference_changes_the_plan_but_not_the_law(problem: Problem, data: st.DataObject) -> None:
    likes = data.draw(st.lists(st.floats(-1, 1), min_size=len(problem.groups), max_size=len(problem.groups)))
    assert_tight(problem, fit(problem, problem.full / 2, lambda keep, group, width: likes[group]))


@settings(max_examples=60, deadline=None)
@given(problem=problems(), data=st.data())
def test_below_99_percent_no_trade_of_two_groups_comes_closer(problem: Problem, data: st.DataObject) -> None:
    keep = fit(problem, np.array([data.draw(st.floats(0.0, 12.0)) for _ in problem.groups]))
    used = problem.limits.use(problem.cost(keep))
    if not list(problem.limits.items()) or used >= CLOSE:
        return
    for raised in steps_up(problem, keep):
        for down in range(len(keep)):
            for width in problem.widths[down]:
                if width < keep[down] and raised[down] == keep[down]:
                    trade = raised.copy()
                    trade[down] = width
                    assert not problem.fits(trade) or problem.limits.use(problem.cost(trade)) <= used


@settings(max_examples=50, deadline=None)
@given(problem=problems(reachable=False))
def test_out_of_reach_is_said_exactly_when_no_plan_fits(problem: Problem) -> None:
    if any(problem.fits(keep) for keep in plans(problem)):
        assert problem.fits(fit(problem, problem.full / 2))
        return
    with pytest.raises(BudgetError) as caught:
        fit(problem, problem.full / 2)
    for key, limit in problem.limits.items():
        least = min(problem.cost(keep).of(key) for keep in plans(problem))
        assert (f"{key}={least} (" in str(caught.value)) == (least > limit)


def test_the_error_names_the_reachable_value_and_the_locks() -> None:
    problem = Chain(4).problem("flops=1k,params=0.9", why="locked: conv9 (graph output)")
    with pytest.raises(BudgetError) as caught:
        fit(problem, problem.full)
    least = problem.cost(problem.smallest).flops
    assert f"flops=1000 is out of reach: the smallest reachable is flops={least} (0." in str(caught.value)
    assert "locked: conv9 (graph output)" in str(caught.value)
    assert "params" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_plan_that_fits_as_wished_keeps_its_shape() -> None:
    problem = Chain(8).problem("flops=0.5")
    wanted = fit(problem, 0.6 * problem.full)
    assert fit(problem, wanted).tolist() == wanted.tolist()


def test_a_budget_of_everything_removes_nothing() -> None:
    problem = Chain(4).problem("flops=1,params=100%")
    assert fit(problem, 0.2 * problem.full).tolist() == problem.full.tolist()


@pytest.mark.parametrize("resource", ["flops", "params", "size"])
@pytest.mark.parametrize("ratio", [0.1, 0.37, 0.5, 0.83, 0.95])
def test_fine_widths_fill_99_percent(resource: str, ratio: float) -> None:
    problem = Chain(12, stage=4).problem(f"{resource}={ratio}")
    for seed in range(5):
        keep = fit(problem, np.random.default_rng(seed).random(12) * problem.full)
        assert_tight(problem, keep)
        assert problem.limits.use(problem.cost(keep)) >= CLOSE


def test_coarse_steps_are_traded_to_come_within_one_percent() -> None:
    """Steps of 10 and of 7 units of cost: from 50 + 40 only a trade reaches 100 - 1."""
    groups = [GroupInfo(0, "a", 100, multiple=10), GroupInfo(1, "b", 70, multiple=7)]
    problem = Problem(groups, Limits(flops=100), cost=lambda keep: Costs(int(keep.sum()), 0, 0), score=lambda keep: 0.0)
    for first in range(10, 100, 10):
        keep = fit(problem, np.array([first, 200.0]), lambda keep, group, width: -group)
        assert_tight(problem, keep)
        assert problem.cost(keep).flops >= 99


def test_curves_of_wrong_length_or_not_finite_are_refused() -> None:
    groups = [GroupInfo(0, "a", 3)]
    with pytest.raises(UsageError, match="sizes of the groups"):
        Problem(groups, Limits(), lambda keep: Costs(0, 0, 0), lambda keep: 0.0, losses=[np.zeros(3)])
    with pytest.raises(UsageError, match="not all finite"):
        Problem(groups, Limits(), lambda keep: Costs(0, 0, 0), lambda keep: 0.0, magnitudes=[np.full(3, np.nan)])
