"""What each departure of amcc's agent from AMC's is worth, and what modern practice would add.

    python benchmarks/ddpg_departures.py [--seeds 8] [--episodes 100]
    python benchmarks/ddpg_departures.py --network resnet20 --scores FILE.jsonl [--seeds 3] [--episodes 100]

Each row changes one thing and plays the agent without the refinement at the end, so that what is measured is the agent. "best" is
the best score of all that was played, "agent" that of the agent's own episodes, "last" the mean of its last
twenty. On made-up networks (`made_up.py`), or on a trained one from ../shared: there FILE keeps every score, is gone
on with after a kill, and is shared by all rows.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from common import machine, table
from made_up import crossed
from networks import prepared
from torch import Tensor, nn

from amcc.ir import Array
from amcc.search import Ddpg, Problem, search
from amcc.search.agent import Agent, Critic, descend
from amcc.search.environment import FEATURES


class Still(Agent):
    """Stays as it began."""

    def learn(self) -> None:
        pass


class Returns(Agent):
    """The critic learns the episode's reward itself, which all steps share, instead of bootstrapping."""

    def _targets(self, batch: Tensor) -> Tensor:
        return self._rewards[batch] - (self._average or 0.0)


class Normalised(Agent):
    """Rewards are divided by their deviation over the replay buffer."""

    def _targets(self, batch: Tensor) -> Tensor:
        held = self._rewards[: min(self._seen, len(self._rewards))]
        average, self._average = self._average, float(held.mean())
        rewards = self._rewards
        self._rewards = self._average + (rewards - self._average) / (held.std() + 1e-9)
        found = super()._targets(batch)
        self._rewards, self._average = rewards, average
        return found


class Twin(Agent):
    """Two critics, and the lower of their targets (TD3, arXiv 1802.09477)."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.critic = _Pair(self.critic, Critic(arguments[0], self.hp.hidden))  # type: ignore[assignment]
        self.slow_critic = copy.deepcopy(self.critic)
        self._critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=self.hp.critic_rate, fused=True)

    def _critic_loss(self, states: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
        pair: Any = self.critic
        return sum(nn.functional.mse_loss(one(states, actions), targets) for one in (pair.one, pair.other))  # type: ignore[return-value]


class _Pair(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        return torch.minimum(self.one(states, actions), self.other(states, actions))


class Often(Agent):
    """Four updates a step."""

    def learn(self) -> None:
        for _ in range(4):
            super().learn()


class BatchBaseline(Agent):
    """The moving average runs over sampled batches, as in the public implementation."""

    def _targets(self, batch: Tensor) -> Tensor:
        now = float(self._rewards[batch].mean())
        self._batches = 0.95 * getattr(self, "_batches", now) + 0.05 * now
        average, self._average = self._average, self._batches
        found = super()._targets(batch)
        self._average = average
        return found


class Population(Agent):
    """Four actors take turns and share critic and experience."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._others = [Agent(*arguments[:2], seed) for seed in arguments[2].spawn(3)]
        self._turn = 0

    def imitate(self, states: Array, actions: Array) -> None:
        super().imitate(states, actions)
        for other in self._others:
            other.imitate(states, actions)

    def act(self, state: Array, noise: float = 0.0) -> float:
        turn = self._turn // self.steps % 4
        self._turn += 1
        mine, self.actor = self.actor, ([self.actor] + [other.actor for other in self._others])[turn]
        found = super().act(state, noise)
        self.actor = mine
        return found

    def _update(self) -> None:
        super()._update()
        states = self._states[torch.from_numpy(self._random.integers(min(self._seen, len(self._states)), size=64))]
        for other in self._others:
            descend(other._actor_optimizer, other.actor, -self.critic(states, other.actor(states)).mean())


@dataclass(frozen=True)
class Varied(Ddpg):
    """The policy with another kind of agent, or plans as the agent walked them."""

    kind: type[Agent] = Agent
    fill: bool = True
    refine: float = 0.0

    def agent(self, steps: int, seed: np.random.SeedSequence) -> Agent:
        return self.kind(FEATURES, steps, seed)

    def completed(self, problem: Problem, walked: Array) -> Array:
        return super().completed(problem, walked) if self.fill else walked


