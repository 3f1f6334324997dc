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


# -- Gather ----------------------------------------------------------------------------------------


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
    "Gather": Rule(_relate_gather, respell=_respell_gather, periodic=True),
    "Tile": Rule(_relate_tile, respell=_respell_tile, periodic=True),
    "Expand": Rule(_relate_expand, respell=_respell_expand, periodic=True),
}
