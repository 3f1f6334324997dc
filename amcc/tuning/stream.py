"""Which samples each step sees, and where its random numbers come from.

Everything is a function of the seed and the number of the step, so a training that is taken up again goes on as
it would have, and any number of processes see together what one would.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array

if TYPE_CHECKING:
    from torch import Generator

_ORDER, _DRAWS, _HELD = 11, 12, 13


@dataclass(frozen=True)
class Stream:
    """Samples in random order, over and over; what does not fill a batch is left out until the next pass.

    Attributes:
        samples: that there are.
        batch: samples of a step, at most that many.
        per_epoch: steps of an epoch.
    """

    samples: int
    batch: int
    per_epoch: int
    seed: int

    @classmethod
    def of(cls, samples: int, batch: int, per_epoch: int | None, seed: int) -> Stream:
        """A stream whose epochs have so many samples, all by default."""
        batch = min(batch, samples)
        return cls(samples, batch, max(1, min(per_epoch or samples, samples) // batch), seed)

    def at(self, step: int) -> Array:
        """The samples of a step: int64 `[batch]`."""
        whole = self.samples // self.batch
        turn, place = divmod(step, whole)
        return _permutation(self.samples, self.seed, turn)[place * self.batch :][: self.batch]

    def generator(self, step: int) -> Generator:
        """Random numbers of a step."""
        import torch

        state = np.random.SeedSequence([self.seed, _DRAWS, step]).generate_state(2, np.uint32)
        return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


@lru_cache(maxsize=2)
def _permutation(samples: int, seed: int, turn: int) -> Array:
    return np.random.default_rng([seed, _ORDER, turn]).permutation(samples)


def held_out(samples: int, share: float, most: int, seed: int) -> tuple[Array, Array]:
    """Samples to train on, and those held out; at least one of each, where there are two.

    With fewer than two samples the one is in both.
    """
    if samples < 2:
        return np.arange(samples), np.arange(samples)
    count = min(max(1, round(samples * share)), most, samples - 1)
    order = np.random.default_rng([seed, _HELD]).permutation(samples)
    return np.sort(order[count:]), np.sort(order[:count])
