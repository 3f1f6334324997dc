"""DDPG: noise, memory, learning, and leaving torch as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amcc.ir import Array
from amcc.search.agent import Agent
from amcc.search.hyperparameters import PAPER, Hyperparameters
from amcc.search.noise import truncated_normal

SMALL = Hyperparameters(hidden=32, actor_rate=1e-3, tau=0.05, memory=600)


def agent(seed: int = 0, steps: int = 3, hp: Hyperparameters | None = None) -> Agent:
    return Agent(2, steps, np.random.SeedSequence(seed), hp)


@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 0.5), (0.0, 0.5), (1.0, 0.1), (0.2, 0.05), (0.9, 3.0)])
def test_noise_is_a_truncated_normal(mean: float, deviation: float) -> None:
    random = np.random.default_rng(0)
    found = np.array([truncated_normal(mean, deviation, random) for _ in range(4000)])
    drawn = np.random.default_rng(1).normal(mean, deviation, 200_000)
    oracle = drawn[(drawn >= 0) & (drawn <= 1)]
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(np.quantile(found, [0.1, 0.5, 0.9]), np.quantile(oracle, [0.1, 0.5, 0.9]), atol=0.03)


def test_without_noise_the_actor_answers() -> None:
    assert [truncated_normal(m, 0.0, np.random.default_rng(0)) for m in (-1.0, 0.3, 2.0)] == [0.0, 0.3, 1.0]
    state = np.array([0.1, 0.9], dtype=np.float32)
    assert agent().act(state, 0) == agent().act(state, 0) == pytest.approx(0.5, abs=0.05)


def test_same_seed_same_bits_and_another_seed_other_ones() -> None:
    def trained(seed: int) -> Array:
        one = agent(seed)
        for episode in range(3):
            states = np.full((3, 2), episode / 3, dtype=np.float32)
            one.remember(states, np.array([0.1, 0.5, 0.9], dtype=np.float32), reward=episode / 3)
            one.learn()
        return np.concatenate([p.detach().numpy().ravel() for p in one.actor.parameters()])

    assert trained(1).tobytes() == trained(1).tobytes()
    assert trained(1).tobytes() != trained(2).tobytes()


def test_torch_is_left_as_it_was() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    try:
        one = agent()
        one.remember(np.zeros((3, 2), np.float32), np.zeros(3, np.float32), 1.0)
        with torch.no_grad():
            one.learn()
        one.act(np.zeros(2, np.float32), 0, noise=0.3)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.is_grad_enabled()
    finally:
        torch.set_num_threads(threads)


def test_the_buffer_forgets_the_oldest_episode_and_knows_where_episodes_end() -> None:
    one = agent(steps=2, hp=Hyperparameters(hidden=4, memory=3))
    for episode in range(4):
        states = np.array([[episode, 0], [episode, 1]], dtype=np.float32)
        one.remember(states, np.array([0.25, 0.75], dtype=np.float32), reward=float(episode))
    assert sorted(one._rewards[:, 0].tolist()) == [1, 1, 2, 2, 3, 3]
    assert one._going_on[:, 0].tolist() == [1, 0] * 3
    assert one._states[:2].tolist() == [[3, 0, 1, 0], [3, 1, 0, 1]]  # one-hot: which step it is
    assert one._next_states[:2].tolist() == [[3, 1, 0, 1], [0, 0, 0, 0]]
    assert one._actions[:, 0].tolist() == [0.25, 0.75] * 3


def test_the_baseline_is_a_moving_average_of_rewards() -> None:
    one = agent(hp=Hyperparameters(hidden=4, baseline=0.9))
    for reward in (1.0, 0.0, 2.0):
        one.remember(np.zeros((3, 2), np.float32), np.zeros(3, np.float32), reward)
    assert one._average == pytest.approx(0.9 * (0.9 * 1.0) + 0.1 * 2.0)


@pytest.mark.parametrize("hp", [Hyperparameters(hidden=64), PAPER])
def test_it_begins_as_a_plan_that_it_imitates(hp: Hyperparameters) -> None:
    one, random = agent(steps=6, hp=hp), np.random.default_rng(0)
    states, actions = random.random((6, 2), dtype=np.float32), random.random(6, dtype=np.float32)
    one.imitate(states, actions)
    found = [one.act(state, step) for step, state in enumerate(states)]
    assert np.abs(found - actions).max() < (0.02 if hp.place else 0.4)


def test_the_critic_learns_first_and_alone() -> None:
    """Rewards of 1 where the action is low and 3 where it is high: normalised, without bootstrapping, -1 and 1."""
    one = agent(steps=2, hp=Hyperparameters(hidden=32, memory=8, baseline=0.0, foresight=600))
    states = np.array([[0.0, 0.0], [0.5, 0.0]], dtype=np.float32)
    for episode in range(8):
        high = episode % 2 == 1
        one.remember(states, np.full(2, 0.9 if high else 0.1, np.float32), reward=3.0 if high else 1.0)
    one._average = 2.0
    before = [one.act(state, step) for step, state in enumerate(states)]
    one.foresee()
    assert [one.act(state, step) for step, state in enumerate(states)] == before
    with torch.no_grad():
        for action, value in ((0.1, -1.0), (0.9, 1.0)):
            said = one.critic(one._states[:2], torch.full((2, 1), action))
            np.testing.assert_allclose(said[:, 0].numpy(), value, atol=0.1)
    one.learn()
    assert [one.act(state, step) for step, state in enumerate(states)] != before


def test_the_paper_s_targets_bootstrap_and_others_do_not() -> None:
    for hp in (PAPER, Hyperparameters()):
        one = agent(steps=2, hp=hp)
        one.remember(np.zeros((2, 2), np.float32), np.zeros(2, np.float32), 4.0)
        one.remember(np.ones((2, 2), np.float32), np.zeros(2, np.float32), 2.0)
        batch = torch.arange(4)
        with torch.no_grad():
            found = one._targets(batch)[:, 0]
            future = one.slow_critic(one._next_states[:4], one.slow_actor(one._next_states[:4]))[:, 0]
        plain = torch.tensor([4.0, 4, 2, 2]) - one._average
        expected = plain + torch.tensor([1.0, 0, 1, 0]) * future if hp.bootstrap else plain
        torch.testing.assert_close(found, expected)  # the deviation of 4 and 2 is 1


def test_it_learns_which_action_pays_in_which_state() -> None:
    """One step an episode; the best sparsity is 0.2 in one state and 0.8 in the other."""
    one = agent(seed=1, steps=1, hp=SMALL)
    low, high = np.array([0.0, 1.0], dtype=np.float32), np.array([1.0, 0.0], dtype=np.float32)
    random = np.random.default_rng(0)
    for episode in range(600):
        state, goal = (low, 0.2) if episode % 2 else (high, 0.8)
        action = one.act(state, 0, noise=0.5) if episode > 64 else random.random()
        one.remember(state[None], np.array([action], dtype=np.float32), reward=-((action - goal) ** 2))
        one.learn()
    assert 0.05 < one.act(low, 0) < 0.4
    assert 0.6 < one.act(high, 0) < 0.95
