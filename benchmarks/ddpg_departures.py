"""What each departure of amcc's agent from AMC's is worth, and what modern practice would add.

    python benchmarks/ddpg_departures.py [--seeds 8] [--episodes 100]
    python benchmarks/ddpg_departures.py --network resnet20 --scores FILE.jsonl [--seeds 3] [--episodes 100]

Each row changes one thing and plays the agent without the refinement at the end: the best score of all that was
played, the best of the agent's own episodes, and the mean of its last twenty, which says where it has arrived. In
brackets the difference to the first row, seed by seed, with its standard error. On made-up networks (`made_up.py`), or
on a trained one from ../shared: there FILE keeps every score, is gone on with after a kill, and is shared by all rows.
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

import numpy as np
import torch
from common import machine, table
from made_up import crossed
from networks import prepared
from torch import Tensor, nn

from amcc.ir import Array
from amcc.search import Amc, Ddpg, Policy, Problem, policy_named, search
from amcc.search.agent import Agent, Critic, descend
from amcc.search.environment import FEATURES
from amcc.search.hyperparameters import PAPER, Hyperparameters


class Still(Agent):
    """Stays as it began."""

    def learn(self) -> None:
        pass


class BatchBaseline(Agent):
    """The moving average runs over sampled batches, as in the public implementation."""

    def _targets(self, batch: Tensor) -> Tensor:
        now = float(self._rewards[batch].mean())
        self._batches = 0.95 * getattr(self, "_batches", now) + 0.05 * now
        average, self._average = self._average, self._batches
        found = super()._targets(batch)
        self._average = average
        return found


class Pair(nn.Module):
    """The lower of two critics."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        return torch.minimum(self.one(states, actions), self.other(states, actions))


class Twin(Agent):
    """Two critics, of which the lower counts (TD3, arXiv 1802.09477)."""

    def __init__(self, features: int, steps: int, seed: np.random.SeedSequence, hp: Hyperparameters | None = None):
        super().__init__(features, steps, seed, hp)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed.generate_state(1)[0]))
            other = Critic(self._states.shape[1], self.hp.hidden)
        self.critic: nn.Module = Pair(self.critic, other)
        self.slow_critic: nn.Module = copy.deepcopy(self.critic)
        self._critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=self.hp.critic_rate, fused=True)

    def _critic_loss(self, states: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(self.critic, Pair)
        one, other = self.critic.one(states, actions), self.critic.other(states, actions)
        return nn.functional.mse_loss(one, targets) + nn.functional.mse_loss(other, targets)


class Often(Agent):
    """Four updates a step."""

    def learn(self) -> None:
        for _ in range(4):
            super().learn()


class Population(Agent):
    """Four actors take turns, episode by episode, and share critic and experience."""

    def __init__(self, features: int, steps: int, seed: np.random.SeedSequence, hp: Hyperparameters | None = None):
        super().__init__(features, steps, seed, hp)
        self._others = [Agent(features, steps, own, hp) for own in seed.spawn(3)]
        self._turn = -1

    def imitate(self, states: Array, actions: Array) -> None:
        super().imitate(states, actions)
        for other in self._others:
            other.imitate(states, actions)

    def act(self, state: Array, step: int, noise: float = 0.0) -> float:
        self._turn += step == 0
        turn = self._turn % 4
        return self._others[turn - 1].act(state, step, noise) if turn else super().act(state, step, noise)

    def _improve(self, states: Tensor) -> None:
        super()._improve(states)
        for other in self._others:
            descend(other._actor_optimizer, other.actor, -self.critic(states, other.actor(states)).mean())


class Imitating(Agent):
    """The actor keeps imitating the best episode so far (self-imitation, arXiv 1806.05635)."""

    def _improve(self, states: Tensor) -> None:
        first = int(self._rewards[: min(self._seen, len(self._rewards))].argmax())
        best = torch.arange(first, first + self.steps)
        loss = nn.functional.mse_loss(self.actor(self._states[best]), self._actions[best])
        descend(self._actor_optimizer, self.actor, 10 * loss - self.critic(states, self.actor(states)).mean())


@dataclass(frozen=True)
class Varied(Ddpg):
    """The agent without the refinement at the end, perhaps of another kind."""

    refine: float = 0.0
    kind: type[Agent] = Agent

    def agent(self, steps: int, seed: np.random.SeedSequence) -> Agent:
        return self.kind(FEATURES, steps, seed, self.hyper)


AS_IT_IS = "as it is"
RIVALS = ("ddpg", "refine", "evolutionary", "greedy", "random", "lagrange")
ROWS: dict[str, Policy] = {
    AS_IT_IS: Varied(),
    "AMC's agent: all of these undone": Amc(),
    "undone: begins as the best plan so far": Varied(imitate=False),
    "undone: noise 0.1, now 0.5": Varied(sigma=0.5),
    "undone: both": Varied(imitate=False, sigma=0.5),
    "undone: the rules' plans first": Varied(rules=False),
    "undone: warm-up a tenth, now a quarter": Varied(warmup=0.25),
    "undone: half of the warm-up disturbs the best plan": Varied(perturb=0.0),
    "undone: plans are filled up": Varied(fill=False),
    "undone: learns after a round, now after each episode": Varied(size=1),
    "undone: baseline over episodes, now over batches": Varied(kind=BatchBaseline),
    "undone: no bootstrapping": Varied(hyper=Hyperparameters(bootstrap=True)),
    "undone: normalised rewards": Varied(hyper=Hyperparameters(normalise=False)),
    "undone: one-hot place in the state": Varied(hyper=Hyperparameters(place=False)),
    "undone: critic learns before the agent acts": Varied(hyper=Hyperparameters(foresight=0)),
    "undone: the last four": Varied(hyper=PAPER),
    "control: the agent never learns": Varied(kind=Still),
    "added: twin critics": Varied(kind=Twin),
    "added: four updates a step": Varied(kind=Often),
    "added: four actors": Varied(kind=Population),
    "added: self-imitation": Varied(kind=Imitating),
    "added: actor's rate 3e-4, not 1e-4": Varied(hyper=Hyperparameters(actor_rate=3e-4)),
    "added: noise falls by 0.98, not 0.95": Varied(decay=0.98),
    "added: noise 0.05": Varied(sigma=0.05),
    "added: noise 0.2": Varied(sigma=0.2),
    **{f"rival: {name}": policy_named(name) for name in RIVALS},
}


def played(problem: Problem, policy: Policy, episodes: int, seed: int) -> tuple[float, ...]:
    """The best score of all plans, and of an agent that of its own, and the mean of its last twenty."""
    found = search(problem, policy, episodes=episodes, seed=seed)
    if not isinstance(policy, Varied | Amc):
        return (found.best.score,)
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
        shown = [measured(values, first) for values, first in zip(columns, plain, strict=False)]
        shown += [""] * (3 - len(shown))
        rows.append([name, *shown, f"{(time.process_time() - start) / given.seeds:.1f}"])
        print(rows[-1], file=sys.stderr, flush=True)
    print(machine())
    what = given.network or f"{given.groups} groups, made up"
    print(f"{what}: half the MACs, {given.episodes} episodes, {given.seeds} seeds")
    print(table(["agent", "best of all, %", "best of the agent's", "its last twenty", "CPU seconds"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
