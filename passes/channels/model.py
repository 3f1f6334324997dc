"""What the channel analysis finds: groups of units, their slices, and the ledger of locks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from amcc.errors import PlanError
from amcc.ir import Array, Graph

Removal = Mapping[int, Array]
"""For a group's number, the sorted indices of its units that go."""


@dataclass(frozen=True)
class Slice:
    """What a group's units are on one axis of one parameter.

    Attributes:
        flat: the indices on the axis that die with each unit of the group, unit after unit.
        bounds: `[units + 1]` where those of each unit begin in `flat`, and the end.
    """

    param: str
    axis: int
    flat: Array
    bounds: Array

    @cached_property
    def indices(self) -> tuple[Array, ...]:
        """For each unit of the group, the indices on the axis that die with it."""
        return tuple(self.flat[a:b] for a, b in itertools.pairwise(self.bounds.tolist()))


@dataclass(frozen=True)
class Group:
    """Units with the same footprint: one decision of the search.

    Attributes:
        index: position in `Channels.groups`, in topological order.
        name: of the first parameter it cuts, made unique.
        size: number of units.
        slices: every parameter axis that it cuts.
        start: number of its first unit among all units of the network.
        macs: MACs that go if every unit but the first goes and all other groups stay whole.
        inexact: removal changes what other channels hold (a normalisation over the cut axis).
    """

    index: int
    name: str
    size: int
    slices: tuple[Slice, ...]
    start: int
    macs: int = 0
    inexact: bool = False


@dataclass(frozen=True)
class Lock:
    """Why an axis cannot shrink, and what that costs.

    Attributes:
        value: the tensor, and `axis` its axis, at which the lock was met.
        axes: the parameter axes that it freezes.
        macs: what it keeps out of reach: of the MACs left when a single unit of each group stays, those that
            an index frozen by it takes part in.
    """

    value: str
    axis: int
    node: str
    op: str
    reason: str
    axes: tuple[tuple[str, int], ...]
    macs: int


@dataclass(frozen=True)
class Obstacle:
    """All locks with one reason.

    Attributes:
        locks: how many there are.
        axes: how many parameter axes they freeze, in whole or in part.
        macs: what they keep out of reach together, each multiply-accumulate once; see `Lock`.
    """

    op: str
    reason: str
    locks: int
    axes: int
    macs: int


@dataclass(frozen=True)
class Approximation:
    """A node over whose axis units may go although what it computes of the others changes (`Relation.inexact`).

    Attributes:
        value: the tensor, and `axis` its axis, that the node computes over.
        groups: the numbers of the groups whose units lie on that axis.
    """

    value: str
    axis: int
    node: str
    op: str
    reason: str
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Contraction:
    """A node that sums over an axis which units cut: where a masked network reads zeros.

    Attributes:
        node: the node's name.
        input: the operand that is masked.
        axis: its contracted axis.
    """

    node: str
    input: int
    axis: int


@dataclass(frozen=True)
class Channels:
    """The result of the channel analysis.

    Attributes:
        axes: for each tensor axis that some unit cuts, `[n, k]` unit numbers: index i goes as soon
            as one of the units in row i goes. Units are numbered over the whole network (`Group.start`);
            the number `units` fills rows that hold fewer than k. Equal axes share one array.
        contractions: every place at which a masked network reads zeros.
        approximations: every node that makes the removal of some group inexact.
        obstacles: the ledger summed up by operator and reason, the most MACs out of reach first.
    """

    graph: Graph
    groups: tuple[Group, ...]
    ledger: tuple[Lock, ...]
    axes: Mapping[tuple[str, int], Array]
    contractions: tuple[Contraction, ...]
    approximations: tuple[Approximation, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()

    @cached_property
    def units(self) -> int:
        """Number of units in all groups."""
        return sum(group.size for group in self.groups)

    @cached_property
    def group_of(self) -> Array:
        """`[units + 1]` the group of each unit; -1 for the filler."""
        return np.concatenate([np.repeat(np.arange(len(self.groups)), [g.size for g in self.groups]), [-1]]).astype(int)

    def alive(self, removal: Removal) -> Array:
        """`[units + 1]` bool: the units that stay; the filler always does.

        Raises:
            PlanError: a group or a unit that does not exist.
        """
        alive = np.ones(self.units + 1, bool)
        for index, gone in removal.items():
            if not 0 <= index < len(self.groups):
                raise PlanError(f"there is no group {index}; there are {len(self.groups)}")
            group, gone = self.groups[index], np.asarray(gone, np.int64)
            if gone.size and not (0 <= gone.min() and gone.max() < group.size):
                raise PlanError(f"group '{group.name}' has {group.size} units, the plan removes unit {gone.max()}")
            alive[group.start + gone] = False
        return alive

    def kept(self, removal: Removal) -> dict[tuple[str, int], Array]:
        """The indices that stay, for each (tensor, axis) that changes."""
        alive = self.alive(removal)
        by_array: dict[int, Array] = {}
        result: dict[tuple[str, int], Array] = {}
        for place, rows in self.axes.items():
            if id(rows) not in by_array:
                by_array[id(rows)] = np.flatnonzero(alive[rows].all(axis=1))
            indices = by_array[id(rows)]
            if len(indices) < len(rows):
                result[place] = indices
        return result

    def removal(self, keep: Sequence[int] | Array, orders: Sequence[Array]) -> dict[int, Array]:
        """The removal that leaves `keep[g]` units of each group, first in `orders[g]` going first."""
        return {
            group.index: np.sort(np.asarray(orders[group.index])[: group.size - int(width)])
            for group, width in zip(self.groups, keep, strict=True)
            if int(width) < group.size
        }
