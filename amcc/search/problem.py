"""What a policy sees: groups with the widths they may take, exact costs, limits, and a score.

A *keep* is an int64 array [groups]: how many units of each group stay. A keep is *feasible* when
every group has one of its `widths`, and it *fits* when its costs also meet the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from amcc.budget import Costs, Key, Limits, spelled
from amcc.errors import BudgetError, UsageError
from amcc.ir import Array


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """One decision: how many of a group's units stay.

    `n` to `macs` describe the layer that makes the group's units, for the agent's state
    (arXiv 1802.03494, equation 1); `index` is the equation's t.

    Attributes:
        index: place among the groups in topological order.
        name: for people.
        size: units.
        n, c: output and input channels.
        h, w: height and width of the output.
        stride, k: stride and kernel size.
        macs: multiply-accumulates of the layers that the group reaches.
        multiple: a width is a multiple of this, or the whole group.
        minimum: the fewest units that must stay, at least 1.
        choices: the widths, ascending and `size` the last, where they are no multiples.
    """

    index: int
    name: str
    size: int
    n: int = 1
    c: int = 1
    h: int = 1
    w: int = 1
    stride: int = 1
    k: int = 1
    macs: int = 0
    multiple: int = 1
    minimum: int = 1
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1 or self.multiple < 1:
            raise UsageError(f"group '{self.name}' has {self.size} units in multiples of {self.multiple}")
        if self.choices and (self.choices[-1] != self.size or list(self.choices) != sorted({*self.choices})):
            raise UsageError(f"group '{self.name}' of {self.size} units cannot have the widths {list(self.choices)}")

    def widths(self) -> Array:
        """The numbers of units that may stay, ascending: int64, ends with `size`, never empty."""
        least = max(1, self.minimum)
        if self.choices:
            return np.array([width for width in self.choices if width >= least or width == self.size], dtype=np.int64)
        first = -(-least // self.multiple) * self.multiple
        return np.append(np.arange(first, self.size, self.multiple, dtype=np.int64), np.int64(self.size))


class Challenge(NamedTuple):
    """A keep that is of interest only where it scores above `least`.

    Its evaluation may stop once it cannot; what it gives is then an estimate, no higher than `least`.
    """

    keep: Array
    least: float


@dataclass(frozen=True)
class Problem:
    """A search: which of the plans that fit scores best?

    Attributes:
        groups: in topological order.
        limits: what a plan may cost.
        cost: exact costs of a keep; monotone (keeping more never costs less) and cheap.
        score: how good a keep is, higher is better; expensive, and the same whenever asked again. A search that
            stops early asks with a `Challenge`.
        losses: for each group float [size + 1], the loss after removing its first k units in its
            order, comparable between groups; None without calibration.
        magnitudes: for each group float [size], the global magnitude of each unit in removal order;
            None where they are not known.
        why: what stands in the way of smaller plans (locks), for the message of a `BudgetError`.
        original_score: the score of the network as it came, where it is known.
    """

    groups: Sequence[GroupInfo]
    limits: Limits
    cost: Callable[[Array], Costs]
    score: Callable[[Any], float]
    losses: Sequence[Array] | None = None
    magnitudes: Sequence[Array] | None = None
    why: str = ""
    original_score: float | None = None

    def __post_init__(self) -> None:
        for what, arrays, extra in (("losses", self.losses, 1), ("magnitudes", self.magnitudes, 0)):
            if arrays is None:
                continue
            if [len(a) for a in arrays] != [g.size + extra for g in self.groups]:
                raise UsageError(f"the {what} do not match the sizes of the groups")
            if not all(np.isfinite(a).all() for a in arrays):
                raise UsageError(f"the {what} are not all finite")

    @cached_property
    def widths(self) -> tuple[Array, ...]:
        """For each group the widths it may take, ascending."""
        return tuple(group.widths() for group in self.groups)

    @cached_property
    def full(self) -> Array:
        """The keep that removes nothing."""
        return np.array([group.size for group in self.groups], dtype=np.int64)

    @cached_property
    def smallest(self) -> Array:
        """The keep that removes all it may."""
        return np.array([widths[0] for widths in self.widths], dtype=np.int64)

    @cached_property
    def original(self) -> Costs:
        """The costs of the network as it came."""
        return self.cost(self.full)

    @cached_property
    def floor(self) -> Costs:
        """The smallest costs that any plan can reach, resource by resource."""
        return self.cost(self.smallest)

    @cached_property
    def tightest(self) -> Key:
        """The resource whose limit leaves least of its reachable range; flops without limits."""
        shares = {
            key: (limit - self.floor.of(key)) / max(self.original.of(key) - self.floor.of(key), 1)
            for key, limit in self.limits.items()
        }
        return min(shares, key=lambda key: shares[key], default="flops")

    @cached_property
    def curved(self) -> tuple[bool, ...]:
        """For each group whether a cost grows with the square of its width (in and out of one layer)."""
        return tuple(self._curved(group) for group in range(len(self.groups)))

    def _curved(self, group: int) -> bool:
        widths, tried = self.widths[group], self.full.copy()
        if len(widths) < 3:
            return False
        places = [int(widths[place]) for place in (0, len(widths) // 2, -1)]
        costs: list[Costs] = []
        for place in places:
            tried[group] = place
            costs.append(self.cost(tried))
        (a, b, c), (x, y, z) = places, costs
        return any(
            (y.of(key) - x.of(key)) * (c - a) != (z.of(key) - x.of(key)) * (b - a) for key, _ in self.limits.items()
        )

    def scores(self, keeps: Sequence[Array | Challenge]) -> Generator[float, None, None]:
        """The scores of some keeps, one after another."""
        for keep in keeps:
            yield float(self.score(keep))

    def fits(self, keep: Array) -> bool:
        """Whether a keep meets every limit."""
        return self.limits.admit(self.cost(keep))

    def down(self, wanted: Array) -> Array:
        """The widest feasible keep nowhere above `wanted` (float [groups]), or the smallest width."""
        flat, starts, reach = self._by_group
        asked = np.minimum(np.floor(wanted), self.full).astype(np.int64) + reach * np.arange(len(starts))
        return np.asarray(flat[np.maximum(flat.searchsorted(asked, side="right") - 1, starts)] % reach)

    @cached_property
    def _by_group(self) -> tuple[Array, Array, int]:
        """All widths one group after another, each group's far above the one before; where each begins; how far."""
        reach = int(self.full.max(initial=0)) + 1
        flat = np.concatenate([widths + reach * group for group, widths in enumerate(self.widths)])
        starts = np.cumsum([0, *map(len, self.widths)])[:-1]
        return flat, starts, reach

    def wider(self, group: int, width: int) -> int | None:
        """The next width above `width` that a group may take; None for the whole group."""
        widths = self.widths[group]
        place = int(widths.searchsorted(width, side="right"))
        return int(widths[place]) if place < len(widths) else None

    def check_reachable(self) -> None:
        """Check that some plan fits.

        Raises:
            BudgetError: even the smallest keep exceeds a limit; names the smallest reachable values.
        """
        missed = [(key, limit) for key, limit in self.limits.items() if self.floor.of(key) > limit]
        if not missed:
            return
        wanted = ", ".join(spelled(key, limit) for key, limit in missed)
        least = {key: (self.floor.of(key), self.floor.of(key) / max(self.original.of(key), 1)) for key, _ in missed}
        reached = ", ".join(f"{spelled(key, n)} ({share:.4f} of the original)" for key, (n, share) in least.items())
        raise BudgetError(f"{wanted} is out of reach: the smallest reachable is {reached}", hint=self.why or None)
