"""Lengths as data: Shape and Size, and what is made from them.

A cut leaves every number that the network computes with as it was: what was measured at run time is put back to
what it was before the cut, and whoever spells a shape with such numbers writes those of its own result anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.evaluate import evaluate
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Rule, carry_through, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _relate_measure(r: Relation, node: Node) -> None:
    """The numbers stay, so that every axis may go."""
    r.all_axes(node.inputs[0])
    r.set(node.outputs[0], [None] * r.rank(node.outputs[0]))


def _respell_measure(shrink: Respell, node: Node) -> Node:
    """What is measured now, times the old lengths, by the new ones."""
    x, y = node.inputs[0], node.outputs[0]
    old, new = (np.array([per_sample(dim) for dim in shape]) for shape in (shrink.graph.shape(x), shrink.shape(x)))
    if node.op == "Size":
        old, new = old.prod(), new.prod()
    else:
        start, end = node.attributes.get("start", 0), node.attributes.get("end", len(old))
        assert isinstance(start, int) and isinstance(end, int)
        old, new = old[start:end], new[start:end]
        unread = np.setdiff1d(np.arange(len(old)), _read(shrink.graph, y, len(old)))
        new[unread] = old[unread]
    if (old == new).all():
        return node
    measured = shrink.step(node, node.op, node.inputs, shrink.graph.values[y], **node.attributes)
    product = shrink.step(node, "Mul", (measured, shrink.add(node, old, "before")), shrink.graph.values[y])
    return node.replace(op="Div", inputs=(product, shrink.add(node, new, "after")), attributes={})


def _read(graph: Graph, lengths: str, n: int) -> list[int]:
    """Which of the n entries of a Shape anybody reads, as far as that is constant."""
    found: list[int] = []
    for reader in graph.consumers.get(lengths, ()):
        others = [graph.params.get(name) for name in reader.inputs[1:]]
        picks = reader.op in ("Gather", "Slice") and not reader.domain and reader.inputs[0] == lengths
        known = picks and all(array is not None for array in others)
        taken = evaluate(reader, [np.arange(n), *others], graph.opset) if known else None
        if taken is None:
            return list(range(n))
        found += taken[0].reshape(-1).tolist()
    return list(range(n)) if lengths in graph.outputs else found


def _relate_constant_of_shape(r: Relation, node: Node) -> None:
    """All elements are equal, so that any of them may go."""
    r.set(node.outputs[0], [r.fresh(dim) for dim in r.shape(node.outputs[0])])


def _respell_constant_of_shape(shrink: Respell, node: Node) -> Node:
    y = node.outputs[0]
    return shrink.with_lengths(node, 0, shrink.graph.shape(y), shrink.shape(y)) if shrink.changes(y) else node


_MEASURE = Rule(_relate_measure, respell=_respell_measure, periodic=True)

RULES = {
    **table(("Shape", "Size"), _MEASURE),
    "Range": Rule(carry_through),
    "ConstantOfShape": Rule(_relate_constant_of_shape, respell=_respell_constant_of_shape),
}
