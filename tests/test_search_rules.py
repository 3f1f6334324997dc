"""Plans by rule: uniform, magnitude, Lagrange."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amcc.budget import Costs, Limits
from amcc.errors import UsageError
from amcc.search import GroupInfo, Problem, rules
from amcc.search.lagrange import evened, lagrange
from tests.search_problems import Chain, plans, problems


@given(problem=problems(), evenness=st.sampled_from([0.0, 0.2, 3.0]))
def test_every_rule_fits_without_a_step_to_spare(problem: Problem, evenness: float) -> None:
    for keep in (rules.uniform(problem), rules.magnitude(problem), lagrange(problem, evenness)):
        assert all(k in widths for k, widths in zip(keep, problem.widths, strict=True))
        assert problem.fits(keep)
        for group, width in enumerate(keep):
            step = keep.copy()
            step[group] = problem.wider(group, int(width)) or width
            assert step[group] == width or not problem.fits(step)


@pytest.mark.parametrize("budget", ["flops=0.5", "params=0.2", "flops=0.3,size=0.4"])
def test_uniform_keeps_one_ratio(budget: str) -> None:
    problem = Chain(10, width=32, stage=4).problem(budget)
    share = rules.uniform(problem) / problem.full
    assert np.ptp(share) <= 2 / 32


def test_uniform_with_multiples() -> None:
    problem = Chain(6, width=64, multiple=8).problem("flops=0.5")
    keep = rules.uniform(problem)
    assert (keep % 8 == 0).all()
    assert np.ptp(keep / problem.full) <= 2 * 8 / 64


def test_magnitude_keeps_the_largest_units_of_all() -> None:
    groups = [GroupInfo(i, f"g{i}", 6) for i in range(3)]
    magnitudes = [np.array([1.0, 2, 3, 4, 5, 6]), np.array([60.0, 50, 40, 30, 20, 10]), np.full(6, 0.1)]
    problem = Problem(
        groups,
        Limits(params=10),
        cost=lambda keep: Costs(0, int(keep.sum()), 0),
        score=lambda keep: 0.0,
        magnitudes=magnitudes,
    )
    # each group keeps one unit at least; the order in which units go does not matter to the threshold
    assert rules.magnitude(problem).tolist() == [3, 6, 1]


def test_lagrange_finds_the_optimum_of_small_problems() -> None:
    """The optimum among plans that use 99% of the budget, as every plan has to; coarse steps of an eighth."""
    ratios = []
    for seed in range(10):
        chain = Chain(4, seed=seed, width=8, stage=4)
        problem = chain.problem("flops=0.4")
        close = [k for k in plans(problem) if 0.99 <= problem.limits.use(problem.cost(k)) <= 1]
        ratios.append(chain.loss(lagrange(problem, 0.0)) / min(map(chain.loss, close)))
    assert np.median(ratios) <= 1.001
    assert max(ratios) <= 1.6


@pytest.mark.parametrize("budget", ["flops=0.5", "params=0.3", "flops=0.4,params=0.3", "memory=0.5,flops=0.6"])
def test_lagrange_leaves_nothing_to_pair_trades(budget: str) -> None:
    """No widening of one group paid for by narrowing another lowers the loss by more than 2%."""
    chain = Chain(9, seed=3, stage=3)
    problem = chain.problem(budget)
    keep = lagrange(problem, 0.0)
    before = chain.loss(keep)
    for up in range(9):
        for down in range(9):
            for step in (1, 2, 4):
                trade = keep.copy()
                trade[up] = min(trade[up] + step, problem.full[up])
                while up != down and trade[down] > 1 and not problem.fits(trade):
                    trade[down] -= 1
                assert not problem.fits(trade) or chain.loss(trade) >= 0.98 * before


def test_a_factor_on_all_losses_does_not_matter() -> None:
    problem = Chain(6, seed=1).problem("flops=0.5")
    assert problem.losses is not None
    for factor in (1e4, 1e-4):
        scaled = dataclasses.replace(problem, losses=[factor * curve for curve in problem.losses])
        assert lagrange(scaled).tolist() == lagrange(problem).tolist()


def test_evenness_keeps_every_group_from_being_cut_to_nothing() -> None:
    problem = Chain(8, seed=1).problem("flops=0.4")
    least = [float((lagrange(problem, evenness) / problem.full).min()) for evenness in (0.0, 0.2, 5.0)]
    assert least[0] < least[1] < least[2]


def test_evened_curves() -> None:
    problem = dataclasses.replace(Chain(2, width=4, stage=2).problem("flops=0.5"), losses=[np.arange(5.0), -np.ones(5)])
    first, second = evened(problem, 0.5)
    penalty = 0.5 * 2.0 * np.array([0, 1 / 256, 1 / 16, 81 / 256, 1])
    np.testing.assert_allclose(first, np.arange(5) + penalty)
    np.testing.assert_allclose(second, penalty)


def test_lagrange_with_flat_or_falling_losses_still_fits() -> None:
    problem = Chain(5).problem("params=0.3")
    for curves in (
        [np.zeros(n + 1) for n in problem.full],
        [np.linspace(1, 0, n + 1) for n in problem.full],
        [np.full(n + 1, -1e-9) for n in problem.full],
    ):
        keep = lagrange(dataclasses.replace(problem, losses=curves))
        assert problem.limits.use(problem.cost(keep)) >= 0.99
        assert problem.fits(keep)


def test_what_a_rule_lacks_is_said() -> None:
    problem = dataclasses.replace(Chain(3).problem("flops=0.5"), losses=None, magnitudes=None)
    with pytest.raises(UsageError, match="needs losses from calibration"):
        lagrange(problem, 0.0)
    with pytest.raises(UsageError, match="needs the magnitudes"):
        rules.magnitude(problem)
