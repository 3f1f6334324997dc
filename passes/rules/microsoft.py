"""Fusions that ONNX Runtime's optimiser writes: a standard operator with an activation, a sum, a transposition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.rules import linear, pointwise
from amcc.passes.rules.borrow import borrowed
from amcc.passes.rules.convolution import Convolution
from amcc.passes.rules.locked import LOCKED
from amcc.passes.rules.microsoft_attention import RULES as ATTENTION
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import UNKNOWN, Monomial, Rule, label, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


# -- products --------------------------------------------------------------------------------------


def _order(node: Node, side: str, rank: int) -> list[int]:
    """The operand's axes in the order in which they are multiplied: `transBatch` has the rows in front."""
    order = list(range(rank))
    if rank > 2 and node.attributes.get(f"transBatch{side}", 0):
        order = [*order[1:-1], 0, order[-1]]
    if rank > 1 and node.attributes.get(f"trans{side}", 0):
        order[-2:] = reversed(order[-2:])
    return order


def _orders(graph: Graph, node: Node) -> tuple[list[int], list[int]]:
    first, second = (_order(node, s, len(graph.shape(v))) for s, v in zip("AB", node.inputs[:2], strict=True))
    return first, second


def _relate_matmul(r: Relation, node: Node) -> None:
    """`[..., M, K] x [..., K, N]`, either one with its axes in another order."""
    a, b = node.inputs[:2]
    first, second = _orders(r.graph, node)
    r.same(r.axis(a, first[-1]), r.axis(b, second[max(len(second) - 2, 0)]), (b, second[max(len(second) - 2, 0)]))
    batch = max(len(first), len(second)) - 2
    out = []
    for axis in range(batch):
        sides = [(v, order, axis - batch + len(order) - 2) for v, order in ((a, first), (b, second))]
        wide = [(v, order[own]) for v, order, own in sides if own >= 0 and r.shape(v)[order[own]] != 1]
        for place in wide[1:]:
            r.same(r.axis(*wide[0]), r.axis(*place), place)
        out.append(r.axis(*wide[0]) if wide else None)
    out += [r.axis(a, first[-2])] * (len(first) > 1) + [r.axis(b, second[-1])] * (len(second) > 1)
    r.set(node.outputs[0], out)


def _matmul_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """The product of the result's axes and the contracted one, named by a weight's own axes where there is a weight."""
    (a, b), y = node.inputs[:2], node.outputs[0]
    first, second = _orders(graph, node)
    free = [(a, first[-2])] * (len(first) > 1) + [(b, second[-1])] * (len(second) > 1)
    batch = [(y, axis) for axis in range(len(graph.shape(y)) - len(free))]
    inner = (a, first[-1]) if a in graph.params else (b, second[max(len(second) - 2, 0)])
    return (Monomial(1, (*batch, *free, inner)),)


def _matmul_contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    return ((0, _orders(graph, node)[0][-1]),)


# -- weights in blocks -----------------------------------------------------------------------------


def _int(node: Node, name: str) -> int:
    value = node.attributes.get(name, 0)
    assert isinstance(value, int)
    return value


