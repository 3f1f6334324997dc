"""The policies: each proposes plans one after another and hears how they score.

A policy plays a generator: it yields a `Proposal` and is sent its score. The first lines of
`Ddpg.play` are the whole search; a rule is a generator that yields once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from math import floor
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from amcc.errors import UsageError
from amcc.ir import Array
from amcc.search import rules
from amcc.search.environment import FEATURES, Environment
from amcc.search.fit import bisect_widths, fill, fit, nearest
from amcc.search.problem import Problem


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
    """Least total layer-wise loss by one Lagrange multiplier, once for each scaling of the losses."""

    name: ClassVar[str] = "lagrange"
    scalings: tuple[rules.Scaling, ...] = ("raw", "root", "relative")

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose one plan a scaling."""
        for scaling in self.scalings:
            yield Proposal(self.name, rules.lagrange(problem, scaling))


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
class Ddpg:
    """AMC's agent, after the rules and before a local refinement of the best plan.

    Attributes:
        rules: the first episodes are the rules' plans, and the agent learns from them.
        warmup: random episodes before the agent acts, at most a quarter of all.
        perturb: share of the warm-up that disturbs the best plan so far instead of drawing anew.
        spread: deviation of that disturbance, in sparsity.
        sigma: exploration noise of the first episode after the warm-up.
        decay: factor on the noise from one episode to the next.
        refine: share of all episodes that goes, at the end, to trades around the best plan found.
    """

    name: ClassVar[str] = "ddpg"
    rules: bool = True
    warmup: int = 100
    perturb: float = 0.5
    spread: float = 0.1
    sigma: float = 0.5
    decay: float = 0.95
    refine: float = 1 / 3

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose the rules' plans, random ones, the agent's, and trades around the best."""
        from amcc.search.agent import Agent

        environment = Environment(problem)
        of_agent, of_warmup, of_refine = seed.spawn(3)
        agent = Agent(FEATURES, environment.steps, of_agent)
        random = np.random.default_rng(of_warmup)
        best, best_score, played = problem.smallest, -np.inf, 0

        def told(keep: Array, score: float) -> None:
            nonlocal best, best_score, played
            played += 1
            agent.remember(*environment.trace(keep), score)
            if score > best_score:
                best, best_score = keep, score

        for rule in self._rules(problem):
            for proposal in rule.play(problem, episodes=episodes, seed=seed):
                told(proposal.keep, (yield proposal))

        for episode in range(min(self.warmup, episodes // 4)):
            near = played > 0 and floor((episode + 1) * self.perturb) > floor(episode * self.perturb)
            if near:
                keep = fit(problem, disturbed(problem, best, self.spread, random))
            else:
                keep = fit(problem, environment.walk(lambda state: random.random()))
            told(keep, (yield Proposal(self.name, keep)))

        noise, last = self.sigma, episodes - int(episodes * self.refine)
        while played < last:
            keep = fit(problem, environment.walk(partial(agent.act, noise=noise)))
            told(keep, (yield Proposal(self.name, keep)))
            agent.learn()
            noise *= self.decay

        yield from refine(problem, best, best_score, episodes - played, np.random.default_rng(of_refine))

    def _rules(self, problem: Problem) -> list[Policy]:
        if not self.rules:
            return []
        found: list[Policy] = [Lagrange()] if problem.losses is not None else []
        found.append(Uniform())
        return [*found, Magnitude()] if problem.magnitudes is not None else found


def disturbed(problem: Problem, keep: Array, spread: float, random: np.random.Generator) -> Array:
    """Widths wanted (float [groups]) around a plan: every sparsity moved by truncated normal noise."""
    from amcc.search.agent import truncated_normal

    sparsity = [truncated_normal(1.0 - float(share), spread, random) for share in keep / problem.full]
    return (1.0 - np.array(sparsity)) * problem.full


def refine(problem: Problem, best: Array, best_score: float, episodes: int, random: np.random.Generator) -> Play:
    """Trade width between two groups of the best plan; a better plan becomes the one to trade from."""
    for _ in range(episodes):
        keep = trade(problem, best, random)
        score = yield Proposal("refine", keep)
        if score > best_score:
            best, best_score = keep, score


def trade(problem: Problem, keep: Array, random: np.random.Generator) -> Array:
    """One group a little wider, another as much narrower as the limits then ask, the rest filled up."""
    movable = np.flatnonzero(problem.full > problem.smallest)
    if len(movable) < 2:
        return keep
    for _ in range(32):
        up, down = (int(g) for g in random.choice(movable, size=2, replace=False))
        room, slack = problem.full[up] - keep[up], keep[down] - problem.smallest[down]
        step = random.random()
        if room == 0 or slack == 0:
            continue
        wanted = keep.astype(np.float64)
        wanted[up] = min(keep[up] + max(0.25 * step * problem.full[up], 1), problem.full[up])
        tried = problem.down(wanted)
        if tried[up] == keep[up]:
            tried[up] = problem.wider(up, int(keep[up]))
        place = int(problem.widths[down].searchsorted(keep[down])) - 1
        widest = bisect_widths(problem, tried, down, place)
        if widest is not None:
            tried[down] = widest
            return fill(problem, tried, nearest(problem, wanted))
    return keep


POLICIES: Mapping[str, Callable[[], Policy]] = {
    policy.name: policy for policy in (Ddpg, Uniform, Magnitude, Lagrange, Random)
}


def policy_named(name: str) -> Policy:
    """The policy of this name, with its default options.

    Raises:
        UsageError: there is none; lists the names.
    """
    if name not in POLICIES:
        raise UsageError(f"unknown search policy '{name}'", hint=f"the policies are {', '.join(POLICIES)}")
    return POLICIES[name]()
