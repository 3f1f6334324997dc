"""Operators that mix the indices of some axes and leave the others alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amcc.ir import Node
from amcc.passes.rules.rule import UNKNOWN, Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation

    Axes = Callable[[Relation, Node], set[int] | None]
    """The axes of input 0 that a node mixes; None if that is not known."""


def _mixes(axes: Axes) -> Rule:
    """The result has input 0's shape; mixed axes are locked, as are all the other inputs."""

    def relate(r: Relation, node: Node) -> None:
        mixed = axes(r, node)
        if mixed is None:
            UNKNOWN.relate(r, node)
            return
        x = node.inputs[0]
        for axis in mixed:
            r.lock(r.axis(x, axis), (x, axis), f"{node.op} mixes this axis")
        for output in node.outputs:
            if output:
                r.set(output, r.all_axes(x))

    return Rule(relate)


def _one(default: int) -> Axes:
    def axes(r: Relation, node: Node) -> set[int] | None:
        axis = node.attributes.get("axis", default)
        assert isinstance(axis, int)
        return {axis % r.rank(node.inputs[0])}

    return axes


def _softmax(r: Relation, node: Node) -> set[int] | None:
    """Before opset 13 everything from `axis` on is one row."""
    rank = r.rank(node.inputs[0])
    modern = r.graph.opset >= 13
    axis = node.attributes.get("axis", -1 if modern else 1)
    assert isinstance(axis, int)
    return {axis % rank} if modern else set(range(axis % rank if rank else 0, rank))


def _channel(r: Relation, node: Node) -> set[int] | None:
    return {1}


def _cumulative(r: Relation, node: Node) -> set[int] | None:
    axis = r.constant(node.inputs[1])
    return None if axis is None else {int(axis.reshape(-1)[0]) % r.rank(node.inputs[0])}


def reduced_axes(r: Relation, node: Node) -> set[int] | None:
    """The axes that a reduction sums up, from its attribute or its second input."""
    rank = r.rank(node.inputs[0])
    listed = node.attributes.get("axes")
    if node.input(1):
        constant = r.constant(node.input(1))
        if constant is None:
            return None
        listed = tuple(int(a) for a in constant.reshape(-1))
    if not listed:
        return set() if node.attributes.get("noop_with_empty_axes", 0) else set(range(rank))
    assert isinstance(listed, tuple)
    return {int(a) % rank for a in listed}


def _relate_reduction(r: Relation, node: Node) -> None:
    _reduce(r, node, reduced_axes(r, node))


def _relate_arg(r: Relation, node: Node) -> None:
    _reduce(r, node, _one(0)(r, node))


def _reduce(r: Relation, node: Node, mixed: set[int] | None) -> None:
    """Reduced axes are computed over and vanish (or stay with length 1)."""
    if mixed is None:
        UNKNOWN.relate(r, node)
        return
    x = node.inputs[0]
    for axis in mixed if node.op.startswith("Reduce") else ():
        r.inexact(r.axis(x, axis), (x, axis), f"{node.op} computes over this axis")
    keep = bool(node.attributes.get("keepdims", 1))
    out = [None if a in mixed else r.axis(x, a) for a in range(r.rank(x)) if keep or a not in mixed]
    r.set(node.outputs[0], out)


_REDUCTIONS = [f"Reduce{kind}" for kind in "Mean Sum Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split()]

RULES = {
    **table(_REDUCTIONS, Rule(_relate_reduction)),
    **table(("ArgMax", "ArgMin"), Rule(_relate_arg)),
    **table(("Softmax", "LogSoftmax", "Hardmax"), _mixes(_softmax)),
    "LpNormalization": _mixes(_one(-1)),
    "LRN": _mixes(_channel),
    "CumSum": _mixes(_cumulative),
}
