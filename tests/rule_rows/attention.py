"""Rows of the operators of transformers."""

from __future__ import annotations

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row


def _tokens(b: Builder, x: str) -> str:
    """`[2, 64, C]`."""
    return b.op("Transpose", b.op("Reshape", x, b.ints(2, C, -1)), perm=[0, 2, 1])


def _picture(b: Builder, tokens: str, channels: int) -> str:
    return b.op("Reshape", b.op("Transpose", tokens, perm=[0, 2, 1]), b.ints(2, channels, SIDE, SIDE))


def _einsum(b: Builder, x: str) -> str:
    """Linear attention of heads of width 3 in three operands, with a diagonal gate."""
    tokens = _tokens(b, x)
    q, k, v = (b.op("Einsum", tokens, b.param(C, 2, 3), equation="...c,chd->...hd") for _ in range(3))
    mixed = b.op("Einsum", q, k, v, equation="bnhd, bmhd, bmhe -> bnhe")
    return _picture(b, b.op("Einsum", mixed, b.param(2, 3, 5), equation="bnhe,heo->bno"), 5)


def _constant_of_shape(b: Builder, x: str) -> str:
    """Zeros of a batch that run time knows."""
    batch = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1))
    return b.op("Add", x, b.op("ConstantOfShape", b.op("Concat", batch, b.ints(C, SIDE, SIDE), axis=0)))


ROWS: dict[str, Row] = {
    "ConstantOfShape": Row(_constant_of_shape, batch="batch"),
    "Einsum": Row(_einsum, (5, SIDE, SIDE), macs=2 * (3 * 64 * C * 6 + 64 * 64 * 2 * 9 + 64 * 6 * 5)),
}