AS_IT_IS = "as it is"
AMC = Varied(rules=False, warmup=0.25, perturb=0.0, imitate=False, sigma=0.5, size=1, fill=False, kind=BatchBaseline)
ROWS = {
    AS_IT_IS: Varied(),
    "AMC's agent: all of the below undone": AMC,
    "undone: begins as the best plan so far": Varied(imitate=False),
    "undone: noise 0.1, here 0.5": Varied(sigma=0.5),
    "undone: both of these": Varied(imitate=False, sigma=0.5),
    "undone: the rules' plans first": Varied(rules=False),
    "undone: warm-up a tenth of the episodes, here a quarter": Varied(warmup=0.25),
    "undone: half of the warm-up disturbs the best plan": Varied(perturb=0.0),
    "undone: plans are filled up": Varied(fill=False),
    "undone: learns after a round, here after an episode": Varied(size=1),
    "undone: baseline over episodes, here over batches": Varied(kind=BatchBaseline),
    "control: the agent never learns": Varied(kind=Still),
    "added: episode's reward as target, no bootstrapping": Varied(kind=Returns),
    "added: normalised rewards": Varied(kind=Normalised),
    "added: twin critics": Varied(kind=Twin),
    "added: four updates a step": Varied(kind=Often),
    "added: four actors": Varied(kind=Population),
    "added: noise falls by 0.98, not 0.95": Varied(decay=0.98),
    "added: noise 0.05": Varied(sigma=0.05),
    "added: noise 0.2": Varied(sigma=0.2),
}


def played(problem: Problem, policy: Ddpg, episodes: int, seed: int) -> tuple[float, float, float]:
    """The best score of all plans, that of the agent's own, and the mean of its last twenty."""
    found = search(problem, policy, episodes=episodes, seed=seed)
    first = int(episodes * policy.warmup) + (6 if policy.rules else 0)
    own = [record.score for record in found.records[first:]]
    return found.best.score, max(own), fmean(own[-20:])


def trained(name: str, scores: Path) -> Problem:
    """The search of a trained network at half its MACs; scores are kept in a file."""
    problem = prepared(name)
    known: dict[tuple[int, ...], float] = {}
    if scores.is_file():
        known = {tuple(keep): score for keep, score in map(json.loads, scores.read_text().splitlines())}

    def score(keep: Array) -> float:
        key = tuple(int(width) for width in keep)
        if key not in known:
            known[key] = problem.score(keep)
            with scores.open("a") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
        return known[key]

    return replace(problem, score=score)


def measured(values: list[float], plain: list[float]) -> str:
    """The mean in percent, and what it is above the first row's, seed by seed."""
    above = [100 * (one - other) for one, other in zip(values, plain, strict=True)]
    error = stdev(above) / len(above) ** 0.5 if len(above) > 1 else 0.0
    return f"{100 * fmean(values):.2f}" + ("" if values is plain else f" ({fmean(above):+.2f} ± {error:.2f})")


def main() -> int:
    """Play all rows and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--network")
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--rows", default="", help="only rows that hold one of these words, joined by |")
    given = parser.parse_args()
    if given.network:
        one = trained(given.network, given.scores)
        problems = [one] * given.seeds
    else:
        problems = [crossed(given.groups, seed) for seed in range(given.seeds)]
    words = given.rows.split("|")
    plain: list[list[float]] = []
    rows = []
    for name, policy in ROWS.items():
        if name != AS_IT_IS and not any(word in name for word in words):
            continue
        start = time.process_time()
        scores = [played(problem, policy, given.episodes, seed) for seed, problem in enumerate(problems)]
        columns = [list(column) for column in zip(*scores, strict=True)]
        plain = plain or columns
        shown = [measured(values, first) for values, first in zip(columns, plain, strict=True)]
        rows.append([name, *shown, f"{(time.process_time() - start) / given.seeds:.1f}"])
        print(rows[-1], file=sys.stderr, flush=True)
    print(machine())
    what = given.network or f"{given.groups} groups, made up"
    print(f"{what}: half the MACs, {given.episodes} episodes, {given.seeds} seeds")
    print(table(["agent", "best of all, %", "best of the agent's", "its last twenty", "CPU seconds"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