def _relate_blockwise(r: Relation, node: Node) -> None:
    """Weights `[N, blocks, bytes]` of a few bits each, a scale for each block of each row.

    What goes in is cut in whole blocks; where zero points of several blocks share a byte, in as many at once.
    """
    x, w, scales = node.inputs[:3]
    points, order, bias = node.input(3), node.input(4), node.input(5)
    rows, blocks = _int(node, "N"), per_sample(r.shape(w)[1])
    out, columns = r.axis(w, 0), r.axis(w, 1)
    if order or _int(node, "weight_prepacked"):
        for axis, own in enumerate((out, columns)):
            r.lock(own, (w, axis), "its weights are in no plain order")
    spread = None if columns is None else np.repeat(columns, _int(node, "block_size"))[: _int(node, "K")]
    r.same(r.axis(x, -1), spread, (x, r.rank(x) - 1), "weights are quantised in blocks")
    _relate_per_block(r, scales, out, rows, columns, blocks)
    if points:
        held = math.prod(per_sample(d) for d in r.shape(points)) // rows
        shared = r.fresh(held) if held < blocks else columns
        if held < blocks:
            each = None if shared is None else np.repeat(shared, 8 // _int(node, "bits"))[:blocks]
            r.same(columns, each, (w, 1), "zero points of several blocks share a byte")
        _relate_per_block(r, points, out, rows, shared, held)
    if bias:
        r.same(out, r.axis(bias, 0), (bias, 0))
    r.set(node.outputs[0], [*(r.axis(x, a) for a in range(r.rank(x) - 1)), out])


def _relate_per_block(r: Relation, param: str, out: Axis, rows: int, columns: Axis, count: int) -> None:
    """Numbers for each of `count` blocks of each row, as `[N, count]` or `[N * count]`."""
    if r.rank(param) == 2:
        r.same(out, r.axis(param, 0), (param, 0))
        r.same(columns, r.axis(param, 1), (param, 1))
    else:
        whole = r.grid((out, rows), (columns, count))
        r.same(r.axis(param, 0), whole, (param, 0), "goes with its row and its block")


def _blockwise_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    x, w = node.inputs[:2]
    places = [(x, a) for a in range(len(graph.shape(x)))]
    return (Monomial(1, (*places, (w, 0))),)


def _blockwise_contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    return ((0, len(graph.shape(node.inputs[0])) - 1),)


def _respell_blockwise(shrink: Respell, node: Node) -> Node:
    return with_attributes(node, N=shrink.size(node.inputs[1], 0), K=shrink.size(node.inputs[0], -1))


# -- normalisations --------------------------------------------------------------------------------


def _relate_skip_norm(r: Relation, node: Node) -> None:
    """Input and skip are added and normalised over the last axis; the last result is their sum."""
    x = node.inputs[0]
    r.inexact(r.axis(x, -1), (x, r.rank(x) - 1), f"{node.op} takes its statistics over this axis")
    pointwise.RULES["Sum"].relate(r, node.replace(op="Sum", outputs=node.outputs[:1]))
    for output in filter(None, node.outputs[1:3]):
        r.set(output, [*r.axes[node.outputs[0]][:-1], None])
    for output in filter(None, node.outputs[3:]):
        r.set(output, r.axes[node.outputs[0]])


def _relate_embedding_norm(r: Relation, node: Node) -> None:
    """Rows of up to three tables `[rows, H]` are added and normalised over H."""
    tables = [name for name in node.inputs[2:5] if name]
    hidden = r.axis(tables[0], 1)
    r.inexact(hidden, (tables[0], 1), f"{node.op} takes its statistics over this axis")
    for name in tables:
        r.same(hidden, r.axis(name, 1), (name, 1))
    for name in filter(None, node.inputs[5:7]):
        r.same(hidden, r.axis(name, 0), (name, 0))
    for output in filter(None, node.outputs):
        rank = r.rank(output)
        r.set(output, [None, None, hidden] if rank == 3 else [None] * rank)


# -- channels in blocks ----------------------------------------------------------------------------


def _relate_blocked(r: Relation, node: Node) -> None:
    """Weights lie in blocks of the machine's own size, and so do the channels."""
    UNKNOWN.relate(r, node)
    w = node.inputs[1]
    for axis in (0, 1):
        r.lock(r.axis(w, axis), (w, axis), LOCKED[label(node)])


_PRODUCT = Rule(_relate_matmul, _matmul_macs, _matmul_contracts)
_SKIP = Rule(_relate_skip_norm, periodic=True)

_MICROSOFT = {
    **table(("Gelu", "BiasGelu", "FastGelu", "QuickGelu"), pointwise.RULES["Sum"]),
    "FusedConv": Convolution(summed=3).rule(),
    "FusedGemm": borrowed("Gemm", linear.RULES["Gemm"], 0, 1, 2),
    **table(("FusedMatMul", "TransposeMatMul"), _PRODUCT),
    "MatMulNBits": Rule(_relate_blockwise, _blockwise_macs, _blockwise_contracts, _respell_blockwise),
    **table(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _SKIP),
    "EmbedLayerNormalization": Rule(_relate_embedding_norm),
    **ATTENTION,
}

RULES = {
    **{f"com.microsoft.{op}": rule for op, rule in _MICROSOFT.items()},
    "com.microsoft.nchwc.Conv": Rule(_relate_blocked, Convolution().macs),
}
