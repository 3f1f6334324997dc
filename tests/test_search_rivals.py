"""The rival policies: slopes, greedy narrowing, evolution; and what all policies share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.budget import Costs, Limits
from amcc.errors import VerificationError
from amcc.ir import Array
from amcc.search import (
    POLICIES,
    RULES,
    SEARCHES,
    Evolutionary,
    Greedy,
    GroupInfo,
    Problem,
    Record,
    SearchInterrupted,
    rules,
    search,
)
from amcc.search.policies import Play, Proposal
from tests.search_problems import Chain, problems


@settings(max_examples=60, deadline=None)
@given(problem=problems(), name=st.sampled_from(sorted({*POLICIES} - {"ddpg", "amc"})), episodes=st.integers(1, 24))
def test_every_policy_proposes_plans_that_fit_or_probes(problem: Problem, name: str, episodes: int) -> None:
    found = search(problem, name, episodes=episodes, seed=3)
    assert 0 < len(found.records) <= episodes
    for record in found.records:
        assert record.probe != problem.limits.admit(record.costs)
        assert not record.probe or name == "greedy"
    assert problem.limits.admit(found.best.costs)
    assert found.best.score == max(record.score for record in found.fitting)


@settings(max_examples=40, deadline=None)
@given(problem=problems(), steepness=st.floats(-1.0, 1.0))
def test_slopes_fit_without_a_step_to_spare(problem: Problem, steepness: float) -> None:
    keep = rules.sloped(problem, steepness)
    assert problem.fits(keep)
    for group, width in enumerate(keep):
        step = keep.copy()
        step[group] = problem.wider(group, int(width)) or width
        assert step[group] == width or not problem.fits(step)


@pytest.mark.parametrize("budget", ["flops=0.5", "params=0.3"])
def test_shallow_and_deep_are_each_other_s_mirror_around_uniform(budget: str) -> None:
    problem = Chain(9, width=64, stage=3).problem(budget)
    slopes = []
    for name in ("shallow", "deep"):
        for record in search(problem, name, episodes=4, seed=0).records:
            share = np.array(record.keep) / problem.full
            slopes.append(float(np.polyfit(np.arange(9), share, 1)[0]))
    assert 0 < slopes[0] < slopes[1] < slopes[2] < slopes[3]
    assert 0 > slopes[4] > slopes[5] > slopes[6] > slopes[7]
    assert rules.sloped(problem, 0.0).tolist() == rules.uniform(problem).tolist()


def separable(groups: int = 6, units: int = 24, *, seed: int = 0, losses: bool = True) -> tuple[Problem, float]:
    """Costs that add up and losses that grow ever faster; and the least loss of any plan that fits, by one price."""
    random = np.random.default_rng(seed)
    price, weight = random.integers(1, 6, groups), random.uniform(0.2, 3.0, groups)
    curves = [w * (np.arange(units + 1) / units) ** 2 for w in weight]
    whole, limit = int(price.sum()) * units, int(price.sum()) * units // 2

    def loss(keep: Array) -> float:
        return float(sum(curve[units - k] for curve, k in zip(curves, keep, strict=True)))

    problem = Problem(
        groups=[GroupInfo(i, f"g{i}", units) for i in range(groups)],
        limits=Limits(flops=limit),
        cost=lambda keep: Costs(int(price @ keep), 0, 0),
        score=lambda keep: 1.0 - loss(keep),
        losses=curves if losses else None,
    )
    keep, spent = np.full(groups, units), whole
    while spent > limit:
        ratio = [(curves[g][units - keep[g] + 1] - curves[g][units - keep[g]]) / price[g] for g in range(groups)]
        group = int(np.argmin([r if keep[g] > 1 else np.inf for g, r in enumerate(ratio)]))
        keep[group] -= 1
        spent -= price[group]
    return problem, loss(keep)


@pytest.mark.parametrize("losses", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_narrowing_finds_the_optimum_of_separable_problems(seed: int, losses: bool) -> None:
    problem, least = separable(seed=seed, losses=losses)
    found = search(problem, "greedy", episodes=240, seed=0)
    assert 180 < len(found.records) <= 240
    assert 1.0 - found.best.score <= 1.02 * least
    few = search(problem, "greedy", episodes=36, seed=0)
    assert len(few.records) <= 36
    assert 1.0 - few.best.score <= 1.1 * least if losses else few.best.score <= found.best.score


def test_greedy_narrowing_is_netadapt_s_walk() -> None:
    """A group narrower in each plan of a round, the best of them the start of the next; all but the last ones probe."""
    problem = Chain(6, width=32, seed=4).problem("flops=0.5")
    rounds: list[tuple[list[Proposal], list[float]]] = []
    play = Greedy().play(problem, episodes=96, seed=np.random.SeedSequence(0))
    plans = next(play)
    while plans:
        scores = [problem.score(proposal.keep) for proposal in plans]
        rounds.append((list(plans), scores))
        try:
            plans = play.send(tuple(scores))
        except StopIteration:
            break
    assert sum(len(plans) for plans, _ in rounds) <= 96
    start = problem.full
    for place, (plans, scores) in enumerate(rounds):
        last = place == len(rounds) - 1
        assert len(plans) == 6  # episodes for all groups at each of 16 steps
        for proposal in plans:
            assert proposal.probe != last and problem.fits(proposal.keep) == last
            assert last or ((proposal.keep != start).sum() == 1 and (proposal.keep <= start).all())
        start = plans[int(np.argmax(scores))].keep


def test_a_probe_is_recorded_as_one_and_never_shipped(tmp_path: Path) -> None:
    problem = Chain(5, seed=2).problem("flops=0.4")
    journal = tmp_path / "j"
    found = search(problem, "greedy", episodes=50, seed=0, journal=journal)
    probes = [record for record in found.records if record.probe]
    assert probes and max(record.score for record in probes) > found.best.score
    assert found.by_policy == {"greedy": found.best}
    lines = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert [line.get("probe", False) for line in lines] == [record.probe for record in found.records]


def test_who_does_not_say_that_a_plan_is_a_probe_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Careless:
        name = "careless"

        def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
            yield (Proposal("careless", problem.full),)

    with pytest.raises(VerificationError, match="does not fit"):
        search(Chain(3).problem("flops=0.5"), Careless(), episodes=3, seed=0)


def test_interrupted_before_anything_fits_there_is_nothing_to_ship() -> None:
    def stop(record: Record) -> None:
        if record.episode == 20:
            raise KeyboardInterrupt

    with pytest.raises(SearchInterrupted, match="after 21 episodes") as caught:
        search(Chain(5).problem("flops=0.4"), "greedy", episodes=50, seed=0, progress=stop)
    assert caught.value.result is None


def test_without_a_budget_to_meet_greedy_keeps_all() -> None:
    found = search(Chain(4).problem("flops=1"), "greedy", episodes=50, seed=0)
    assert [record.keep for record in found.records] == [tuple(Chain(4).sizes)]


def mean_best(policies: Sequence[object], groups: int, episodes: int) -> list[float]:
    """Of each policy, over problems whose losses are wrong by factors of up to ten."""
    means = []
    for policy in policies:
        best = []
        for seed in range(3):
            chain = Chain(groups, seed=seed)
            wrong = [c * f for c, f in zip(chain.losses(), 10 ** np.linspace(-1, 1, groups), strict=True)]
            problem = dataclasses.replace(chain.problem("flops=0.5"), losses=wrong)
            best.append(search(problem, policy, episodes=episodes, seed=seed).best.score)  # type: ignore[arg-type]
        means.append(float(np.mean(best)))
    return means


def test_evolution_beats_chance_and_the_rules_that_it_starts_from() -> None:
    random, blind, evolved, rule = mean_best(["random", Evolutionary(rules=False), "evolutionary", "lagrange"], 10, 120)
    assert blind > random
    assert evolved > max(rule, blind)


def test_evolution_uses_all_episodes_and_rarely_repeats_a_plan() -> None:
    found = search(Chain(8, seed=1).problem("flops=0.5"), "evolutionary", episodes=90, seed=0)
    assert len(found.records) == 90
    assert found.evaluations >= 85
    assert {record.policy for record in found.records} == {"lagrange", "uniform", "magnitude", "evolutionary"}


@pytest.mark.parametrize("name", ["greedy", "evolutionary", "shallow"])
def test_a_journal_cut_anywhere_ends_the_same(name: str, tmp_path: Path) -> None:
    problem = Chain(5, seed=3).problem("flops=0.5")
    whole = search(problem, name, episodes=40, seed=5, journal=tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for cut in np.linspace(0, len(data), 7).astype(int):
        path = tmp_path / f"cut-{cut}"
        path.write_bytes(data[:cut])
        assert search(problem, name, episodes=40, seed=5, journal=path) == whole
        assert path.read_bytes() == data


def test_rules_and_searches_are_all_policies() -> None:
    assert {*RULES, *SEARCHES} == {*POLICIES}
    assert not {*RULES} & {*SEARCHES}
