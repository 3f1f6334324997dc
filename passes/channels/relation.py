"""What rules speak to: the cut sets of every tensor axis, and the equations that operators add.

An axis is an array of cut sets, one an index, or None when it is rigid: an axis of length 1 or of a
length only known at run time, or one that has lost its meaning (the spatial axes behind a convolution).
An axis of length `"8*batch"`, a batch merged with eight heads, has eight cut sets, which repeat; rules see it
only if they say that they can handle it (`Rule.periodic`), for all others it is locked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.channels.cutsets import CutSets
from amcc.passes.channels.solution import Solution
from amcc.passes.dims import UNKNOWN, per_sample
from amcc.passes.rules.rule import Rule

Axis = Array | None


class Reason(NamedTuple):
    """Who demanded an equation or a lock, and where: an entry for the ledger."""

    node: str
    op: str
    value: str
    axis: int
    text: str


class Relation:
    """The system of cut sets of one graph while rules are adding to it.

    Attributes:
        axes: by tensor, its axes; parameters appear axis by axis as rules ask for them.
        reasons: what an equation's or lock's tag means.
        exact: whether axes whose removal changes what other channels hold are locked.
        approximations: cut sets that may go although it changes what is left, and why (`inexact`).
    """

    def __init__(self, graph: Graph, *, exact: bool = False) -> None:
        self.graph = graph
        self.exact = exact
        self.cuts = CutSets()
        self.axes: dict[str, list[Axis]] = {}
        self.reasons: list[Reason] = []
        self.approximations: list[tuple[Array, Reason]] = []
        self._whole: set[int] = set()
        self._node: Node | None = None
        self._reads: tuple[str, ...] = ()
        self._periodic = False
        self._grids: dict[bytes, tuple[tuple[Axis, int], ...]] = {}
        self._touched: set[tuple[str, int]] = set()
        self._ignored: dict[tuple[str, int], Reason] = {}

    # -- what rules use --------------------------------------------------------------------------

    def shape(self, value: str) -> tuple[int | str, ...]:
        """The shape of a tensor."""
        return self.graph.shape(value)

    def rank(self, value: str) -> int:
        """The number of axes of a tensor."""
        return len(self.graph.shape(value))

    def axis(self, value: str, axis: int, *, single: bool = False) -> Axis:
        """The cut sets of one axis, counted from the end if negative; a parameter's are made on first use.

        Args:
            single: the rule looks at single indices, so that an axis whose cut sets repeat is locked.
        """
        shape = self.graph.shape(value)
        axis %= len(shape)
        self._touched.add((value, axis))
        axes = self.axes.get(value)
        if axes is None:
            axes = self.axes[value] = [None] * len(shape)
        size, cuts = shape[axis], axes[axis]
        if cuts is None:
            if value in self.graph.params:
                axes[axis] = self.fresh(size)
        elif not isinstance(size, int) and (single or not self._periodic):
            self.lock(cuts, (value, axis), "merged with an axis of unknown length")
            axes[axis] = None
        return axes[axis]

    def all_axes(self, value: str) -> list[Axis]:
        """Every axis of a tensor."""
        return [self.axis(value, a) for a in range(self.rank(value))]

    def set(self, value: str, axes: Sequence[Axis]) -> None:
        """The axes of a node's output; lengths are checked, and an axis of length 1 or of unknown length stays."""
        if not value:
            return
        result: list[Axis] = []
        for number, (dim, axis) in enumerate(zip(self.shape(value), axes, strict=True)):
            if axis is not None:
                if dim == UNKNOWN:
                    self.lock(axis, (value, number), "its length behind the operator is not known")
                    axis = None
                elif len(axis) != dim and len(axis) != per_sample(dim):
                    raise AssertionError(f"'{value}' has an axis of {dim}, its rule says {len(axis)}")
                elif dim == 1:
                    self.lock(axis, (value, number), "the only index of its axis")
                    axis = None
            result.append(axis)
        self.axes[value] = result

    def fresh(self, n: int | str) -> Axis:
        """New cut sets for an axis of length n."""
        return self.cuts.fresh(n) if isinstance(n, int) and n > 1 else None

    def same(
        self, a: Axis, b: Axis, where: tuple[str, int], why: str = "aligned with an axis that cannot shrink"
    ) -> None:
        """The two axes lose the same indices; one that meets a rigid axis is locked."""
        if a is b:
            return
        tag = self._tag(where, why)
        if a is None or b is None:
            rest = b if a is None else a
            assert rest is not None
            self.cuts.lock(rest, tag)
        else:
            self.cuts.equal(a, b, tag)

    def stays(self, axis: Axis) -> bool:
        """Whether an axis is known to be locked as a whole, so that nothing need be said of it any more."""
        return axis is None or id(axis) in self._whole

    def lock(self, axis: Axis, where: tuple[str, int], why: str) -> None:
        """No index of the axis may go."""
        if axis is not None:
            self._whole.add(id(axis))  # its lock keeps it alive
            self.cuts.lock(axis, self._tag(where, why))

    def inexact(self, axis: Axis, where: tuple[str, int], why: str) -> None:
        """The node computes something over the axis (a mean, a softmax) that is another once indices are gone.

        They may go unless only exact cuts are asked for; their group is marked, and the certificate
        compares with the original computing that node over the survivors.
        """
        if self.exact or not isinstance(self.shape(where[0])[where[1]], int):
            self.lock(axis, where, f"{why} (inexact)")
        elif axis is not None:
            self.approximations.append((axis, self._reason(where, why)))

    def lock_value(self, value: str, why: str) -> None:
        """No index of any axis of the tensor may go."""
        if value and self.graph.values[value].shape is not None:
            for number in range(self.rank(value)):
                self._touched.add((value, number))
                self._ignored.setdefault((value, number), self._reason((value, number), why))

    def grid(self, *parts: tuple[Axis, int]) -> Axis:
        """The row-major merge of axes, each with its length: an index carries the union of its parts' cut sets."""
        if len(parts) == 1:
            alone = parts[0][0]
            return None if alone is None else alone[:]  # another axis, of which nothing is said yet (`stays`)
        shape = [n for _, n in parts]
        columns = []
        for position, (axis, n) in enumerate(parts):
            if axis is not None:
                view = [1] * len(parts)
                view[position] = n
                columns.append(axis.reshape(view))
        if not columns:
            return None
        merged = columns[0] if len(columns) == 1 else self.cuts.union(*columns)
        if merged.shape != tuple(shape):
            merged = np.ascontiguousarray(np.broadcast_to(merged, shape))
        whole = merged.reshape(-1)
        if len(columns) > 1:
            self._grids[whole.tobytes()] = parts
        return whole

    def split(self, axis: Axis, shape: Sequence[int], where: tuple[str, int]) -> list[Axis]:
        """The axes of a row-major split: index (i, j) goes as soon as row i or column j goes."""
        if axis is None or not len(axis):
            return [None] * len(shape)
        if len(shape) == 1 and axis[0] != axis[-1]:
            return [axis[:]]
        if known := self._regrouped(axis, shape):
            return known
        cells = axis.reshape(shape)
        varies = [
            n > 1 and bool(np.count_nonzero(cells != cells.take([0], position))) for position, n in enumerate(shape)
        ]
        if sum(varies) == 1:
            position = varies.index(True)
            line = cells[tuple(slice(None) if p == position else 0 for p in range(len(shape)))]
            return [line if p == position else None for p in range(len(shape))]
        if axis.min() < 0 and (lines := self.cuts.lines(axis, shape)) is not None:
            return [line if line.any() else None for line in lines]
        axes: list[Axis] = [self.fresh(n) if v else None for n, v in zip(shape, varies, strict=True)]
        whole = self.grid(*zip(axes, shape, strict=True))
        self.same(
            axis,
            whole if whole is not None else self.cuts.never(math.prod(shape)),
            where,
            "cut only in whole rows or columns",
        )
        return axes

    def _regrouped(self, axis: Array, shape: Sequence[int]) -> list[Axis] | None:
        """The split of an axis that `grid` merged, where it falls between the parts."""
        parts = self._grids.get(axis.tobytes())
        if parts is None:
            return None
        axes: list[Axis] = []
        for n in shape:
            taken: list[tuple[Axis, int]] = []
            while parts and math.prod(size for _, size in taken) < n:
                taken.append(parts[0])
                parts = parts[1:]
            if math.prod(size for _, size in taken) != n:
                return None
            axes.append(self.grid(*taken) if taken else None)
        return axes

    def constant(self, value: str) -> Array | None:
        """The array of a tensor that is a parameter (a folded constant), else None."""
        return self.graph.params.get(value) if value else None

    # -- what the analysis uses ------------------------------------------------------------------

    def enter(self, node: Node, rule: Rule) -> None:
        """A node's rule begins to speak."""
        self._node, self._reads = node, node.reads
        self._periodic = rule.periodic
        self._touched = set()

    def leave(self) -> None:
        """A node's rule has spoken: axes of its inputs that it did not mention are mixed by it."""
        assert self._node is not None
        for value in dict.fromkeys(self._reads):
            for axis in range(self.graph.values[value].rank or 0):
                if (value, axis) not in self._touched:
                    self._ignored.setdefault(
                        (value, axis), self._reason((value, axis), f"{self._node.op} mixes this axis")
                    )
        self._node = None

    def hold(self, solution: Solution, units: Array, where: tuple[str, int], why: str) -> None:
        """Units that stay, all else as solved."""
        solution.lock(units, self._tag(where, why))

    def finish(self) -> None:
        """Lock whatever some node ignored; parameters may have got their axes from a later node."""
        for (value, axis), reason in self._ignored.items():
            cuts = self.axes[value][axis] if value in self.axes else None
            if cuts is not None:
                self.reasons.append(reason)
                self.cuts.lock(cuts, len(self.reasons) - 1)

    def _reason(self, where: tuple[str, int], why: str) -> Reason:
        node = self._node
        return Reason(node.name if node else "", node.op if node else "", where[0], where[1], why)

    def _tag(self, where: tuple[str, int], why: str) -> int:
        self.reasons.append(self._reason(where, why))
        return len(self.reasons) - 1
