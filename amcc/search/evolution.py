"""Evolutionary search: tournaments among the plans so far, crossover, mutation, and repair by exact fitting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from amcc.ir import Array
from amcc.search.environment import Environment
from amcc.search.fit import fit
from amcc.search.noise import disturbed
from amcc.search.policies import SPREAD, History, Play, Proposal, heard, opening, round_size, rounds
from amcc.search.problem import Problem

_TRIES = 8
"""A child that was scored before is mutated again, so many times at most."""


@dataclass(frozen=True, slots=True)
class Evolutionary:
    """The best plans so far are parents of the next; nothing is assumed of losses once the rules have spoken.

    Attributes:
        rules: the first plans are the rules'; without them, random walks.
        population: plans that may be parents, the best of all so far.
        tournament: plans drawn for a parent, of which the best is taken.
        crossover: probability that a child has two parents, each group's sparsity from either.
        mutation: probability that a group of a child is disturbed; one group is at least.
        spread: deviation of that disturbance, in sparsity.
    """

    name: ClassVar[str] = "evolutionary"
    rules: bool = True
    population: int = 16
    tournament: int = 3
    crossover: float = 0.5
    mutation: float = 0.25
    spread: float = SPREAD

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose a first generation, then a round of children at a time."""
        random, history, size = np.random.default_rng(seed), History(), round_size(episodes)
        environment = Environment(problem)
        if self.rules:
            yield from heard(opening(problem), history.hear)
        for turns in rounds(self.population - len(history.past), size):
            if self.rules:
                wanted = [disturbed(problem, history.best[0], self.spread, random) for _ in turns]
            else:
                wanted = [environment.walk(lambda state, step: random.random()) for _ in turns]
            plans = tuple(Proposal(self.name, fit(problem, one)) for one in wanted)
            history.hear(plans, (yield plans))
        for turns in rounds(episodes, size):
            known = {tuple(keep.tolist()): (keep, score) for keep, score in history.past}
            parents = sorted(known.values(), key=lambda entry: -entry[1])[: self.population]
            children: list[Array] = []
            for _ in turns:
                child = self._child(problem, parents, set(known), random)
                known[tuple(child.tolist())] = (child, 0.0)
                children.append(child)
            plans = tuple(Proposal(self.name, child) for child in children)
            history.hear(plans, (yield plans))

    def _child(
        self,
        problem: Problem,
        parents: list[tuple[Array, float]],
        known: set[tuple[int, ...]],
        random: np.random.Generator,
    ) -> Array:
        """A plan that fits and, if one is soon found, was not scored before."""
        groups = len(problem.full)

        def parent() -> Array:  # the list is sorted, so the first of those drawn is the best
            return parents[int(random.integers(len(parents), size=self.tournament).min())][0]

        child = parent()
        if random.random() < self.crossover:
            child = np.where(random.random(groups) < 0.5, child, parent())
        for _ in range(_TRIES):
            hit = random.random(groups) < self.mutation
            hit[random.integers(groups)] = True
            child = fit(problem, np.where(hit, disturbed(problem, child, self.spread, random), child))
            if tuple(child.tolist()) not in known:
                break
        return child
