"""Rows of the operators of transformers."""

from __future__ import annotations

import numpy as np

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


def _attention(b: Builder, x: str) -> str:
    """Four queries on two keys, with a bias for every head."""
    q = _tokens(b, x)
    k, v = (b.op("MatMul", q, b.param(C, width)) for width in (4, 6))
    y = b.op("Attention", q, k, v, b.param(4, 64, 64), q_num_heads=4, kv_num_heads=2)
    return _picture(b, y, 12)


def _rotary(b: Builder, x: str) -> str:
    """Two heads of width 4, of which 2 positions turn; then as one head whose neighbours turn."""
    places = b.constant(np.arange(128).reshape(2, 64))
    y = b.op(
        "RotaryEmbedding", _tokens(b, x), b.param(128, 1), b.param(128, 1), places, num_heads=2, rotary_embedding_dim=2
    )
    heads = b.op("Unsqueeze", y, b.ints(1))
    turned = b.op("RotaryEmbedding", heads, b.param(2, 64, 4), b.param(2, 64, 4), interleaved=1)
    return _picture(b, b.op("Squeeze", turned, b.ints(1)), C)


def _cache(b: Builder, x: str) -> str:
    written = b.op("TensorScatter", b.param(2, 64, C), _tokens(b, x), b.ints(0, 3), axis=1, mode="circular")
    return _picture(b, written, C)


def _range(b: Builder, x: str) -> str:
    """The number of every sample."""
    count = b.op("Squeeze", b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1)))
    numbers = b.op("Range", b.constant(np.int64(0)), count, b.constant(np.int64(1)))
    return b.op("Add", x, b.op("Reshape", b.op("Cast", numbers, to=1), b.ints(-1, 1, 1, 1)))


def _size(b: Builder, x: str) -> str:
    return b.op("Div", x, b.op("Cast", b.op("Size", x), to=1))


ROWS: dict[str, Row] = {
    "ConstantOfShape": Row(_constant_of_shape, batch="batch"),
    "Attention": Row(
        _attention,
        (12, SIDE, SIDE),
        opset=23,
        macs=2 * 64 * (C * 10 + 64 * (8 + 12)),
    ),
    "RotaryEmbedding": Row(_rotary, opset=23),
    "TensorScatter": Row(_cache, opset=24),
    "Trilu": Row(lambda b, x: b.op("Trilu", x, b.constant(np.int64(1)))),
    "Range": Row(_range, batch="batch"),
    "Size": Row(_size, batch="batch"),
    "Einsum": Row(_einsum, (5, SIDE, SIDE), macs=2 * (3 * 64 * C * 6 + 64 * 64 * 2 * 9 + 64 * 6 * 5)),
}
