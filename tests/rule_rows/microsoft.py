"""Rows of the operators that ONNX Runtime's optimiser writes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row

MS = "com.microsoft"
T = SIDE * SIDE  # positions of a picture read as a sequence
WIDE = 12  # of queries, keys and values: two heads of six


def tokens(b: Builder, x: str) -> str:
    """`[2, 8, 8, 8]` as `[2, 64, 8]`."""
    return b.op("Transpose", b.op("Reshape", x, b.ints(2, C, T)), perm=[0, 2, 1])


def picture(b: Builder, rows: str) -> str:
    """`[2, 64, n]` as `[2, n, 8, 8]`."""
    return b.op("Reshape", b.op("Transpose", rows, perm=[0, 2, 1]), b.ints(2, -1, SIDE, SIDE))


def on_tokens(place: Callable[[Builder, str], str], wide: int = C, **more: object) -> Row:
    """A row of an operator on `[2, 64, 8]`."""
    return Row(lambda b, x: picture(b, place(b, tokens(b, x))), (wide, SIDE, SIDE), **more)  # type: ignore[arg-type]


def _activation(op: str) -> Row:
    return on_tokens(lambda b, x: b.op(op, x, *([b.param(C)] if "Bias" in op else []), domain=MS))


def _fused_conv(b: Builder, x: str) -> str:
    other = b.op("Conv", x, b.param(6, C, 1, 1))
    inputs = [b.param(6, 4, 3, 3), b.param(6), other]
    return b.op("FusedConv", x, *inputs, group=2, pads=[1] * 4, kernel_shape=[3, 3], activation="Relu", domain=MS)


def _fused_gemm(b: Builder, x: str) -> str:
    flat = b.op("Flatten", b.op("GlobalAveragePool", x))
    gate = b.op("FusedGemm", flat, b.param(C, C), b.param(C), transB=1, activation="Relu", domain=MS)
    return b.op("Mul", x, b.op("Unsqueeze", gate, b.ints(2, 3)))


def _fused_matmul(op: str) -> Row:
    """Channels against channels, over all positions: `[2, 64, 8]^T x [2, 64, 6]`, and back."""

    def place(b: Builder, x: str) -> str:
        narrow = b.op("MatMul", x, b.param(C, 6))
        scores = b.op(op, x, narrow, transA=1, alpha=0.1, domain=MS)
        return b.op(op, narrow, scores, transB=1, alpha=0.5, domain=MS)

    return on_tokens(place, macs=3 * 2 * T * C * 6)


def _skip(op: str) -> Row:
    def place(b: Builder, x: str) -> str:
        params = [b.param(C)] * (1 if "Simplified" in op else 2)
        y = b.op(op, x, b.op("Relu", x), *params, b.param(C), outputs=4, domain=MS)
        return b.op("Add", y, y[:-1] + "3")

    def trimmed(b: Builder, x: str) -> str:
        result = place(b, x)
        node = next(n for n in b.nodes if n.op_type == op)
        node.output[1] = node.output[2] = ""
        return result

    return on_tokens(trimmed, inexact=True)


def _embedding(b: Builder, x: str) -> str:
    """Tables of which one is tied to the channels in front."""
    ids = b.op("Cast", b.op("ReduceMax", b.op("Abs", tokens(b, x)), axes=[2], keepdims=0), to=6)
    table = b.op("Transpose", b.op("ReduceSum", x, b.ints(0, 2), keepdims=0), perm=[1, 0])
    tables = [table, b.param(T, C), b.param(2, C)]
    zeros = b.op("Mul", ids, b.constant(np.int32(0)))
    hidden = b.op("EmbedLayerNormalization", zeros, zeros, *tables, b.param(C), b.param(C), domain=MS, outputs=2)
    return picture(b, hidden)


def _attention(b: Builder, x: str) -> str:
    bias = b.param(1, 2, T, T)
    params = [b.param(C, 3 * WIDE), b.param(3 * WIDE), "", "", bias]
    return b.op("Attention", x, *params, num_heads=2, domain=MS)


def _multi_head(b: Builder, x: str) -> str:
    q, k, v = (b.op("MatMul", x, b.param(C, n)) for n in (WIDE, WIDE, 2 * C))
    params = [b.param(2 * WIDE + 2 * C), "", b.param(1, 2, T, T)]
    return b.op("MultiHeadAttention", q, k, v, *params, num_heads=2, domain=MS)


def _rotary(b: Builder, x: str) -> str:
    wide = b.op("MatMul", x, b.param(C, 16))
    places = b.constant(np.tile(np.arange(T), (2, 1)))
    turned = b.op("RotaryEmbedding", wide, places, b.param(T, 2), b.param(T, 2), num_heads=4, domain=MS)
    return b.op("MatMul", turned, b.param(16, C))


def _grouped(b: Builder, x: str) -> str:
    """Four query heads of eight on two key heads."""
    q, k, v = (b.op("MatMul", x, b.param(C, n)) for n in (32, 16, 16))
    lengths, total = b.constant(np.full(2, T - 1, np.int32)), b.constant(np.int32(T))
    inputs = (q, k, v, "", "", lengths, total)
    return b.op("GroupQueryAttention", *inputs, num_heads=4, kv_num_heads=2, domain=MS, outputs=3)


def _blockwise(b: Builder, x: str) -> str:
    """Four bits a weight, blocks of sixteen."""
    wide = b.op("MatMul", x, b.param(C, 32))
    weight = b.constant(b.random.integers(0, 256, (5, 2, 8), dtype=np.uint8))
    scales = b.param(5 * 2, positive=True)
    return b.op("MatMulNBits", wide, weight, scales, N=5, K=32, bits=4, block_size=16, domain=MS)


def _in_blocks(b: Builder, x: str) -> str:
    """Sixteen channels fill the blocks of every machine."""
    blocks = b.op("ReorderInput", b.op("Conv", x, b.param(16, C, 1, 1)), domain=f"{MS}.nchwc")
    made = b.op("Conv", blocks, b.param(16, 16, 3, 3), b.param(16), pads=[1] * 4, domain=f"{MS}.nchwc")
    return b.op("Conv", b.op("ReorderOutput", made, channels=16, domain=f"{MS}.nchwc"), b.param(6, 16, 1, 1))


def _blockwise_with_points(b: Builder, x: str) -> str:
    """Rows of scales and zero points, and a bias; two zero points share a byte, and the last block is short."""
    wide = b.op("MatMul", x, b.param(C, 72))
    weight, points = (b.constant(b.random.integers(0, 256, s, dtype=np.uint8)) for s in ((5, 5, 8), (5, 3)))
    inputs = (wide, weight, b.param(5, 5, positive=True), points, "", b.param(5))
    return b.op("MatMulNBits", *inputs, N=5, K=72, bits=4, block_size=16, domain=MS)


def _rotary_heads(b: Builder, x: str) -> str:
    """`[2, 4, 64, 4]`: heads apart."""
    heads = b.op("Reshape", b.op("MatMul", x, b.param(C, 16)), b.ints(2, T, 4, 4))
    apart = b.op("Transpose", heads, perm=[0, 2, 1, 3])
    places = b.constant(np.zeros(1, np.int64))
    turned = b.op("RotaryEmbedding", apart, places, b.param(T, 2), b.param(T, 2), interleaved=1, domain=MS)
    return b.op("Reshape", b.op("Transpose", turned, perm=[0, 2, 1, 3]), b.ints(2, T, 16))


_PROJECTED = 2 * T * (WIDE + WIDE + 2 * C) * C

_OWN = {
    f"{MS}.{op}": row
    for op, row in {
        **{op: _activation(op) for op in ("Gelu", "BiasGelu", "FastGelu", "QuickGelu")},
        "FusedConv": Row(_fused_conv, (6, SIDE, SIDE), macs=2 * T * (6 * C + 6 * 4 * 9)),
        "FusedGemm": Row(_fused_gemm, macs=2 * C * C),
        **{op: _fused_matmul(op) for op in ("FusedMatMul", "TransposeMatMul")},
        **{op: _skip(op) for op in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")},
        "EmbedLayerNormalization": Row(_embedding, inexact=True),
        "Attention": on_tokens(_attention, WIDE, macs=2 * T * C * 3 * WIDE + 2 * 2 * T * T * WIDE),
        "MultiHeadAttention": on_tokens(_multi_head, 2 * C, macs=_PROJECTED + 2 * T * T * (WIDE + 2 * C)),
        "RotaryEmbedding": on_tokens(_rotary, macs=2 * T * C * 16 * 2),
        "GroupQueryAttention": on_tokens(_grouped, 32, macs=2 * T * C * 64 + 2 * 2 * T * T * 32),
        "MatMulNBits": on_tokens(_blockwise, 5, macs=2 * T * (C * 32 + 32 * 5)),
    }.items()
}

ROWS = {**_OWN, f"{MS}.nchwc.Conv": Row(_in_blocks, (6, SIDE, SIDE), macs=2 * T * 16 * (C + 16 * 9 + 6))}


def _turned_batches(b: Builder, x: str) -> str:
    """`[64, 2, 8]`, whose rows stand in front of the batch."""
    front = b.op("Transpose", x, perm=[1, 0, 2])
    weight = b.op("Expand", b.param(1, C, 6), b.ints(2, C, 6))
    return b.op("FusedMatMul", front, weight, transBatchA=1, domain=MS)


FORMS = {
    f"{MS}.FusedMatMul batches": on_tokens(_turned_batches, 6, macs=2 * T * C * 6),
    f"{MS}.Attention plain": on_tokens(
        lambda b, x: b.op("Attention", x, b.param(C, 3 * WIDE), b.param(3 * WIDE), num_heads=3, scale=0.3, domain=MS),
        WIDE,
        macs=2 * T * C * 3 * WIDE + 2 * 2 * T * T * WIDE,
    ),
    f"{MS}.MatMulNBits points": on_tokens(_blockwise_with_points, 5, macs=2 * T * (C * 72 + 72 * 5)),
    f"{MS}.RotaryEmbedding heads": on_tokens(_rotary_heads, 16, macs=2 * T * C * 16),
}
"""Further forms of the operators, each a row of its own."""
