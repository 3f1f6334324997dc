"""Slice: ranges of indices, at any step and in either direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Node, Value
from amcc.passes.rules.indexing import listed
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import UNKNOWN, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def slices(source: Relation | Respell, node: Node) -> dict[int, slice | None] | None:
    """By axis what is taken, None where only run time knows; None if it knows not even the axes.

    An axis of unknown length counts as whole: nothing is known of its indices.
    """
    shape = source.graph.shape(node.inputs[0])
    starts, ends = listed(source, node, "starts", 1), listed(source, node, "ends", 2)
    axes, steps = listed(source, node, "axes", 3), listed(source, node, "steps", 4)
    if axes is None:
        if node.input(3) or not (known := starts or ends):
            return None
        axes = list(range(len(known)))
    axes = [a % len(shape) for a in axes]
    if starts is None or ends is None or (steps is None and node.input(4)):
        return dict.fromkeys(axes)
    found: dict[int, slice | None] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        n = shape[axis]
        found[axis] = _python_slice(start, end, step, n) if isinstance(n, int) else None
    return found


def _python_slice(start: int, end: int, step: int, n: int) -> slice:
    """The Slice of ONNX as Python's: bounds beyond the ends are clamped."""
    if step > 0:
        begin, stop, _ = slice(max(start, -n), max(end, -n) if end < 0 else end, step).indices(n)
        return slice(begin, stop, step)
    low = start + n if start < 0 else min(start, n - 1)
    high = end + n if -n <= end < 0 else end
    return slice(low, None if high < 0 else high, step)


def _relate_slice(r: Relation, node: Node) -> None:
    """An index map, at any step; bounds that only run time knows lock their axis."""
    x, y = node.inputs[0], node.outputs[0]
    ranges = slices(r, node)
    if ranges is None:
        UNKNOWN.relate(r, node)
        return
    out: list[Axis] = []
    for axis in range(r.rank(x)):
        whole = r.axis(x, axis, single=axis in ranges)
        if whole is not None and axis in ranges:
            taken = ranges[axis]
            if taken is None:
                r.lock(whole, (x, axis), "cut out between bounds that only run time knows")
            whole = None if taken is None else whole[taken]
        out.append(whole)
    r.set(y, out)


def _respell_slice(shrink: Respell, node: Node) -> Node:
    """What is left of each range: again a range, at any step, or else a Gather."""
    x, ranges = node.inputs[0], slices(shrink, node)
    if ranges is None or not any((x, axis) in shrink.cut for axis in ranges):
        return node
    bounds: list[tuple[int, int, int]] = []
    odd: dict[int, Array] = {}
    starts, ends = listed(shrink, node, "starts", 1) or [], listed(shrink, node, "ends", 2) or []
    steps = listed(shrink, node, "steps", 4) or [1] * len(starts)
    for (axis, taken), *spelled in zip(ranges.items(), starts, ends, steps, strict=True):
        start, end, step = spelled
        if (x, axis) in shrink.cut and taken is not None:
            kept = shrink.kept(x, axis)
            chosen = np.arange(shrink.graph.shape(x)[axis])[taken]
            places = np.searchsorted(kept, chosen[np.isin(chosen, kept)])
            found = _range(places)
            if found is None:
                odd[axis] = places
            start, end, step = found or (0, _END, 1)
        bounds.append((start, end, step))
    node = _gathered_first(shrink, node, odd, sole=len(odd) == len(ranges))
    return node if node.op == "Gather" else _with_bounds(shrink, node, bounds)


_END = 2**31 - 1


def _range(places: Array) -> tuple[int, int, int] | None:
    """Start, end and step of evenly spaced places as Slice spells them."""
    if len(places) < 2:
        start = int(places[0]) if len(places) else 0
        return start, start + len(places), 1
    step = int(places[1] - places[0])
    if step == 0 or (np.diff(places) != step).any():
        return None
    end = int(places[-1]) + (1 if step > 0 else -1)
    return int(places[0]), end if end >= 0 else -_END, step


def _gathered_first(shrink: Respell, node: Node, odd: dict[int, Array], *, sole: bool) -> Node:
    """The Slice of what Gathers take along some axes, or the last Gather itself if that is all there is."""
    x, shape = node.inputs[0], list(shrink.shape(node.inputs[0]))
    name = x
    for number, (axis, places) in enumerate(odd.items(), start=1):
        shape[axis] = len(places)
        rows = shrink.add(node, places.astype(np.int64), "survivors")
        if sole and number == len(odd):
            return node.replace(op="Gather", inputs=(name, rows), attributes={"axis": axis})
        described = Value(f"{node.name}/{x}/survivors", shrink.graph.values[x].dtype, tuple(shape))
        name = shrink.step(node, "Gather", (name, rows), described, axis=axis)
    return node.replace(inputs=(name, *node.inputs[1:]))


def _with_bounds(shrink: Respell, node: Node, bounds: Sequence[tuple[int, int, int]]) -> Node:
    starts, ends, steps = (tuple(column) for column in zip(*bounds, strict=True))
    if "starts" in node.attributes:
        return with_attributes(node, starts=starts, ends=ends)
    node = shrink.with_constant(node, 1, np.array(starts, np.int64))
    node = shrink.with_constant(node, 2, np.array(ends, np.int64))
    if not node.input(4) and set(steps) == {1}:
        return node
    if not node.input(3):
        node = shrink.with_constant(node, 3, np.arange(len(bounds)))
    return shrink.with_constant(node, 4, np.array(steps, np.int64))


RULES = {"Slice": Rule(_relate_slice, respell=_respell_slice, periodic=True)}
