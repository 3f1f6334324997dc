"""The search as a whole: what it finds, that it repeats itself, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from amcc.errors import BudgetError, DataError, UsageError, VerificationError
from amcc.ir import Array
from amcc.search import POLICIES, Ddpg, Problem, Random, Record, SearchResult, policy_named, search
from amcc.search.policies import Play, Proposal, trade
from tests.search_problems import Chain

AGENT_ALONE = Ddpg(rules=False, refine=0.0)


def tail(result: SearchResult) -> float:
    return float(np.mean([record.score for record in result.records[-25:]]))


@pytest.mark.parametrize("seed", [0, 3])
def test_the_agent_beats_uniform_and_random_at_equal_evaluations(seed: int) -> None:
    problem = Chain(6, seed=seed).problem("flops=0.5")
    uniform = search(problem, "uniform", episodes=100, seed=seed)
    random = search(problem, Random(), episodes=100, seed=seed)
    agent = search(problem, AGENT_ALONE, episodes=100, seed=seed)
    assert len(uniform.records) == 1
    assert len(random.records) == len(agent.records) == 100
    assert agent.best.score > max(random.best.score, uniform.best.score)
    assert tail(agent) > tail(random) + 0.03


def test_with_misleading_losses_every_stage_adds_to_the_one_before() -> None:
    chain = Chain(8, seed=2)
    wrong = [curve * factor for curve, factor in zip(chain.losses(), 10 ** np.linspace(-1, 1, 8), strict=True)]
    problem = dataclasses.replace(chain.problem("flops=0.5"), losses=wrong)
    result = search(problem, "ddpg", episodes=60, seed=0)
    best = result.by_policy
    assert list(best) == ["lagrange", "uniform", "magnitude", "ddpg", "refine", "thompson"]
    assert result.best in (best["thompson"], best["refine"])
    assert result.best.score > max(best[name].score for name in ("lagrange", "uniform", "magnitude"))


def test_refinement_learns_which_groups_matter() -> None:
    """Losses wrong by factors from 1/10 to 10: the scores lead back to the plan that right losses give."""
    chain = Chain(8, seed=2)
    right = chain.problem("flops=0.5")
    wrong = [curve * factor for curve, factor in zip(chain.losses(), 10 ** np.linspace(-1, 1, 8), strict=True)]
    problem = dataclasses.replace(right, losses=wrong)
    goal = search(right, "lagrange", episodes=1, seed=0).best.score
    start = search(problem, "lagrange", episodes=3, seed=0).best.score
    for known in (None, 1.0):
        found = search(dataclasses.replace(problem, original_score=known), "refine", episodes=40, seed=0)
        assert len(found.records) == 40
        assert found.best.score > start + 0.8 * (goal - start)


def test_without_losses_the_search_ends_with_trades() -> None:
    problem = Chain(6, seed=2).problem("flops=0.5", losses=False)
    best = search(problem, "ddpg", episodes=45, seed=0).by_policy
    assert list(best) == ["uniform", "magnitude", "ddpg", "refine"]
    assert best["refine"].score > best["ddpg"].score


def test_all_that_ran_is_recorded_and_the_best_is_shipped() -> None:
    seen: list[Record] = []
    chain = Chain(5)
    problem = chain.problem("flops=0.5,params=0.6")
    result = search(problem, "ddpg", episodes=24, seed=1, progress=seen.append)
    assert list(result.records) == seen
    assert [record.episode for record in seen] == list(range(24))
    assert [record.policy for record in seen[:6]] == ["lagrange"] * 4 + ["uniform", "magnitude"]
    assert result.best.score == max(record.score for record in seen)
    for record in seen:
        keep = np.array(record.keep)
        assert record.costs == chain.cost(keep)
        assert problem.limits.admit(record.costs)
        assert problem.limits.use(record.costs) > 0.97
        assert record.score == 1.0 - chain.loss(keep)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_same_seed_same_search(name: str) -> None:
    def run(seed: int) -> SearchResult:
        return search(Chain(4).problem("flops=0.4"), name, episodes=16, seed=seed)

    assert run(7) == run(7)
    if name in ("ddpg", "random", "refine"):
        assert run(7).records != run(8).records


def test_a_plan_is_never_scored_twice() -> None:
    chain = Chain(2, width=4)
    result = search(chain.problem("flops=0.5"), "random", episodes=60, seed=0)
    assert len(result.records) == 60
    assert len(chain.scored) == len(set(chain.scored)) == result.evaluations < 60
    assert {record.source for record in result.records} == {"evaluated", "repeated"}


def test_few_episodes_are_enough() -> None:
    problem = Chain(4).problem("flops=0.5")
    assert [r.policy for r in search(problem, "ddpg", episodes=1, seed=0).records] == ["lagrange"]
    assert len(search(problem, "ddpg", episodes=7, seed=0).records) == 7


def test_without_losses_and_magnitudes_ddpg_starts_from_uniform() -> None:
    problem = dataclasses.replace(Chain(4).problem("flops=0.5"), losses=None, magnitudes=None)
    assert [r.policy for r in search(problem, "ddpg", episodes=6, seed=0).records][:2] == ["uniform", "ddpg"]


def test_a_budget_that_asks_for_nothing_costs_one_evaluation() -> None:
    chain = Chain(4)
    result = search(chain.problem("flops=1"), "ddpg", episodes=12, seed=0)
    assert result.best.keep == tuple(chain.sizes)
    assert result.evaluations == len(chain.scored) == 1


def test_a_single_group_can_be_searched() -> None:
    result = search(Chain(1).problem("params=0.5"), "ddpg", episodes=12, seed=0)
    assert result.evaluations == 1
    assert len(result.records) == 12


def test_a_trade_stays_in_the_budget_and_changes_a_few_groups() -> None:
    problem = Chain(12, stage=4).problem("flops=0.5,params=0.5")
    keep = np.array(search(problem, "uniform", episodes=1, seed=0).best.keep)
    random = np.random.default_rng(0)
    changed = []
    for _ in range(40):
        traded = trade(problem, keep, random)
        assert problem.fits(traded)
        changed.append(int((traded != keep).sum()))
    assert 2 <= np.median(changed) <= 6


def test_scores_that_are_no_numbers_are_refused() -> None:
    for bad in (math.nan, math.inf):
        problem = dataclasses.replace(Chain(3).problem("flops=0.5"), score=lambda keep, bad=bad: bad)
        with pytest.raises(DataError, match=f"score of episode 0 is {bad}"):
            search(problem, "uniform", episodes=1, seed=0)


def test_what_cannot_be_searched_is_said() -> None:
    problem = Chain(3).problem("flops=0.5")
    with pytest.raises(UsageError, match=r"unknown search policy 'best' \(the policies are ddpg, uniform"):
        search(problem, "best", episodes=1, seed=0)
    with pytest.raises(UsageError, match="0 episodes"):
        search(problem, "ddpg", episodes=0, seed=0)
    with pytest.raises(UsageError, match="seed -1"):
        search(problem, "ddpg", episodes=1, seed=-1)
    with pytest.raises(UsageError, match="no group"):
        search(dataclasses.replace(problem, groups=[], losses=None, magnitudes=None), "ddpg", episodes=1, seed=0)
    with pytest.raises(BudgetError):
        search(Chain(3).problem("flops=9"), "ddpg", episodes=1, seed=0)
    assert policy_named("ddpg") == Ddpg()


def test_a_policy_that_breaks_the_budget_is_stopped() -> None:
    @dataclasses.dataclass(frozen=True)
    class Greedy:
        name = "greedy"

        def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
            yield Proposal(self.name, problem.full)

    with pytest.raises(VerificationError, match="'greedy' proposed a plan that does not fit"):
        search(Chain(3).problem("flops=0.5"), Greedy(), episodes=1, seed=0)


def test_the_score_may_change_its_argument() -> None:
    def rude(keep: Array) -> float:
        keep[:] = 0
        return 0.5

    problem = dataclasses.replace(Chain(3).problem("flops=0.5"), score=rude)
    assert all(sum(r.keep) > 0 for r in search(problem, "ddpg", episodes=12, seed=0).records)
