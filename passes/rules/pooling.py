"""Pooling: within a channel, over space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Rule, table
from amcc.passes.rules.sliding import numbers, slid

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _relate(r: Relation, node: Node) -> None:
    """Batch and channel stay, over space a window slides.

    Indices that MaxPool gives count elements of the whole tensor: only a MaxUnpool whose result has the same
    channels understands them after a cut.
    """
    x, y = node.inputs[0], node.outputs[0]
    windows = node.attributes.get("kernel_shape", ())
    assert isinstance(windows, tuple)
    strides = numbers(node, "strides", len(windows))
    space = [slid(r, node, x, y, axis, *how) for axis, how in enumerate(zip(windows, strides, strict=True), start=2)]
    for output in filter(None, node.outputs):
        r.set(output, [r.axis(x, 0), r.axis(x, 1), *space])
    for indices in filter(None, node.outputs[1:]):
        if not _only_unpooled(r.graph, indices):
            r.lock(r.axis(x, 1), (x, 1), f"{node.op} gives indices into the whole tensor")


def _relate_global(r: Relation, node: Node) -> None:
    """All of space becomes one number."""
    x, y = node.inputs[0], node.outputs[0]
    for axis in range(2, r.rank(x)):
        r.inexact(r.axis(x, axis), (x, axis), f"{node.op} computes over this axis")
    r.set(y, [r.axis(x, 0), r.axis(x, 1), *[None] * (r.rank(y) - 2)])


def _only_unpooled(graph: Graph, indices: str) -> bool:
    readers = graph.consumers.get(indices, ())
    return indices not in graph.outputs and all(r.op == "MaxUnpool" and r.input(1) == indices for r in readers)


def _relate_unpool(r: Relation, node: Node) -> None:
    x, indices, y = *node.inputs[:2], node.outputs[0]
    maker = r.graph.producers.get(indices)
    known = maker is not None and maker.op == "MaxPool" and r.shape(maker.inputs[0])[1:] == r.shape(y)[1:]
    for axis in (0, 1):
        r.same(r.axis(x, axis), r.axis(indices, axis), (indices, axis))
    if not known:
        r.lock(r.axis(x, 1), (x, 1), f"{node.op} reads indices into a whole tensor")
    r.set(y, [r.axis(x, 0), r.axis(x, 1), *[None] * (r.rank(y) - 2)])


def _respell_unpool(shrink: Respell, node: Node) -> Node:
    if not node.input(2):
        return node
    y = node.outputs[0]
    return shrink.with_lengths(node, 2, shrink.graph.shape(y), shrink.shape(y))


RULES = {
    **table(("AveragePool", "MaxPool", "LpPool"), Rule(_relate, periodic=True)),
    **table(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), Rule(_relate_global, periodic=True)),
    "MaxUnpool": Rule(_relate_unpool, respell=_respell_unpool),
}
