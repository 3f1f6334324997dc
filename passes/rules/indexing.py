"""Operators that pick, join and repeat indices: index maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Node, Value
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import UNKNOWN, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def listed(source: Relation | Respell, node: Node, attribute: str, index: int) -> list[int] | None:
    """A list of ints from an attribute (older opsets) or from a constant input; None if only run time knows."""
    said = node.attributes.get(attribute)
    if isinstance(said, tuple):
        return [int(s) for s in said]
    array = source.constant(node.input(index))
    return None if array is None else [int(s) for s in array.reshape(-1)]


def _axis_of(node: Node, rank: int, default: int = 0) -> int:
    axis = node.attributes.get("axis", default)
    assert isinstance(axis, int)
    return axis % rank if rank else 0


# -- Concat, Split ---------------------------------------------------------------------------------


def _relate_concat(r: Relation, node: Node) -> None:
    y = node.outputs[0]
    along = _axis_of(node, r.rank(y), default=1)
    out: list[Axis] = []
    for axis in range(r.rank(y)):
        parts = [r.axis(x, axis, single=axis == along) for x in node.inputs]
        if axis == along:
            out.append(_joined(r, node.inputs, parts, along))
        else:
            known = next((p for p in parts if p is not None), None)
            for x, part in zip(node.inputs, parts, strict=True):
                r.same(known, part, (x, axis))
            out.append(None if any(p is None for p in parts) else known)
    r.set(y, out)


def _joined(r: Relation, inputs: Sequence[str], parts: Sequence[Axis], axis: int) -> Axis:
    sizes = [r.shape(x)[axis] for x in inputs]
    if all(p is None for p in parts):
        return None
    if not all(isinstance(s, int) for s in sizes):
        for x, part in zip(inputs, parts, strict=True):
            r.lock(part, (x, axis), "joined along an axis of unknown length")
        return None
    return np.concatenate([r.cuts.never(int(s)) if p is None else p for p, s in zip(parts, sizes, strict=True)])


def _relate_split(r: Relation, node: Node) -> None:
    x = node.inputs[0]
    along = _axis_of(node, r.rank(x))
    whole, start = r.axis(x, along, single=True), 0
    for output in node.outputs:
        size = r.shape(output)[along] if output else None
        if not isinstance(size, int):
            UNKNOWN.relate(r, node)
            return
        part = None if whole is None else whole[start : start + size]
        r.set(output, [part if a == along else r.axis(x, a) for a in range(r.rank(x))])
        start += size


def _respell_split(shrink: Respell, node: Node) -> Node:
    along = _axis_of(node, len(shrink.graph.shape(node.inputs[0])))
    if (node.inputs[0], along) not in shrink.cut:
        return node
    sizes = [shrink.size(output, along) for output in node.outputs]
    said = "split" in node.attributes or node.input(1)
    if not said and len(set(sizes)) == 1:
        return node
    if shrink.graph.opset < 13:
        return with_attributes(node, split=tuple(sizes))
    attributes = {k: v for k, v in node.attributes.items() if k != "num_outputs"}
    return shrink.with_constant(node.replace(attributes=attributes), 1, np.array(sizes, np.int64))


# -- Slice, Gather ---------------------------------------------------------------------------------


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


def _relate_gather(r: Relation, node: Node) -> None:
    """Constant indices are an index map; others may read any index."""
    x, indices = node.inputs[:2]
    along = _axis_of(node, r.rank(x))
    whole, array = r.axis(x, along, single=True), r.constant(indices)
    middle: list[Axis]
    if whole is None:
        middle = [None] * r.rank(indices) if array is not None else r.all_axes(indices)
    elif array is None:
        r.lock(whole, (x, along), "read at indices that only run time knows")
        middle = r.all_axes(indices)
    elif array.ndim == 0:
        r.lock(whole[array.reshape(1)], (x, along), "taken out as a single index")
        middle = []
    else:
        middle = r.split(whole[array.reshape(-1)], array.shape, (x, along))
    before = [r.axis(x, a) for a in range(along)]
    after = [r.axis(x, a) for a in range(along + 1, r.rank(x))]
    r.set(node.outputs[0], [*before, *middle, *after])


def _respell_gather(shrink: Respell, node: Node) -> Node:
    x, indices, y = node.inputs[0], node.inputs[1], node.outputs[0]
    along = _axis_of(node, len(shrink.graph.shape(x)))
    array = shrink.constant(indices)
    if array is None or not (shrink.changes(x) or shrink.changes(y)):
        return node
    n = shrink.graph.shape(x)[along]
    if not isinstance(n, int):
        return node
    chosen = np.where(array < 0, array + n, array)
    for axis in range(array.ndim):
        chosen = chosen.take(shrink.kept(y, along + axis), axis)
    return shrink.with_constant(node, 1, np.searchsorted(shrink.kept(x, along), chosen).reshape(chosen.shape))


# -- Tile, Expand -----------------------------------------------------------------------------------


def _relate_tile(r: Relation, node: Node) -> None:
    """A repeated axis is a grid: whole repeats may go, and indices from every repeat. Read off the shapes."""
    x, y = node.inputs[0], node.outputs[0]
    counted = r.constant(node.input(1)) is not None and len(node.inputs) == 2
    out: list[Axis] = []
    for axis, (n, total) in enumerate(zip(r.shape(x), r.shape(y), strict=True)):
        own = r.axis(x, axis, single=n != total)
        if n == total:
            out.append(own)
        elif isinstance(n, int) and isinstance(total, int) and n:
            times = total // n
            out.append(r.grid((r.fresh(times) if counted else None, times), (own, n)))
        else:
            r.lock(own, (x, axis), "repeated as often as only run time knows")
            out.append(None)
    r.set(y, out)


def _respell_tile(shrink: Respell, node: Node) -> Node:
    x, y = node.inputs[0], node.outputs[0]
    repeats = shrink.constant(node.input(1))
    if repeats is None or not shrink.changes(y):
        return node
    new, old = shrink.shape(y), shrink.shape(x)
    spelled = [
        total // n if isinstance(n, int) and isinstance(total, int) and n else int(times)
        for times, n, total in zip(repeats, old, new, strict=True)
    ]
    return shrink.with_constant(node, 1, np.array(spelled, np.int64))


def _relate_expand(r: Relation, node: Node) -> None:
    """An axis made by repetition may shrink as it likes: all its indices are the same."""
    x, y = node.inputs[0], node.outputs[0]
    offset = r.rank(y) - r.rank(x)
    every: list[Axis] = [*[None] * offset, *r.all_axes(x)]
    lengths = [None] * offset + list(r.shape(x))
    pairs = zip(every, lengths, r.shape(y), strict=True)
    r.set(y, [own if n == dim else r.fresh(dim) for own, n, dim in pairs])


def _respell_expand(shrink: Respell, node: Node) -> Node:
    """Lengths that the input already has are written as 1."""
    x, y = node.inputs[0], node.outputs[0]
    if not shrink.changes(y):
        return node
    new, old = shrink.shape(y), shrink.shape(x)
    has = [None] * (len(new) - len(old)) + list(old)
    target = shrink.constant(node.inputs[1])
    if target is None:
        count = shrink.graph.shape(node.inputs[1])[0]
        assert isinstance(count, int)
        told = [1 if n == dim else dim if isinstance(dim, int) else None for n, dim in zip(has, new, strict=True)]
        return shrink.with_entries(node, 1, told[len(told) - count :])
    spelled = [
        1 if t == 1 or not isinstance(dim, int) else dim
        for t, dim in zip(target.tolist(), new[len(new) - len(target) :], strict=True)
    ]
    return shrink.with_constant(node, 1, np.array(spelled, np.int64))


RULES = {
    "Concat": Rule(_relate_concat, periodic=True),
    "Split": Rule(_relate_split, respell=_respell_split, periodic=True),
    "Slice": Rule(_relate_slice, respell=_respell_slice, periodic=True),
    "Gather": Rule(_relate_gather, respell=_respell_gather, periodic=True),
    "Tile": Rule(_relate_tile, respell=_respell_tile, periodic=True),
    "Expand": Rule(_relate_expand, respell=_respell_expand, periodic=True),
}
