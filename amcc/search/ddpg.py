"""The default policy: AMC's agent (arXiv 1802.03494), after the rules and before a refinement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import floor
from typing import ClassVar

import numpy as np

from amcc.search.environment import FEATURES, Environment
from amcc.search.fit import fit
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


@dataclass(frozen=True, slots=True)
class Ddpg:
    """Rules, random warm-up, agent, refinement; every plan scored is also the agent's experience.

    The agent plays a round of episodes as it is, then learns for as many.

    Attributes:
        rules: the first episodes are the rules' plans.
        warmup: random episodes before the agent acts, at most a quarter of all.
        perturb: share of the warm-up that disturbs the best plan so far instead of drawing anew.
        spread: deviation of that disturbance, in sparsity.
        sigma: exploration noise of the first episode after the warm-up.
        decay: factor on the noise from one episode to the next.
        refine: share of all episodes that goes, at the end, to what the scores so far suggest.
    """

    name: ClassVar[str] = "ddpg"
    rules: bool = True
    warmup: int = 100
    perturb: float = 0.5
    spread: float = SPREAD
    sigma: float = 0.5
    decay: float = 0.95
    refine: float = 1 / 3

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose as many plans as there are episodes."""
        from amcc.search.agent import Agent

        environment, history = Environment(problem), History()
        of_agent, of_warmup, of_refine = seed.spawn(3)
        agent = Agent(FEATURES, environment.steps, of_agent)
        random = np.random.default_rng(of_warmup)

        def told(plans: Round, scores: Scores) -> None:
            history.hear(plans, scores)
            for proposal, score in zip(plans, scores, strict=True):
                agent.remember(*environment.trace(proposal.keep), score)

        if self.rules:
            yield from heard(opening(problem), told)

        size = round_size(episodes)
        for turns in rounds(min(self.warmup, episodes // 4), size):
            plans: list[Proposal] = []
            for turn in turns:
                if history.past and floor((turn + 1) * self.perturb) > floor(turn * self.perturb):
                    wanted = disturbed(problem, history.best[0], self.spread, random)
                else:
                    wanted = environment.walk(lambda state: random.random())
                plans.append(Proposal(self.name, fit(problem, wanted)))
            told(tuple(plans), (yield tuple(plans)))

        noise, last = self.sigma, episodes - int(episodes * self.refine)
        for turns in rounds(last - len(history.past), size):
            plans = []
            for _ in turns:
                plans.append(Proposal(self.name, fit(problem, environment.walk(partial(agent.act, noise=noise)))))
                noise *= self.decay
            told(tuple(plans), (yield tuple(plans)))
            for _ in turns:
                agent.learn()

        left = episodes - len(history.past)
        yield from refined(problem, history, left, np.random.default_rng(of_refine), size)
