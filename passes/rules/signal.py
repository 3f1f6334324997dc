"""Fourier transforms and matrices: the transformed axes are mixed, the others keep their meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.rules.known import wholes
from amcc.passes.rules.rule import UNKNOWN, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _transformed(graph: Graph, node: Node) -> int | None:
    """The axis of a Fourier transform; None if only run time knows."""
    rank = len(graph.shape(node.inputs[0]))
    axis: int | None
    if node.input(2):
        found = wholes(graph, node.input(2))
        axis = found[0] if found else None
    else:
        said = node.attributes.get("axis", 1 if graph.opset < 20 else -2)
        assert isinstance(said, int)
        axis = said
    return None if axis is None else axis % rank


def _relate_dft(r: Relation, node: Node) -> None:
    """`[..., n, ..., 1 or 2]`; the last axis holds real and imaginary parts."""
    x, y = node.inputs[0], node.outputs[0]
    along = _transformed(r.graph, node)
    if along is None:
        UNKNOWN.relate(r, node)
        return
    for axis in (along, -1):
        r.lock(r.axis(x, axis), (x, axis % r.rank(x)), "transformed along this axis")
    r.set(y, [None if a in (along, r.rank(x) - 1) else r.axis(x, a) for a in range(r.rank(y))])


def _relate_stft(r: Relation, node: Node) -> None:
    """Signals `[N, length, 1 or 2]` give `[N, frames, bins, 2]`."""
    r.set(node.outputs[0], [r.axis(node.inputs[0], 0), None, None, None])


def _relate_det(r: Relation, node: Node) -> None:
    """Matrices `[..., n, n]` give `[...]`."""
    x = node.inputs[0]
    r.set(node.outputs[0], [r.axis(x, axis) for axis in range(r.rank(x) - 2)])


RULES = {
    "DFT": Rule(_relate_dft, periodic=True),
    "STFT": Rule(_relate_stft, periodic=True),
    "Det": Rule(_relate_det, periodic=True),
}
