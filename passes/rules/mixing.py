"""Operators that compute over some axes and leave the others alone.

Three kinds, by what they make of an index that is gone. A sum, or anything that starts from one (a norm, a running
sum), reads a zero there, which changes nothing: exact. A mean, a maximum or a softmax is another one over the
survivors: inexact. Where the result holds indices or picks elements, they would mean something else: locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.rules.rule import UNKNOWN, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

    Axes = Callable[[Graph, Node], Iterable[int] | None]
    """The axes of input 0 that a node computes over; None if only run time knows them."""


def _computes(axes: Axes, op: str) -> Rule:
    """The result has input 0's shape, and what stands there follows from the whole of these axes."""
    return _rule(axes, op, lambda node, every, over: every)


def _reduces(axes: Axes, op: str) -> Rule:
    """The axes vanish, or stay with length 1."""

    def left(node: Node, every: list[Axis], over: set[int]) -> list[Axis]:
        keep = bool(node.attributes.get("keepdims", 1))
        return [None if a in over else own for a, own in enumerate(every) if keep or a not in over]

    return _rule(axes, op, left)


def _rule(axes: Axes, op: str, result: Callable[[Node, list[Axis], set[int]], list[Axis]]) -> Rule:
    """`result` makes the output's axes of the input's and of those that are computed over."""

    def relate(r: Relation, node: Node) -> None:
        over = axes(r.graph, node)
        if over is None:
            UNKNOWN.relate(r, node)
            return
        over = list(over)
        _over(r, node, over)
        r.set(node.outputs[0], result(node, r.all_axes(node.inputs[0]), set(over)))

    return Rule(relate, contracts=_contracts(axes, op), periodic=True)


def _over(r: Relation, node: Node, axes: Iterable[int]) -> None:
    """What becomes of the axes that a node computes over."""
    x = node.inputs[0]
    for axis in axes:
        if node.op in _INDICES:
            r.lock(r.axis(x, axis), (x, axis), f"{node.op} gives indices along this axis")
        elif node.op not in _SUMS or not isinstance(r.shape(x)[axis], int):
            r.inexact(r.axis(x, axis), (x, axis), f"{node.op} computes over this axis")


def _contracts(axes: Axes, op: str) -> Callable[[Graph, Node], tuple[tuple[int, int], ...]]:
    def contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
        return tuple((0, axis) for axis in axes(graph, node) or ()) if op in _SUMS else ()

    return contracts


# -- which axes --------------------------------------------------------------------------------------


def _rank(graph: Graph, node: Node) -> int:
    return len(graph.shape(node.inputs[0]))


def _one(default: int) -> Axes:
    def axes(graph: Graph, node: Node) -> set[int]:
        axis = node.attributes.get("axis", default)
        assert isinstance(axis, int)
        return {axis % _rank(graph, node)}

    return axes


def _softmax(graph: Graph, node: Node) -> Iterable[int]:
    """Before opset 13 everything from `axis` on is one row."""
    if graph.opset >= 13:
        return _one(-1)(graph, node) or ()
    rank, axis = _rank(graph, node), node.attributes.get("axis", 1)
    assert isinstance(axis, int)
    return range(axis % rank if rank else 0, rank)


def _channels(graph: Graph, node: Node) -> set[int]:
    return {1}


def _second_input(graph: Graph, node: Node) -> set[int] | None:
    axis = graph.params.get(node.inputs[1])
    return None if axis is None else {int(axis.reshape(-1)[0]) % _rank(graph, node)}


def reduced_axes(graph: Graph, node: Node) -> set[int] | None:
    """The axes that a reduction computes over, from its attribute or its second input."""
    rank = _rank(graph, node)
    listed = node.attributes.get("axes")
    if node.input(1):
        constant = graph.params.get(node.input(1))
        if constant is None:
            return None
        listed = tuple(int(a) for a in constant.reshape(-1))
    if not listed:
        return set() if node.attributes.get("noop_with_empty_axes", 0) else set(range(rank))
    assert isinstance(listed, tuple)
    return {int(a) % rank for a in listed}


# -- selection ---------------------------------------------------------------------------------------


def _relate_top(r: Relation, node: Node) -> None:
    """Values and indices of the largest elements along an axis; every other axis is left alone."""
    x, axis = node.inputs[0], node.attributes.get("axis", -1)
    assert isinstance(axis, int)
    along = axis % r.rank(x)
    r.lock(r.axis(x, along), (x, along), f"{node.op} picks elements along this axis")
    for count in node.inputs[1:]:
        r.all_axes(count)
    for output in node.outputs:
        r.set(output, [None if a == along else r.axis(x, a) for a in range(r.rank(x))])


_INDICES = frozenset(("ArgMax", "ArgMin"))
_SUMS = frozenset("ReduceSum ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum CumSum LpNormalization".split())
_REDUCTIONS = [f"Reduce{kind}" for kind in "Mean Sum Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split()]

RULES = {
    **{op: _reduces(reduced_axes, op) for op in _REDUCTIONS},
    **{op: _reduces(_one(0), op) for op in sorted(_INDICES)},
    **{op: _computes(_softmax, op) for op in ("Softmax", "LogSoftmax", "Hardmax")},
    "LpNormalization": _computes(_one(-1), "LpNormalization"),
    "LRN": _computes(_channels, "LRN"),
    "CumSum": _computes(_second_input, "CumSum"),
    "CumProd": _computes(_second_input, "CumProd"),
    "TopK": Rule(_relate_top, periodic=True),
}
