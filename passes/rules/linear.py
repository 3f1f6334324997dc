"""Matrix products: Gemm, and MatMul of activations and weights in any place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.rules.rule import Monomial, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _gemm_axes(node: Node) -> tuple[int, int, int, int]:
    """(rows of A, contracted of A, contracted of B, columns of B)."""
    a = (1, 0) if node.attributes.get("transA", 0) else (0, 1)
    b = (1, 0) if node.attributes.get("transB", 0) else (0, 1)
    return (*a, *b)


def _relate_gemm(r: Relation, node: Node) -> None:
    a, b = node.inputs[:2]
    rows, inner_a, inner_b, columns = _gemm_axes(node)
    r.same(r.axis(a, inner_a, single=True), r.axis(b, inner_b, single=True), (b, inner_b))
    out = [r.axis(a, rows), r.axis(b, columns)]
    if bias := node.input(2):
        for back in range(1, min(r.rank(bias), 2) + 1):
            own = r.axis(bias, -back)
            if r.shape(bias)[-back] != 1:
                r.same(out[-back], own, (bias, r.rank(bias) - back))
    r.set(node.outputs[0], out)


def _gemm_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    a, b = node.inputs[:2]
    rows, _, inner_b, columns = _gemm_axes(node)
    return (Monomial(1, ((a, rows), (b, inner_b), (b, columns))),)


def _gemm_contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    return ((0, _gemm_axes(node)[1]),)


def _relate_matmul(r: Relation, node: Node) -> None:
    """`[..., M, K] x [..., K, N]`; a vector on either side loses its axis in the result."""
    a, b = node.inputs[:2]
    rank_a, rank_b = r.rank(a), r.rank(b)
    inner_b = max(rank_b - 2, 0)
    r.same(r.axis(a, -1, single=True), r.axis(b, inner_b, single=True), (b, inner_b))
    out = []
    batch = max(rank_a, rank_b) - 2
    for axis in range(batch):
        own_a, own_b = axis - (batch - (rank_a - 2)), axis - (batch - (rank_b - 2))
        left = r.axis(a, own_a) if own_a >= 0 else None
        right = r.axis(b, own_b) if own_b >= 0 else None
        if own_a >= 0 and own_b >= 0 and r.shape(a)[own_a] != 1 and r.shape(b)[own_b] != 1:
            r.same(left, right, (b, own_b))
        wide = own_a >= 0 and r.shape(a)[own_a] != 1
        out.append(left if wide else right)
    if rank_a > 1:
        out.append(r.axis(a, -2))
    if rank_b > 1:
        out.append(r.axis(b, -1))
    r.set(node.outputs[0], out)


def _matmul_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """The product of the result's axes and the contracted one, named by a weight's own axes where there is a weight."""
    (a, b), y = node.inputs[:2], node.outputs[0]
    rank_a, rank_b = len(graph.shape(a)), len(graph.shape(b))
    axes = [(y, axis) for axis in range(len(graph.shape(y)))]
    axes.append((a, rank_a - 1) if a in graph.params else (b, max(rank_b - 2, 0)))
    if rank_b > 1:
        axes[-2] = (b, rank_b - 1)
    if a in graph.params and rank_a > 1:
        axes[-3 if rank_b > 1 else -2] = (a, rank_a - 2)
    return (Monomial(1, tuple(axes)),)


def _matmul_contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    return ((0, len(graph.shape(node.inputs[0])) - 1),)


RULES = {
    "Gemm": Rule(_relate_gemm, _gemm_macs, _gemm_contracts, periodic=True),
    "MatMul": Rule(_relate_matmul, _matmul_macs, _matmul_contracts, periodic=True),
}
