"""Evaluations that stop once a plan cannot win: what is reported is never an estimate."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.data import Dataset
from amcc.ir import Array
from amcc.metric import Evaluator
from amcc.search import Problem, search
from amcc.search.loop import SearchInterrupted
from amcc.search.multi_budget import MultiBudget, parts
from amcc.search.problem import Challenge
from tests.search_problems import Chain
from tests.tiny_models import graph, samples


class Coarse:
    """Gives plans that cannot win a score below their own, and notes which."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.stopped: set[tuple[int, ...]] = set()
        self.asked = 0

    def __call__(self, plans: Sequence[Array | Challenge]) -> Generator[float, None, None]:
        for plan in plans:
            self.asked += 1
            keep, least = plan if isinstance(plan, Challenge) else (plan, -np.inf)
            score = self.problem.score(keep)
            if score < least:
                self.stopped.add(tuple(keep.tolist()))
                score -= 0.1 * (least - score)
            yield score


@pytest.mark.parametrize("policy", ["refine", "random", "evolutionary"])
@pytest.mark.parametrize("seed", range(2))
def test_no_best_is_an_estimate(policy: str, seed: int) -> None:
    problem = Chain(5, seed=seed).problem("flops=0.5")
    coarse = Coarse(problem)
    found = search(problem, policy, episodes=40, seed=seed, scores_of=coarse, stop_early=True)
    assert coarse.stopped
    for best in (found.best, *found.by_policy.values()):
        assert best.score == problem.score(np.array(best.keep))


@pytest.mark.parametrize("seed", range(3))
def test_no_best_of_any_of_several_budgets_is_an_estimate(seed: int) -> None:
    chain = Chain(5, seed=seed)
    problems = [chain.problem(f"flops={share}") for share in (0.3, 0.5, 0.7)]
    turns = MultiBudget(tuple(problem.limits for problem in problems))
    coarse = Coarse(problems[-1])
    found = search(problems[-1], turns, episodes=60, seed=seed, scores_of=coarse, stop_early=True, rung_of=turns.rung)
    assert coarse.stopped
    for part, problem in zip(parts(found, turns.limits), problems, strict=True):
        for best in (part.best, *part.by_policy.values()):
            assert best.score == problem.score(np.array(best.keep))


def test_a_stopped_search_goes_on_to_the_same_journal(tmp_path: Path) -> None:
    """Wherever it stops, also within a round: what a plan had to beat is what it was before the round."""
    problem = Chain(6, seed=1).problem("flops=0.5")

    def run(path: Path, most: int | None = None) -> bytes:
        coarse = Coarse(problem)

        def some(plans: Sequence[Array | Challenge]) -> Generator[float, None, None]:
            for score in coarse(plans):
                if most is not None and coarse.asked > most:
                    raise KeyboardInterrupt
                yield score

        with nullcontext() if most is None else pytest.raises(SearchInterrupted):
            search(problem, "refine", episodes=40, seed=3, journal=path, scores_of=some, stop_early=True)
        return path.read_bytes()

    whole = run(tmp_path / "whole.jsonl")
    for most in range(1, 20, 4):
        path = tmp_path / f"{most}.jsonl"
        assert whole.startswith(run(path, most))
        assert run(path) == whole


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), st.integers(0, 5))
def test_top1_stops_only_below(percent: int, seed: int) -> None:
    """Above what it must reach a score is exact; below, no more than that, from some of the samples."""
    made = samples(150, seed=seed)
    network = graph()
    labels = np.random.default_rng(seed).permutation(made["label"])
    evaluator = Evaluator(network, Dataset({"input": made["input"]}, labels, "made up", ""), "top1", threads=1)
    exact, least = evaluator.score(network), percent / 100
    found = evaluator.score(network, least)
    assert found == exact if exact >= least else found < least
