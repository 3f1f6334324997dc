"""The policies: each proposes plans one after another and hears how they score.

A policy plays a generator: it yields a `Proposal` and is sent its score. A rule is a generator that
yields once; the agent, in `amcc.search.ddpg`, is one that goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from amcc.ir import Array
from amcc.search import rules
from amcc.search.environment import Environment
from amcc.search.fit import bisect_widths, fill, fit, nearest
from amcc.search.lagrange import lagrange
from amcc.search.noise import disturbed
from amcc.search.problem import Problem
from amcc.search.thompson import thompson

SPREAD = 0.1
"""Deviation of the noise, in sparsity, that disturbs a plan."""


class Proposal(NamedTuple):
    """A plan to evaluate, and the name of the policy that found it."""

    policy: str
    keep: Array


Play = Generator[Proposal, float, None]


class Policy(Protocol):
    """A dataclass of options with a name; `play` may stop early, and is never sent more than `episodes` scores."""

    name: ClassVar[str]

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose plans that fit; the same problem, episodes, seed and scores give the same proposals."""
        ...


@dataclass(slots=True)
class History:
    """The plans scored so far, in order.

    Attributes:
        others: plans scored for a looser budget, which do not fit this one.
    """

    past: list[tuple[Array, float]] = field(default_factory=list)
    others: list[tuple[Array, float]] = field(default_factory=list)

    def add(self, keep: Array, score: float) -> None:
        """Remember one more."""
        self.past.append((keep, score))

    @property
    def best(self) -> tuple[Array, float]:
        """The first plan of the highest score, and its score; there must be one."""
        return max(self.past, key=lambda entry: entry[1])


def heard(play: Play, listen: Callable[[Array, float], None]) -> Play:
    """The same play, telling `listen` of every plan and its score."""
    try:
        proposal = next(play)
        while True:
            score = yield proposal
            listen(proposal.keep, score)
            proposal = play.send(score)
    except StopIteration:
        return


@dataclass(frozen=True, slots=True)
class Uniform:
    """One ratio for every group."""

    name: ClassVar[str] = "uniform"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan."""
        yield Proposal(self.name, rules.uniform(problem))


@dataclass(frozen=True, slots=True)
class Magnitude:
    """One threshold on the magnitude of all units."""

    name: ClassVar[str] = "magnitude"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan."""
        yield Proposal(self.name, rules.magnitude(problem))


@dataclass(frozen=True, slots=True)
class Lagrange:
    """Least total layer-wise loss by one Lagrange multiplier, once for each evenness."""

    name: ClassVar[str] = "lagrange"
    evenness: tuple[float, ...] = (0.1, 0.2, 0.4, 0.0)

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan an evenness."""
        for evenness in self.evenness:
            yield Proposal(self.name, lagrange(problem, evenness))


@dataclass(frozen=True, slots=True)
class Random:
    """Sparsities drawn evenly from [0, 1): the baseline for equal numbers of evaluations."""

    name: ClassVar[str] = "random"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one random walk an episode."""
        random, environment = np.random.default_rng(seed), Environment(problem)
        for _ in range(episodes):
            yield Proposal(self.name, fit(problem, environment.walk(lambda state: random.random())))


@dataclass(frozen=True, slots=True)
class Refine:
    """The rules, then plans refined by their scores: what the default does without its agent."""

    name: ClassVar[str] = "refine"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose the rules' plans and as many refined ones as there are episodes."""
        history = History()
        yield from heard(opening(problem), history.add)
        yield from refined(problem, history, episodes, np.random.default_rng(seed))


def opening(problem: Problem) -> Play:
    """Propose the plans of every rule that has what it needs."""
    rules_: list[Policy] = [Lagrange()] if problem.losses is not None else []
    rules_ += [Uniform(), Magnitude()] if problem.magnitudes is not None else [Uniform()]
    for rule in rules_:
        yield from rule.play(problem, episodes=1, seed=np.random.SeedSequence(0))


def refined(problem: Problem, history: History, episodes: int, random: np.random.Generator) -> Play:
    """Propose what the scores so far suggest, by turns.

    All sparsities of the best plan disturbed; a trade of width between two of its groups; and,
    where there are losses to learn weights for, a plan by Thompson sampling.
    """
    turns = 2 if problem.losses is None else 3
    for episode in range(episodes):
        if episode % turns == 0:
            keep = fit(problem, disturbed(problem, history.best[0], SPREAD, random))
        elif episode % turns == 1:
            keep = trade(problem, history.best[0], random)
        else:
            keep = thompson(problem, history.past, random, history.others)
        history.add(keep, (yield Proposal("thompson" if episode % turns == 2 else "refine", keep)))


def trade(problem: Problem, keep: Array, random: np.random.Generator) -> Array:
    """One group up to a quarter wider, another as much narrower as the limits then ask, the rest filled up."""
    movable = np.flatnonzero(problem.full > problem.smallest)
    for _ in range(32 if len(movable) > 1 else 0):
        up, down = (int(g) for g in random.choice(movable, size=2, replace=False))
        share = random.random() / 4
        wider = problem.wider(up, int(keep[up]))
        if wider is None or keep[down] == problem.smallest[down]:
            continue
        wanted = keep.astype(np.float64)
        wanted[up] = min(max(keep[up] + share * problem.full[up], wider), problem.full[up])
        tried = problem.down(wanted)
        place = int(problem.widths[down].searchsorted(keep[down])) - 1
        widest = bisect_widths(problem, tried, down, place)
        if widest is not None:
            tried[down] = widest
            return fill(problem, tried, nearest(problem, wanted))
    return keep
