"""Operators that read or write at indices given as data: Gather and Scatter of elements and slices, Compress.

Where the indices are constant, they are an index map; where only run time knows them, the axis that they
point into is locked. All other axes keep their meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

_AT_RUN_TIME = "read or written at indices that only run time knows"


# -- GatherND, ScatterND -----------------------------------------------------------------------------


def _pointed(graph: Graph, node: Node) -> tuple[int, int]:
    """The axes of the data that `[..., k]` indices point into: first and end."""
    depth = graph.shape(node.inputs[1])[-1]
    first = node.attributes.get("batch_dims", 0)
    assert isinstance(first, int)
    return first, first + depth if isinstance(depth, int) else len(graph.shape(node.inputs[0]))


def _rows(graph: Graph, node: Node) -> tuple[Array, list[int]] | None:
    """Constant indices `[q..., k]`, none negative, and the lengths they point into.

    None if only run time knows, or if there are none.
    """
    first, end = _pointed(graph, node)
    indices, lengths = graph.params.get(node.inputs[1]), graph.shape(node.inputs[0])[first:end]
    sizes = [n for n in lengths if isinstance(n, int)]
    if indices is None or not indices.size or first or len(sizes) < len(lengths):
        return None
    return np.where(indices < 0, indices + sizes, indices), sizes


def _lines(rows: Array) -> list[tuple[int | None, Array]] | None:
    """If every pointed axis is read along an axis of `q` of its own: for each that axis and the indices there.

    The axis is None where one index stands for all; the result is None if the indices are no such grid.
    """
    found: list[tuple[int | None, Array]] = []
    for axis in range(rows.shape[-1]):
        column = rows[..., axis]
        along = [q for q in range(column.ndim) if (column != column.take([0], q)).any()]
        if len(along) > 1:
            return None
        q = along[0] if along else None
        found.append(
            (q, column.reshape(-1)[:1] if q is None else np.moveaxis(column, q, 0).reshape(column.shape[q], -1)[:, 0])
        )
    used = [q for q, _ in found if q is not None]
    return found if len(used) == len(set(used)) else None


def _merged(r: Relation, value: str, axes: range) -> Axis:
    """Axes of known length as one."""
    parts: list[tuple[Axis, int]] = []
    for axis in axes:
        n = r.shape(value)[axis]
        if not isinstance(n, int):
            return None
        parts.append((r.axis(value, axis), n))
    return r.grid(*parts)


def _relate_gather_nd(r: Relation, node: Node) -> None:
    """Data `[batch..., pointed..., rest...]` at `[batch..., q..., k]` gives `[batch..., q..., rest...]`."""
    x, indices = node.inputs[:2]
    first, end = _pointed(r.graph, node)
    depth = r.rank(indices) - 1
    batch: list[Axis] = []
    for axis in range(first):
        batch.append(r.axis(x, axis))
        r.same(batch[-1], r.axis(indices, axis), (indices, axis))
    known = _rows(r.graph, node)
    if known is None:
        for axis in range(first, end):
            r.lock(r.axis(x, axis), (x, axis), _AT_RUN_TIME)
        middle = [r.axis(indices, axis) for axis in range(first, depth)]
    else:
        middle = _chosen(r, x, *known)
    r.set(node.outputs[0], [*batch, *middle, *(r.axis(x, axis) for axis in range(end, r.rank(x)))])


def _chosen(r: Relation, x: str, rows: Array, sizes: list[int]) -> list[Axis]:
    """The axes `q...` of what constant indices read."""
    lengths, lines = rows.shape[:-1], _lines(rows)
    if lines is None:
        whole = _merged(r, x, range(len(sizes)))
        return r.split(None if whole is None else whole[_flat(rows, sizes)], lengths, (x, 0))
    middle: list[Axis] = [None] * len(lengths)
    for axis, (q, line) in enumerate(lines):
        own = r.axis(x, axis)
        if own is None:
            continue
        if q is None:
            r.lock(own[line], (x, axis), "taken out as a single index")
        else:
            middle[q] = own[line]
    return middle


def _flat(rows: Array, sizes: list[int]) -> Array:
    """`[n]` places in the merged axes."""
    return np.asarray(np.ravel_multi_index(tuple(rows.reshape(-1, len(sizes)).T), sizes))


def _relate_scatter_nd(r: Relation, node: Node) -> None:
    """Data `[pointed..., rest...]` with updates `[q..., rest...]` put in at `[q..., k]`."""
    x, indices, updates = node.inputs[:3]
    _, end = _pointed(r.graph, node)
    depth = r.rank(indices) - 1
    known = _rows(r.graph, node)
    if known is None:
        for axis in range(end):
            r.lock(r.axis(x, axis), (x, axis), _AT_RUN_TIME)
        for axis in range(depth):
            r.lock(r.axis(updates, axis), (updates, axis), _AT_RUN_TIME)
    else:
        _written(r, x, updates, *known)
    for axis in range(end, r.rank(x)):
        own = axis - end + depth
        r.same(r.axis(x, axis), r.axis(updates, own), (updates, own))
    r.set(node.outputs[0], r.all_axes(x))


def _written(r: Relation, x: str, updates: str, rows: Array, sizes: list[int]) -> None:
    """What is put in at constant indices goes with the place that it is put at."""
    why = "written over an axis that stays"
    lengths, lines = rows.shape[:-1], _lines(rows)
    if lines is None:
        whole, put = _merged(r, x, range(len(sizes))), _merged(r, updates, range(len(lengths)))
        r.same(put, None if whole is None else whole[_flat(rows, sizes)], (updates, 0), why)
        return
    taken: set[int] = set()
    for axis, (q, line) in enumerate(lines):
        own = r.axis(x, axis)
        if q is None:
            r.lock(None if own is None else own[line], (x, axis), "written at a single index")
        else:
            taken.add(q)
            r.same(r.axis(updates, q), None if own is None else own[line], (updates, q), why)
    for q in range(len(lengths)):
        if q not in taken:
            r.lock(r.axis(updates, q), (updates, q), "written to the same places again")


def _respell_nd(shrink: Respell, node: Node) -> Node:
    """Constant indices lose the rows of what is gone, and point past it."""
    x, array = node.inputs[0], shrink.constant(node.inputs[1])
    if array is None or _rows(shrink.graph, node) is None:
        return node
    rows = node.inputs[2] if node.op == "ScatterND" else node.outputs[0]
    for axis in range(array.ndim - 1):
        array = array.take(shrink.kept(rows, axis), axis)
    columns = []
    for axis in range(array.shape[-1]):
        n = shrink.graph.shape(x)[axis]
        column = array[..., axis]
        columns.append(np.searchsorted(shrink.kept(x, axis), np.where(column < 0, column + n, column)))
    return shrink.with_constant(node, 1, np.stack(columns, -1).astype(array.dtype))


# -- GatherElements, ScatterElements -----------------------------------------------------------------


def _along(r: Relation, node: Node) -> int:
    axis = node.attributes.get("axis", 0)
    assert isinstance(axis, int)
    return axis % r.rank(node.inputs[0])


def _head(axis: Axis, n: int | str) -> Axis:
    """The first n indices."""
    return axis[:n] if axis is not None and isinstance(n, int) else axis


def _relate_gather_elements(r: Relation, node: Node) -> None:
    """Off the axis that is pointed into, indices line up with the first ones of the data."""
    x, indices = node.inputs[:2]
    along = _along(r, node)
    r.lock(r.axis(x, along), (x, along), _AT_RUN_TIME)
    for axis in range(r.rank(x)):
        if axis != along:
            r.same(_head(r.axis(x, axis), r.shape(indices)[axis]), r.axis(indices, axis), (indices, axis))
    r.set(node.outputs[0], r.all_axes(indices))


def _relate_scatter_elements(r: Relation, node: Node) -> None:
    x, indices, updates = node.inputs[:3]
    along = _along(r, node)
    for value in (x, indices, updates):
        r.lock(r.axis(value, along), (value, along), _AT_RUN_TIME)
    for axis in range(r.rank(x)):
        if axis != along:
            head = _head(r.axis(x, axis), r.shape(indices)[axis])
            r.same(head, r.axis(indices, axis), (indices, axis))
            r.same(head, _head(r.axis(updates, axis), r.shape(indices)[axis]), (updates, axis))
    r.set(node.outputs[0], r.all_axes(x))


# -- choices along one axis --------------------------------------------------------------------------


def _relate_compress(r: Relation, node: Node) -> None:
    """How many indices are chosen is data: the axis, or without one the whole tensor, is locked."""
    x, axis = node.inputs[0], node.attributes.get("axis")
    if not isinstance(axis, int):
        r.lock_value(x, "Compress flattens it")
        r.set(node.outputs[0], [None])
        return
    along = axis % r.rank(x)
    r.lock(r.axis(x, along), (x, along), "chosen by a condition")
    r.set(node.outputs[0], [None if a == along else r.axis(x, a) for a in range(r.rank(x))])


def _relate_reverse(r: Relation, node: Node) -> None:
    """Each sample's first entries in time turned round; the batch goes with the lengths."""
    x, lengths = node.inputs[:2]
    batch, time = node.attributes.get("batch_axis", 1), node.attributes.get("time_axis", 0)
    assert isinstance(batch, int) and isinstance(time, int)
    time %= r.rank(x)
    r.lock(r.axis(x, time), (x, time), "turned round as far as each sample's length says")
    r.same(r.axis(x, batch), r.axis(lengths, 0), (lengths, 0))
    r.set(node.outputs[0], r.all_axes(x))


def _relate_one_hot(r: Relation, node: Node) -> None:
    """The new axis counts values, its length is data; the others are those of the indices."""
    x, y = node.inputs[0], node.outputs[0]
    axis = node.attributes.get("axis", -1)
    assert isinstance(axis, int)
    along = axis % r.rank(y)
    out = r.all_axes(x)
    r.set(y, [*out[:along], None, *out[along:]])


RULES = {
    "GatherND": Rule(_relate_gather_nd, respell=_respell_nd),
    "ScatterND": Rule(_relate_scatter_nd, respell=_respell_nd),
    "GatherElements": Rule(_relate_gather_elements),
    **table(("Scatter", "ScatterElements"), Rule(_relate_scatter_elements)),
    "Compress": Rule(_relate_compress, periodic=True),
    "ReverseSequence": Rule(_relate_reverse, periodic=True),
    "OneHot": Rule(_relate_one_hot, periodic=True),
}
