"""AMC's environment: bounded actions, states in one resource, plans turned into steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amcc.errors import BudgetError
from amcc.search import Problem
from amcc.search.environment import FEATURES, Environment
from tests.search_problems import Chain, problems


@given(problem=problems(), data=st.data())
def test_no_sequence_of_actions_breaks_the_budget(problem: Problem, data: st.DataObject) -> None:
    environment = Environment(problem)
    keep = environment.walk(lambda state, step: data.draw(st.floats(0.0, 1.0)))
    assert all(k in widths for k, widths in zip(keep, problem.widths, strict=True))
    assert problem.fits(keep)


@given(problem=problems(), data=st.data())
def test_each_width_is_the_widest_that_the_rest_can_still_pay_for(problem: Problem, data: st.DataObject) -> None:
    actions = [data.draw(st.floats(0.0, 1.0)) for _ in problem.groups]
    asked = iter(actions)
    keep = Environment(problem).walk(lambda state, step: next(asked))
    for step, action in enumerate(actions):
        wanted = (1.0 - action) * problem.full[step]
        rest = problem.smallest.copy()
        rest[:step] = keep[:step]
        nearest = min(problem.widths[step], key=lambda w: (abs(w - wanted), w))
        allowed = []
        for width in problem.widths[step]:
            rest[step] = width
            if width <= nearest and problem.fits(rest):
                allowed.append(width)
        assert keep[step] == max(allowed)


def test_an_action_within_the_bounds_is_taken_as_it_is() -> None:
    problem = Chain(5, width=20, stage=5).problem("flops=0.9")
    assert Environment(problem).walk(lambda state, step: 0.4).tolist() == [12] * 5


def test_the_state_is_equation_one() -> None:
    chain = Chain(4)
    problem = chain.problem("flops=0.5")
    environment = Environment(problem)
    keep = np.array([8, 4, 16, 32])
    states, actions = environment.trace(keep)
    assert states.shape == (4, FEATURES)
    assert states.dtype == actions.dtype == np.float32
    np.testing.assert_allclose(actions, [1 - 8 / 16, 1 - 4 / 16, 1 - 16 / 32, 0.0])
    t, n, c, h, w, stride, k, macs, reduced, rest, previous = states.T
    np.testing.assert_allclose(t, [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    np.testing.assert_allclose(n, [0, 0, 1, 1])
    np.testing.assert_allclose(h, [1, 1, 0, 0])
    assert (h == w).all()
    assert not stride.any()
    assert not k.any()
    assert (c[0], macs.max()) == (0, 1)
    np.testing.assert_allclose(previous, [0, 0.5, 0.75, 0.5])
    whole = chain.cost(chain.sizes).flops
    after = [chain.cost(np.array(k)).flops for k in ([16, 16, 32, 32], [8, 16, 32, 32], [8, 4, 32, 32], [8, 4, 16, 32])]
    np.testing.assert_allclose(reduced, [1 - flops / whole for flops in after], atol=1e-6)
    least = [chain.cost(np.array(k)).flops for k in ([16, 1, 1, 1], [8, 16, 1, 1], [8, 4, 32, 1], [8, 4, 16, 32])]
    np.testing.assert_allclose(rest, [(a - b) / whole for a, b in zip(after, least, strict=True)], atol=1e-6)


@given(problem=problems())
def test_states_lie_in_the_unit_cube(problem: Problem) -> None:
    states, actions = Environment(problem).trace(problem.smallest)
    assert (states >= 0).all()
    assert (states <= 1).all()
    assert (actions >= 0).all()
    assert (actions < 1).all()


def test_reduced_and_rest_follow_the_tightest_resource() -> None:
    chain = Chain(6)
    texts = {"flops=0.3,params=0.9": "flops", "flops=0.9,params=0.2": "params", "memory=0.4,size=0.5": "memory"}
    for text, key in texts.items():
        assert chain.problem(text).tightest == key
    state = Environment(chain.problem("flops=0.9,params=0.2")).state(chain.sizes // 2, 5)
    half = np.append(chain.sizes[:5] // 2, chain.sizes[5])
    assert state[8] == pytest.approx(1 - chain.cost(half).params / chain.cost(chain.sizes).params)


def test_an_environment_without_a_plan_is_refused() -> None:
    with pytest.raises(BudgetError):
        Environment(Chain(4).problem("flops=10"))
