"""One search for several budgets."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from amcc.errors import UsageError
from amcc.search import Problem, Record, SearchInterrupted, search
from amcc.search.multi_budget import SHARED_POLICIES, MultiBudget, parts
from tests.search_problems import Chain

BUDGETS = ("flops=0.25", "flops=0.5", "flops=0.7")


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    chain = Chain(5, seed=2)
    return [replace(chain.problem(budget), original_score=1.0) for budget in BUDGETS]


def policy(problems: list[Problem], name: str = "refine") -> MultiBudget:
    return MultiBudget(tuple(problem.limits for problem in problems), name)


@pytest.mark.parametrize("name", SHARED_POLICIES)
def test_every_budget_has_its_plans_and_none_scores_below_a_tighter_one(problems: list[Problem], name: str) -> None:
    found = search(problems[-1], policy(problems, name), episodes=30, seed=1)
    split = parts(found, [problem.limits for problem in problems])
    assert len(split) == 3
    for part, problem in zip(split, problems, strict=True):
        assert part.best in part.records and all(problem.limits.admit(record.costs) for record in part.records)
        assert max(problem.limits.use(record.costs) for record in part.records) > 0.98
        assert part.best.score == max(r.score for r in found.records if problem.limits.admit(r.costs))
    assert all(one.best.score <= other.best.score for one, other in pairwise(split))
    assert sum(len(part.records) for part in split) >= len(found.records)


def test_budgets_take_turns_and_borrow_from_their_neighbours(problems: list[Problem]) -> None:
    found = search(problems[-1], policy(problems), episodes=60, seed=1)
    of = [next(i for i, problem in enumerate(problems) if problem.limits.admit(r.costs)) for r in found.records]
    assert of[:6] == [0, 1, 2, 0, 1, 2]
    assert {of.count(place) for place in range(3)} == {20}
    assert {"lagrange", "uniform", "magnitude", "refine", "thompson", "neighbour"} == {r.policy for r in found.records}


def test_the_same_seed_gives_the_same_search(problems: list[Problem]) -> None:
    one, other, third = (search(problems[-1], policy(problems), episodes=30, seed=seed) for seed in (4, 4, 5))
    assert one.records == other.records != third.records


def test_together_they_come_close_to_a_search_each(problems: list[Problem]) -> None:
    found = search(problems[-1], policy(problems), episodes=60, seed=1)
    for part, problem in zip(parts(found, [p.limits for p in problems]), problems, strict=True):
        assert part.best.score > search(problem, "refine", episodes=45, seed=1).best.score - 0.01


def test_stopped_after_one_episode_every_budget_has_a_plan(problems: list[Problem]) -> None:
    def stop(record: Record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SearchInterrupted) as stopped:
        search(problems[-1], policy(problems), episodes=30, seed=1, progress=stop)
    assert stopped.value.result is not None
    split = parts(stopped.value.result, [problem.limits for problem in problems])
    assert {part.best for part in split} == {stopped.value.result.best}


def test_the_agent_is_refused(problems: list[Problem]) -> None:
    with pytest.raises(UsageError, match=r"one budget only.*refine"):
        policy(problems, "ddpg")
    with pytest.raises(UsageError, match="unknown search policy"):
        policy(problems, "best")
