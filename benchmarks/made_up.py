"""Made-up networks whose losses are known, for measuring searches in seconds."""

from __future__ import annotations

import sys

import numpy as np
from common import ROOT

sys.path.insert(0, str(ROOT))

from amcc.ir import Array
from amcc.search import Problem
from tests.search_problems import Chain


class Crossed(Chain):
    """A chain whose neighbours make each other worse, and whose layer-wise losses are wrong by a factor a group.

    Attributes:
        factor: of each group's losses as the search sees them, log-normal.
        pair: what two neighbours cost besides, times both shares removed.
    """

    def __init__(self, groups: int, seed: int, *, wrong: float = 0.8, crossed: float = 1.0) -> None:
        super().__init__(groups, seed=seed)
        random = np.random.default_rng([seed, 1])
        self.factor = np.exp(wrong * random.standard_normal(groups))
        self.pair = crossed * random.random(groups - 1) * np.sqrt(self.weight[1:] * self.weight[:-1])

    def loss(self, keep: Array) -> float:
        """One less the score."""
        removed = 1.0 - keep / self.sizes
        return super().loss(keep) + float((self.pair * removed[1:] * removed[:-1]).sum())

    def losses(self) -> list[Array]:
        """What calibration would say."""
        return [factor * curve for factor, curve in zip(self.factor, super().losses(), strict=True)]


def crossed(groups: int, seed: int, budget: str = "flops=0.5") -> Problem:
    """The search for a plan of such a network."""
    return Crossed(groups, seed).problem(budget)
