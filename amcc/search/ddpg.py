"""AMC's agent (arXiv 1802.03494), after the rules and before a refinement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import floor
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from amcc.ir import Array
from amcc.search.environment import FEATURES, Environment
from amcc.search.fit import fit
from amcc.search.hyperparameters import PAPER, USUAL, Hyperparameters
from amcc.search.noise import disturbed
from amcc.search.policies import (
    SPREAD,
    History,
    Play,
    Proposal,
    Round,
    Scores,
    heard,
    opening,
    refined,
    round_size,
    rounds,
)
from amcc.search.problem import Problem

if TYPE_CHECKING:
    from amcc.search.agent import Agent


@dataclass(frozen=True, slots=True)
class Ddpg:
    """Rules, warm-up, agent, refinement; every plan scored is also the agent's experience.

    The agent plays a round of episodes as it is, then learns for as many. `docs/search.md` lists each departure from
    the paper with what it is worth; `Amc` has none.

    Attributes:
        rules: the first episodes are the rules' plans.
        warmup: share of the episodes that warms up the agent: random walks and disturbed plans.
        perturb: share of the warm-up that disturbs the best plan so far instead of drawing anew.
        spread: deviation of that disturbance, in sparsity.
        imitate: the actor begins as the best plan so far.
        sigma: exploration noise of the first episode after the warm-up.
        decay: factor on the noise from one episode to the next.
        fill: plans that the agent walked are filled up: a budget is there to be used.
        refine: share of all episodes that goes, at the end, to what the scores so far suggest.
        size: episodes of a round; None for what `round_size` says.
    """

    name: ClassVar[str] = "ddpg"
    rules: bool = True
    warmup: float = 0.1
    perturb: float = 0.5
    spread: float = SPREAD
    imitate: bool = True
    sigma: float = 0.1
    decay: float = 0.95
    fill: bool = True
    refine: float = 1 / 3
    size: int | None = None
    hyper: Hyperparameters = USUAL

    def agent(self, steps: int, seed: np.random.SeedSequence) -> Agent:
        """What acts and learns, in episodes of so many steps."""
        from amcc.search.agent import Agent

        return Agent(FEATURES, steps, seed, self.hyper)

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose as many plans as there are episodes."""
        environment, history = Environment(problem), History()
        of_agent, of_warmup, of_refine = seed.spawn(3)
        agent = self.agent(environment.steps, of_agent)
        random = np.random.default_rng(of_warmup)

        def told(plans: Round, scores: Scores) -> None:
            history.hear(plans, scores)
            for proposal, score in zip(plans, scores, strict=True):
                agent.remember(*environment.trace(proposal.keep), score)

        if self.rules:
            yield from heard(opening(problem), told)

        size = self.size or round_size(episodes)
        for turns in rounds(int(episodes * self.warmup), size):
            plans: list[Proposal] = []
            for turn in turns:
                if history.past and floor((turn + 1) * self.perturb) > floor(turn * self.perturb):
                    wanted = disturbed(problem, history.best[0], self.spread, random)
                else:
                    wanted = environment.walk(lambda state, step: random.random())
                plans.append(Proposal(self.name, self._plan(problem, wanted)))
            told(tuple(plans), (yield tuple(plans)))

        if history.past:
            if self.imitate:
                agent.imitate(*environment.trace(history.best[0]))
            agent.foresee()
        noise, last = self.sigma, episodes - int(episodes * self.refine)
        for turns in rounds(last - len(history.past), size):
            plans = []
            for _ in turns:
                walked = environment.walk(partial(agent.act, noise=noise))
                plans.append(Proposal(self.name, self._plan(problem, walked)))
                noise *= self.decay
            told(tuple(plans), (yield tuple(plans)))
            for _ in turns:
                agent.learn()

        left = episodes - len(history.past)
        yield from refined(problem, history, left, np.random.default_rng(of_refine), size)

    def _plan(self, problem: Problem, wanted: Array) -> Array:
        """The plan for a walk, which fits as it is, or for a wish."""
        walked = wanted.dtype == np.int64
        return wanted if walked and not self.fill else fit(problem, wanted)


@dataclass(frozen=True, slots=True)
class Amc(Ddpg):
    """AMC's agent as the paper has it: a quarter of the episodes at random, then DDPG, an update after each episode."""

    name: ClassVar[str] = "amc"
    rules: bool = False
    warmup: float = 0.25
    perturb: float = 0.0
    imitate: bool = False
    sigma: float = 0.5
    fill: bool = False
    refine: float = 0.0
    size: int | None = 1
    hyper: Hyperparameters = PAPER
