"""Made-up searches with exact costs and known scores, for tests of `amcc.search`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from amcc.budget import Budget, Costs, Limits
from amcc.ir import Array
from amcc.search import GroupInfo, Problem


class Chain:
    """A chain of 3x3 convolutions; group i is the output of layer i, the last layer is not pruned.

    After every `stage` layers the image halves and the width doubles. Every group i costs the score
    `weight[i] * (share removed) ** power[i]`, so the best plan can be computed.
    """

    def __init__(self, groups: int, *, seed: int = 0, width: int = 16, stage: int = 2, multiple: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.sizes = np.array([width * 2 ** min(i // stage, 2) for i in range(groups)], dtype=np.int64)
        self.side = np.array([max(32 >> (i // stage), 4) for i in range(groups + 1)], dtype=np.int64)
        self.area = self.side**2
        self.multiple = multiple
        self.weight = random.dirichlet(np.full(groups, 0.6))
        self.power = random.uniform(1.2, 3.0, groups)
        self.scored: list[tuple[int, ...]] = []

    def cost(self, keep: Array) -> Costs:
        channels = np.concatenate([[3], keep, [10]])
        weights = 9 * channels[:-1] * channels[1:]
        params = int(weights.sum() + channels[1:].sum())
        tensors = 4 * channels * np.append(32**2, self.area)
        memory = int((tensors[:-1] + tensors[1:]).max())
        return Costs(flops=int((weights * self.area).sum()), params=params, size=4 * params, memory=memory)

    def score(self, keep: Array) -> float:
        self.scored.append(tuple(keep.tolist()))
        return 1.0 - self.loss(keep)

    def loss(self, keep: Array) -> float:
        return float((self.weight * (1.0 - keep / self.sizes) ** self.power).sum())

    def losses(self) -> list[Array]:
        return [w * (np.arange(n + 1) / n) ** p for w, n, p in zip(self.weight, self.sizes, self.power, strict=True)]

    def groups(self) -> list[GroupInfo]:
        c = [3, *self.sizes[:-1].tolist()]
        facts = enumerate(zip(self.sizes.tolist(), c, self.side.tolist(), strict=False))
        return [
            GroupInfo(i, f"conv{i}", n, n=n, c=c, h=s, w=s, k=3, macs=9 * n * c * s * s, multiple=self.multiple)
            for i, (n, c, s) in facts
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


@st.composite
def problems(draw: st.DrawFn, *, reachable: bool = True) -> Problem:
    """Any widths, any limits, any monotone cost: products of groups with each other and themselves, offsets, a peak."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    count = len(sizes)
    groups = [
        GroupInfo(
            index=i,
            name=f"g{i}",
            size=size,
            n=size,
            c=draw(st.integers(1, 9)),
            macs=draw(st.integers(0, 99)),
            multiple=draw(st.sampled_from([1, 1, 2, 4, 8])),
            minimum=draw(st.integers(0, 5)),
            choices=draw(
                st.just(()) | st.sets(st.integers(1, size)).map(lambda some, size=size: (*sorted(some - {size}), size))
            ),
        )
        for i, size in enumerate(sizes)
    ]
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    pairs = random.integers(0, 30, (2, count, count)) * (random.random((2, count, count)) < 0.5)
    single = random.integers(0, 30, (2, count))
    fixed = random.integers(0, 50, 2)
    peaks = random.integers(0, 30, (4, count)) * (random.random((4, count)) < 0.5)

    def cost(keep: Array) -> Costs:
        flops, params = (int(keep @ pairs[r] @ keep + single[r] @ keep + fixed[r]) for r in range(2))
        return Costs(flops, params, 4 * params, int((peaks @ keep).max()))

    def between(low: int, high: int) -> int | None:
        value = draw(st.none() | st.integers(0 if not reachable else low, high))
        return value

    largest = cost(np.array([g.size for g in groups]))
    least = cost(np.array([g.widths()[0] for g in groups]))
    limits = Limits(**{key: between(least.of(key), largest.of(key)) for key in ("flops", "params", "size", "memory")})
    return Problem(
        groups=groups,
        limits=limits,
        cost=cost,
        score=lambda keep: float(keep.sum()),
        losses=[np.cumsum(np.append(0.0, random.random(g.size))) for g in groups],
        magnitudes=[random.random(g.size) for g in groups],
    )


def plans(problem: Problem) -> Iterator[Array]:
    """Every feasible keep, whether it fits or not."""
    for keep in itertools.product(*problem.widths):
        yield np.array(keep, dtype=np.int64)
