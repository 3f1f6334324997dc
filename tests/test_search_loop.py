"""The search as a whole: what it finds, that it repeats itself, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import ClassVar

import numpy as np
import pytest

from amcc.errors import BudgetError, DataError, UsageError, VerificationError
from amcc.ir import Array
from amcc.search import POLICIES, Amc, Ddpg, Problem, Random, Record, SearchResult, policy_named, search
from amcc.search.policies import Play, Proposal, round_size, rounds, trade
from tests.search_problems import Chain

AGENT_ALONE = Ddpg(rules=False, refine=0.0)


def tail(result: SearchResult) -> float:
    return float(np.mean([record.score for record in result.records[-25:]]))


@pytest.mark.parametrize("seed", [3, 5])
def test_the_agent_beats_uniform_and_random_at_equal_evaluations(seed: int) -> None:
    problem = Chain(6, seed=seed).problem("flops=0.5")
    uniform = search(problem, "uniform", episodes=100, seed=seed)
    random = search(problem, Random(), episodes=100, seed=seed)
    agent = search(problem, AGENT_ALONE, episodes=100, seed=seed)
    assert len(uniform.records) == 1
    assert len(random.records) == len(agent.records) == 100
    assert agent.best.score > max(random.best.score, uniform.best.score)
    assert tail(agent) > tail(random) + 0.03


def test_amc_s_agent_proposes_nothing_but_walks_and_learns_after_each() -> None:
    problem = Chain(4, seed=1).problem("flops=0.5")
    rounds = []
    play = Amc().play(problem, episodes=24, seed=np.random.SeedSequence(0))
    plans = next(play)
    while plans:
        rounds.append(plans)
        plans = play.send(tuple(problem.score(plan.keep) for plan in plans)) if len(rounds) < 24 else ()
    play.close()
    assert [len(plans) for plans in rounds] == [1] * 24
    assert {plan.policy for plans in rounds for plan in plans} == {"amc"}
    used = [problem.limits.use(problem.cost(plan.keep)) for plans in rounds for plan in plans]
    assert max(used) <= 1 and min(used) < 0.97  # walks as they are, not filled up


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


@pytest.mark.parametrize("budget", ["flops=0.5,params=0.6", "memory=0.5,flops=0.6"])
def test_all_that_ran_is_recorded_and_the_best_is_shipped(budget: str) -> None:
    seen: list[Record] = []
    chain = Chain(5)
    problem = chain.problem(budget)
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
    if name in ("ddpg", "random", "refine", "evolutionary", "amc"):
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
    with pytest.raises(UsageError, match=r"unknown search policy 'best' \(the policies are refine, ddpg, "):
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


@dataclasses.dataclass(frozen=True)
class Listener:
    """Yields the rounds that it is given and writes down what it is sent."""

    plans: tuple[tuple[tuple[int, ...], ...], ...]
    name: ClassVar[str] = "listener"
    sent: ClassVar[list[tuple[float, ...]]] = []

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        self.sent.clear()
        for keeps in self.plans:
            self.sent.append((yield tuple(Proposal(self.name, np.array(keep)) for keep in keeps)))


ROUNDS = (((9, 9), (8, 8), (9, 9)), ((7, 7), (8, 8)), ((6, 6), (5, 5), (4, 4)))


def test_a_round_is_scored_together_and_sent_back_in_its_order() -> None:
    asked: list[list[int]] = []

    def together(keeps: Sequence[Array]) -> Generator[float, None, None]:
        asked.append([int(keep[0]) for keep in keeps])
        yield from [int(keep[0]) / 100 for keep in keeps]

    problem = Chain(2).problem("flops=0.9")
    result = search(problem, Listener(ROUNDS), episodes=20, seed=0, scores_of=together)
    assert asked == [[9, 8], [7], [6, 5, 4]]
    assert Listener.sent == [(0.09, 0.08, 0.09), (0.07, 0.08), (0.06, 0.05, 0.04)]
    assert [r.score for r in result.records] == [score for scores in Listener.sent for score in scores]
    assert [r.episode for r in result.records if r.source == "repeated"] == [2, 4]


@pytest.mark.parametrize("episodes", [1, 3, 5, 6, 8])
def test_the_last_round_is_cut_to_the_episodes_left(episodes: int) -> None:
    chain = Chain(2)
    result = search(chain.problem("flops=0.9"), Listener(ROUNDS), episodes=episodes, seed=0)
    everything = [keep for keeps in ROUNDS for keep in keeps]
    assert [r.keep for r in result.records] == everything[:episodes]
    assert len(chain.scored) == len(set(everything[:episodes]))
    assert sum(map(len, Listener.sent)) <= episodes


def test_a_policy_by_scores_has_some_rounds_however_few_its_episodes() -> None:
    assert [round_size(n) for n in (1, 29, 30, 59, 60, 119, 120, 10_000)] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert [list(r) for r in rounds(5, 2)] == [[0, 1], [2, 3], [4]]
    assert not list(rounds(0, 2)) and not list(rounds(-3, 2))


def test_a_policy_that_breaks_the_budget_is_stopped() -> None:
    @dataclasses.dataclass(frozen=True)
    class Greedy:
        name = "greedy"

        def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
            yield Proposal(self.name, problem.smallest), Proposal(self.name, problem.full)

    with pytest.raises(VerificationError, match="'greedy' proposed a plan that does not fit"):
        search(Chain(3).problem("flops=0.5"), Greedy(), episodes=2, seed=0)


def test_the_score_may_change_its_argument() -> None:
    def rude(keep: Array) -> float:
        keep[:] = 0
        return 0.5

    problem = dataclasses.replace(Chain(3).problem("flops=0.5"), score=rude)
    assert all(sum(r.keep) > 0 for r in search(problem, "ddpg", episodes=12, seed=0).records)
