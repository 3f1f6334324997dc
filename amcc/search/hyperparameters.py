"""Constants of the agent, apart from it so that naming them does not load torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Of the agent. `PAPER` has those of AMC (arXiv 1802.03494); `docs/search.md` says what each departure is worth.

    Attributes:
        memory: episodes that the replay buffer holds.
        baseline: weight of the past in the moving average of rewards.
        bootstrap: a step's target is its reward plus the slow networks' value of the next one. All steps have the
            episode's reward, so without discount values grow with the steps left. Else the target is the reward.
        normalise: rewards are divided by their deviation over the buffer.
        place: the state says in a one-hot part which step it is.
        imitation, imitation_rate: steps and rate with which the actor is fitted to a plan, and
        foresight: the critic's updates, before the agent first acts.
    """

    hidden: int = 300
    tau: float = 0.01
    gamma: float = 1.0
    batch: int = 64
    memory: int = 100
    actor_rate: float = 1e-4
    critic_rate: float = 1e-3
    baseline: float = 0.95
    bootstrap: bool = False
    normalise: bool = True
    place: bool = True
    imitation: int = 300
    imitation_rate: float = 1e-3
    foresight: int = 500


USUAL = Hyperparameters()
PAPER = Hyperparameters(bootstrap=True, normalise=False, place=False, foresight=0)
