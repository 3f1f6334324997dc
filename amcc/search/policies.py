"""The policies: each proposes plans, some at a time, and hears how they score.

A policy plays a generator: it yields a *round*, one or more plans proposed before any of their scores is
known, and is sent their scores in the same order. The plans of a round may be scored side by side; how
many there are is for the policy alone to say, so that nothing depends on how many workers score them. A
rule yields one round; the agent, in `amcc.search.ddpg`, goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
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

ROUND, LEAST_ROUNDS = 8, 15
"""Plans of a round where nothing speaks for fewer; and rounds that a search by scores has at least."""
STEEPNESS = (0.25, 0.5, 0.75, 1.0)
"""Of the rules that slope with depth."""
SPREAD = 0.1
"""Deviation of the noise, in sparsity, that disturbs a plan."""


class Proposal(NamedTuple):
    """A plan to evaluate.

    Attributes:
        policy: who found it.
        probe: it may be too large, and is then scored for what it tells and never shipped.
    """

    policy: str
    keep: Array
    probe: bool = False


Round = tuple[Proposal, ...]
Scores = tuple[float, ...]
Play = Generator[Round, Scores, None]


class Policy(Protocol):
    """A dataclass of options with a name.

    `play` may stop early. Of a round that goes beyond `episodes` only the first plans are scored, and the
    search ends with them; so no policy is sent more than `episodes` scores.
    """

    name: ClassVar[str]

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose rounds of plans that fit; the same problem, episodes, seed and scores give the same rounds."""
        ...


@dataclass(slots=True)
class History:
    """The plans scored so far, in order.

    Attributes:
        others: plans scored for a looser budget, which do not fit this one.
    """

    past: list[tuple[Array, float]] = field(default_factory=list)
    others: list[tuple[Array, float]] = field(default_factory=list)

    def hear(self, plans: Round, scores: Scores) -> None:
        """Remember a round."""
        self.past += [(proposal.keep, score) for proposal, score in zip(plans, scores, strict=True)]

    @property
    def best(self) -> tuple[Array, float]:
        """The first plan of the highest score, and its score; there must be one."""
        return max(self.past, key=lambda entry: entry[1])


def heard(play: Play, listen: Callable[[Round, Scores], None]) -> Play:
    """The same play, telling `listen` of every round and its scores."""
    try:
        plans = next(play)
        while True:
            scores = yield plans
            listen(plans, scores)
            plans = play.send(scores)
    except StopIteration:
        return


@dataclass(frozen=True, slots=True)
class Uniform:
    """One ratio for every group."""

    name: ClassVar[str] = "uniform"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan."""
        yield (Proposal(self.name, rules.uniform(problem)),)


@dataclass(frozen=True, slots=True)
class Shallow:
    """Shallow layers cut most, once for each steepness; see `rules.sloped`."""

    name: ClassVar[str] = "shallow"
    steepness: tuple[float, ...] = STEEPNESS

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan a steepness."""
        yield tuple(Proposal(self.name, rules.sloped(problem, steepness)) for steepness in self.steepness)


@dataclass(frozen=True, slots=True)
class Deep:
    """Deep layers cut most, once for each steepness; see `rules.sloped`."""

    name: ClassVar[str] = "deep"
    steepness: tuple[float, ...] = STEEPNESS

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan a steepness."""
        yield tuple(Proposal(self.name, rules.sloped(problem, -steepness)) for steepness in self.steepness)


@dataclass(frozen=True, slots=True)
class Magnitude:
    """One threshold on the magnitude of all units."""

    name: ClassVar[str] = "magnitude"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan."""
        yield (Proposal(self.name, rules.magnitude(problem)),)


@dataclass(frozen=True, slots=True)
class Lagrange:
    """Least total layer-wise loss by one Lagrange multiplier, once for each evenness."""

    name: ClassVar[str] = "lagrange"
    evenness: tuple[float, ...] = (0.1, 0.2, 0.4, 0.0)

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan an evenness."""
        yield tuple(Proposal(self.name, lagrange(problem, evenness)) for evenness in self.evenness)


@dataclass(frozen=True, slots=True)
class Random:
    """Sparsities drawn evenly from [0, 1): the baseline for equal numbers of evaluations."""

    name: ClassVar[str] = "random"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one random walk an episode."""
        random, environment = np.random.default_rng(seed), Environment(problem)
        for turns in rounds(episodes, ROUND):
            walks = (environment.walk(lambda state, step: random.random()) for _ in turns)
            yield tuple(Proposal(self.name, fit(problem, walk)) for walk in walks)


@dataclass(frozen=True, slots=True)
class Refine:
    """The rules, then plans refined by their scores: what the default does without its agent."""

    name: ClassVar[str] = "refine"

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose the rules' plans and as many refined ones as there are episodes."""
        history = History()
        yield from heard(opening(problem), history.hear)
        yield from refined(problem, history, episodes, np.random.default_rng(seed), round_size(episodes))


def round_size(episodes: int) -> int:
    """Plans of a round where scores lead to the next one: a power of two, fewer where episodes are few."""
    return 1 << min(ROUND, max(1, episodes // LEAST_ROUNDS)).bit_length() - 1


def rounds(episodes: int, size: int) -> Iterator[range]:
    """The turns of each round, counted on; the last one is cut to what is left."""
    for first in range(0, episodes, size):
        yield range(first, min(first + size, episodes))


def opening(problem: Problem) -> Play:
    """Propose the plans of every rule that has what it needs, in one round."""
    rules_: list[Policy] = [Lagrange()] if problem.losses is not None else []
    rules_ += [Uniform(), Magnitude()] if problem.magnitudes is not None else [Uniform()]
    plays = (rule.play(problem, episodes=ROUND, seed=np.random.SeedSequence(0)) for rule in rules_)
    yield tuple(proposal for play in plays for proposal in next(play))


def refined(problem: Problem, history: History, episodes: int, random: np.random.Generator, size: int) -> Play:
    """Propose what the scores so far suggest, `size` plans a round."""
    for turns in rounds(episodes, size):
        plans = tuple(suggested(problem, history, turn, random) for turn in turns)
        history.hear(plans, (yield plans))


def suggested(problem: Problem, history: History, turn: int, random: np.random.Generator) -> Proposal:
    """What the scores so far suggest, by turns.

    All sparsities of the best plan disturbed; a trade of width between two of its groups; and,
    where there are losses to learn weights for, a plan by Thompson sampling.
    """
    way = turn % (2 if problem.losses is None else 3)
    if way == 0:
        return Proposal("refine", fit(problem, disturbed(problem, history.best[0], SPREAD, random)))
    if way == 1:
        return Proposal("refine", trade(problem, history.best[0], random))
    return Proposal("thompson", thompson(problem, history.past, random, history.others))


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
