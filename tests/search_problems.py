"""Made-up searches with exact costs and known scores, for tests of `amcc.search`."""

from __future__ import annotations

import numpy as np

from amcc.budget import Budget, Costs
from amcc.ir import Array
from amcc.search import GroupInfo, Problem


class Chain:
    """A chain of 3x3 convolutions; group i is the output of layer i, the last layer is not pruned.

    Layers after a stage of `stage` layers halve the image. Every group i costs the score
    `weight[i] * (share removed) ** power[i]`, so the best plan can be computed.
    """

    def __init__(self, groups: int, *, seed: int = 0, width: int = 32, stage: int = 4, multiple: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.sizes = np.array([width * 2 ** min(i // stage, 2) for i in range(groups)], dtype=np.int64)
        side = np.array([max(32 >> (i // stage), 4) for i in range(groups + 1)], dtype=np.int64)
        self.area = side**2
        self.multiple = multiple
        self.weight = random.dirichlet(np.full(groups, 0.6))
        self.power = random.uniform(1.2, 3.0, groups)
        self.evaluations = 0

    def cost(self, keep: Array) -> Costs:
        channels = np.concatenate([[3], keep, [10]])
        weights = 9 * channels[:-1] * channels[1:]
        params = int(weights.sum() + channels[1:].sum())
        return Costs(flops=int((weights * self.area).sum()), params=params, size=4 * params)

    def score(self, keep: Array) -> float:
        self.evaluations += 1
        return float(1.0 - (self.weight * (1.0 - keep / self.sizes) ** self.power).sum())

    def losses(self) -> list[Array]:
        return [
            w * (np.arange(n + 1) / n) ** p for w, n, p in zip(self.weight, self.sizes, self.power, strict=True)
        ]

    def groups(self) -> list[GroupInfo]:
        fan_in = [3, *self.sizes[:-1].tolist()]
        side = np.sqrt(self.area).astype(int)
        return [
            GroupInfo(
                index=i,
                name=f"conv{i}",
                size=int(n),
                n=int(n),
                c=fan_in[i],
                h=int(side[i]),
                w=int(side[i]),
                k=3,
                macs=int(9 * n * fan_in[i] * self.area[i]),
                multiple=self.multiple,
            )
            for i, n in enumerate(self.sizes)
        ]

    def problem(self, budget: str, *, losses: bool = True, why: str = "") -> Problem:
        return Problem(
            groups=self.groups(),
            limits=Budget.parse(budget).resolve(self.cost(self.sizes)),
            cost=self.cost,
            score=self.score,
            losses=self.losses() if losses else None,
            magnitudes=[np.sort(np.random.default_rng(i).random(n)) for i, n in enumerate(self.sizes)],
            why=why,
        )
