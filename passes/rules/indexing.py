"""Operators that pick, join and repeat indices: index maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Node
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import UNKNOWN, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def _listed(source: Relation | Respell, node: Node, attribute: str, index: int) -> list[int] | None:
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
        parts = [r.axis(x, axis) for x in node.inputs]
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
    whole, start = r.axis(x, along), 0
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


def _slices(source: Relation | Respell, node: Node) -> dict[int, tuple[int, int, int]] | None:
    """By axis its (start, end, step), as written; None if only run time knows the axes."""
    shape = source.graph.shape(node.inputs[0])
    starts, ends = _listed(source, node, "starts", 1), _listed(source, node, "ends", 2)
    axes = _listed(source, node, "axes", 3)
    if starts is None or ends is None or (axes is None and node.input(3)):
        return None
    steps = _listed(source, node, "steps", 4) or [1] * len(starts)
    axes = list(range(len(starts))) if axes is None else [a % len(shape) for a in axes]
    return {a: (s, e, t) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)}


def _relate_slice(r: Relation, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    slices = _slices(r, node)
    if slices is None:
        UNKNOWN.relate(r, node)
        return
    out: list[Axis] = []
    for axis in range(r.rank(x)):
        whole = r.axis(x, axis)
        if axis in slices and whole is not None:
            start, end, step = slices[axis]
            part = whole[_python_slice(start, end, step, len(whole))]
            if step != 1 and len(part) > 1:
                r.lock(whole, (x, axis), "taken with a step")
            whole = part
        out.append(whole)
    r.set(y, out)


def _python_slice(start: int, end: int, step: int, n: int) -> slice:
    """The Slice of ONNX as Python's: bounds beyond the ends are clamped."""
    if step > 0:
        begin, stop, _ = slice(max(start, -n), max(end, -n) if end < 0 else end, step).indices(n)
        return slice(begin, stop, step)
    low = start + n if start < 0 else min(start, n - 1)
    high = end + n if -n <= end < 0 else end
    return slice(low, None if high < 0 else high, step)


def _respell_slice(shrink: Respell, node: Node) -> Node:
    x = node.inputs[0]
    slices = _slices(shrink, node)
    if slices is None or not any((x, axis) in shrink.cut for axis in slices):
        return node
    starts, ends = [], []
    for axis, (start, end, step) in slices.items():
        if (x, axis) in shrink.cut and step == 1:
            n = shrink.graph.shape(x)[axis]
            assert isinstance(n, int)
            bounds = _python_slice(start, end, step, n)
            kept = shrink.kept(x, axis)
            start, end = (int(np.searchsorted(kept, b)) for b in (bounds.start, max(bounds.start, bounds.stop)))
        starts.append(start)
        ends.append(end)
    if "starts" in node.attributes:
        return with_attributes(node, starts=tuple(starts), ends=tuple(ends))
    node = shrink.with_constant(node, 1, np.array(starts, np.int64))
    return shrink.with_constant(node, 2, np.array(ends, np.int64))


def _relate_gather(r: Relation, node: Node) -> None:
    """Constant indices are an index map; others may read any index."""
    x, indices = node.inputs[:2]
    along = _axis_of(node, r.rank(x))
    whole, array = r.axis(x, along), r.constant(indices)
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
    x, y = node.inputs[0], node.outputs[0]
    repeats = _listed(r, node, "repeats", 1)
    if repeats is None:
        UNKNOWN.relate(r, node)
        return
    axes = [r.axis(x, a) for a in range(r.rank(x))]
    r.set(y, [None if a is None else np.tile(a, n) for a, n in zip(axes, repeats, strict=True)])


def _relate_expand(r: Relation, node: Node) -> None:
    """An axis made by repetition may shrink as it likes: all its indices are the same."""
    x, y = node.inputs[0], node.outputs[0]
    shape, offset = r.shape(y), r.rank(y) - r.rank(x)
    free = r.constant(node.inputs[1]) is not None
    out: list[Axis] = []
    for axis, dim in enumerate(shape):
        own = axis - offset
        kept = own >= 0 and r.shape(x)[own] == dim
        out.append(r.axis(x, own) if kept else r.fresh(dim) if free else None)
        if own >= 0:
            r.axis(x, own)
    r.set(y, out)


def _respell_expand(shrink: Respell, node: Node) -> Node:
    """Lengths that the input already has are written as 1."""
    x, y = node.inputs[0], node.outputs[0]
    if not shrink.changes(y):
        return node
    new, old = shrink.shape(y), shrink.shape(x)
    has = [None] * (len(new) - len(old)) + list(old)
    target = shrink.constant(node.inputs[1])
    if target is not None and len(target) == len(new):
        spelled = [int(t) if t == 1 else dim if isinstance(dim, int) else 1 for t, dim in zip(target, new, strict=True)]
    else:
        spelled = [dim if isinstance(dim, int) else 1 for dim in new]
    if any(not isinstance(dim, int) and dim != own for dim, own in zip(new, has, strict=True)):
        return node
    return shrink.with_constant(node, 1, np.array(spelled, np.int64))


RULES = {
    "Concat": Rule(_relate_concat),
    "Split": Rule(_relate_split, respell=_respell_split),
    "Slice": Rule(_relate_slice, respell=_respell_slice),
    "Gather": Rule(_relate_gather, respell=_respell_gather),
    "Tile": Rule(_relate_tile),
    "Expand": Rule(_relate_expand, respell=_respell_expand),
}
