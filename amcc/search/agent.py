"""DDPG (arXiv 1509.02971) as AMC uses it (arXiv 1802.03494, section 3.3), readable top to bottom.

The networks are tiny and run on one thread of the CPU: the same seed gives the same bits. Torch's
global generator and number of threads are as before once a call returns. `docs/search.md` lists
where this differs from the paper and why.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from amcc.ir import Array
from amcc.search.hyperparameters import Hyperparameters
from amcc.search.noise import truncated_normal


class Actor(nn.Module):
    """State [batch, features] to sparsity [batch, 1] in (0, 1)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), _last(hidden), nn.Sigmoid()
        )

    def forward(self, states: Tensor) -> Tensor:
        """The actions of a batch of states."""
        found: Tensor = self.layers(states)
        return found


class Critic(nn.Module):
    """State [batch, features] and sparsity [batch, 1] to the return expected [batch, 1]."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features + 1, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), _last(hidden)
        )

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """The values of a batch of states and actions."""
        found: Tensor = self.layers(torch.cat([states, actions], dim=1))
        return found


def _last(hidden: int) -> nn.Linear:
    layer = nn.Linear(hidden, 1)
    nn.init.uniform_(layer.weight, -3e-3, 3e-3)
    nn.init.uniform_(layer.bias, -3e-3, 3e-3)
    return layer


class Agent:
    """Actor, critic, their slow copies, and a replay buffer of whole episodes.

    Args:
        features: of a state.
        steps: of an episode.
    """

    def __init__(self, features: int, steps: int, seed: np.random.SeedSequence, hp: Hyperparameters | None = None):
        self.hp = hp = hp or Hyperparameters()
        self.steps = steps
        self._places = np.eye(steps, dtype=np.float32) if hp.place else np.zeros((steps, 0), dtype=np.float32)
        seen = features + self._places.shape[1]
        initial, sampled = seed.spawn(2)
        self._random = np.random.default_rng(sampled)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(initial.generate_state(1, np.uint64)[0]))
            self.actor = Actor(seen, hp.hidden)
            self.critic = Critic(seen, hp.hidden)
        self.slow_actor = copy.deepcopy(self.actor)
        self.slow_critic = copy.deepcopy(self.critic)
        self._actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=hp.actor_rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=hp.critic_rate, fused=True)

        room = hp.memory * steps
        self._states = torch.zeros(room, seen)
        self._next_states = torch.zeros(room, seen)
        self._actions = torch.zeros(room, 1)
        self._rewards = torch.zeros(room, 1)
        self._going_on = torch.zeros(room, 1)
        self._seen = 0
        self._average: float | None = None

    def act(self, state: Array, step: int, noise: float = 0.0) -> float:
        """A sparsity in [0, 1]: the actor's, or a draw around it from a normal truncated to [0, 1]."""
        with _quiet(), torch.inference_mode():
            mean = float(self.actor(torch.from_numpy(np.concatenate([state, self._places[step]]))[None]))
        return truncated_normal(mean, noise, self._random)

    def remember(self, states: Array, actions: Array, reward: float) -> None:
        """Store an episode: states [steps, features], applied actions [steps], its one reward."""
        now = self._placed(states)
        place = torch.arange(self._seen, self._seen + self.steps) % len(self._states)
        self._states[place] = now
        self._next_states[place] = torch.cat([now[1:], torch.zeros_like(now[:1])])
        self._actions[place] = torch.from_numpy(actions)[:, None]
        self._rewards[place] = reward
        self._going_on[place] = 1.0
        self._going_on[place[-1]] = 0.0
        self._seen += self.steps
        weight = self.hp.baseline
        self._average = reward if self._average is None else weight * self._average + (1 - weight) * reward

    def imitate(self, states: Array, actions: Array) -> None:
        """Begin where a plan is known: fit the actor to its actions [steps] in its states [steps, features]."""
        seen, wanted = self._placed(states), torch.from_numpy(actions)[:, None]
        with _quiet(), torch.enable_grad():
            optimizer = torch.optim.Adam(self.actor.parameters(), lr=self.hp.imitation_rate, fused=True)
            for _ in range(self.hp.imitation):
                descend(optimizer, self.actor, nn.functional.mse_loss(self.actor(seen), wanted))
        self.slow_actor = copy.deepcopy(self.actor)

    def foresee(self) -> None:
        """Updates of the critic alone, so that the actor does not begin to learn from a critic that knows nothing."""
        with _quiet(), torch.enable_grad():
            for _ in range(self.hp.foresight):
                self._judge(self._batch())
                self._follow()

    def learn(self) -> None:
        """One update for each step of an episode."""
        with _quiet(), torch.enable_grad():
            for _ in range(self.steps):
                batch = self._batch()
                self._judge(batch)
                self._improve(self._states[batch])
                self._follow()

    def _placed(self, states: Array) -> Tensor:
        return torch.from_numpy(np.concatenate([states, self._places], axis=1))

    def _batch(self) -> Tensor:
        """Places in the buffer, int64 [batch]."""
        held = min(self._seen, len(self._states))
        return torch.from_numpy(self._random.integers(held, size=self.hp.batch))

    def _judge(self, batch: Tensor) -> None:
        """One step of the critic."""
        with torch.no_grad():
            targets = self._targets(batch)
        loss = self._critic_loss(self._states[batch], self._actions[batch], targets)
        descend(self._critic_optimizer, self.critic, loss)

    def _targets(self, batch: Tensor) -> Tensor:
        """What the critic is to say of some steps, [batch, 1]."""
        rewards = self._rewards[batch] - (self._average or 0.0)
        if self.hp.normalise:
            held = self._rewards[: min(self._seen, len(self._rewards))]
            rewards = rewards / (held.std(correction=0) + 1e-9)
        if not self.hp.bootstrap:
            return rewards
        next_states = self._next_states[batch]
        future: Tensor = self.slow_critic(next_states, self.slow_actor(next_states))
        return rewards + self.hp.gamma * self._going_on[batch] * future

    def _critic_loss(self, states: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.critic(states, actions), targets)

    def _improve(self, states: Tensor) -> None:
        """One step of the actor towards what the critic prefers."""
        descend(self._actor_optimizer, self.actor, -self.critic(states, self.actor(states)).mean())

    def _follow(self) -> None:
        """Slow copies follow; nothing reads them without bootstrapping."""
        if not self.hp.bootstrap:
            return
        with torch.no_grad():
            slow: list[Tensor] = [*self.slow_actor.parameters(), *self.slow_critic.parameters()]
            fast: list[Tensor] = [*self.actor.parameters(), *self.critic.parameters()]
            torch._foreach_lerp_(slow, fast, self.hp.tau)


def descend(optimizer: torch.optim.Optimizer, module: nn.Module, loss: Tensor) -> None:
    """One step of the optimizer on these weights alone."""
    weights = list(module.parameters())
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    optimizer.step()


@contextmanager
def _quiet() -> Iterator[None]:
    """One thread, so that sums are taken in one order; the user's setting comes back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
