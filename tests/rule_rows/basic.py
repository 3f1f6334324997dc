"""Rows of the operators of convolutional networks."""

from __future__ import annotations

import numpy as np

from amcc.passes.rules.pointwise import RULES as POINTWISE
from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row


def _const(b: Builder, *values: float) -> str:
    return b.constant(np.array(values, np.float32))


def _unary(op: str) -> Row:
    opset = {"Gelu": 20, "Swish": 24, "Mish": 18, "BitwiseNot": 18}.get(op, 17)
    if op in ("Not", "IsInf", "IsNaN"):
        return Row(lambda b, x: b.op("Cast", b.op(op, _as_bool(b, x) if op == "Not" else x), to=1))
    if op == "BitwiseNot":
        return Row(lambda b, x: b.op("Cast", b.op(op, b.op("Cast", x, to=6)), to=1), opset=18)
    if op == "Cast":
        return Row(lambda b, x: b.op("Cast", x, to=1))
    if op == "CastLike":
        return Row(lambda b, x: b.op("CastLike", x, _const(b, 0, 0)))
    inside = {"Acos": "Tanh", "Asin": "Tanh", "Atanh": "Sin", "Log": "Exp", "Sqrt": "Abs", "Acosh": "Cosh"}.get(op)
    if op == "Reciprocal":
        return Row(lambda b, x: b.op(op, b.op("Add", b.op("Abs", x), _const(b, 1))))
    if op == "Acosh":
        return Row(lambda b, x: b.op(op, b.op("Add", b.op("Abs", x), _const(b, 1.5))))
    if op in ("Atanh", "Tan"):
        return Row(lambda b, x: b.op(op, b.op("Mul", b.op("Tanh", x), _const(b, 0.5))))
    if op == "Clip":
        return Row(lambda b, x: b.op(op, x, b.constant(np.float32(-0.5)), b.constant(np.float32(0.5))))
    return Row(lambda b, x: b.op(op, b.op(inside, x) if inside else x), opset=opset)


def _as_bool(b: Builder, x: str) -> str:
    return b.op("Greater", x, _const(b, 0))


def _binary(op: str) -> Row:
    def channel(b: Builder) -> str:
        return b.param(C, 1, 1)

    if op in ("And", "Or", "Xor"):
        return Row(lambda b, x: b.op("Cast", b.op(op, _as_bool(b, x), _as_bool(b, b.op("Neg", x))), to=1))
    if op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        return Row(lambda b, x: b.op("Cast", b.op(op, x, channel(b)), to=1))
    if op == "Where":
        return Row(lambda b, x: b.op(op, _as_bool(b, x), x, channel(b)))
    if op in ("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        extra = {"direction": "RIGHT"} if op == "BitShift" else {}

        def bits(b: Builder, x: str) -> str:
            whole = b.op("Cast", b.op("Abs", b.op("Mul", x, _const(b, 9))), to=13)
            return b.op("Cast", b.op(op, whole, b.constant(np.ones((C, 1, 1), np.uint64)), **extra), to=1)

        return Row(bits, opset=18)
    if op == "Pow":
        return Row(lambda b, x: b.op(op, b.op("Abs", x), b.param(C, 1, 1, positive=True)))
    if op == "Mod":
        return Row(lambda b, x: b.op(op, x, b.param(C, 1, 1, positive=True), fmod=1))
    if op == "Div":
        return Row(lambda b, x: b.op(op, x, b.param(C, 1, 1, positive=True)))
    return Row(lambda b, x: b.op(op, x, channel(b)))


_BINARY = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or PRelu Pow Sub Sum Where Xor"
).split()


def _reshape(b: Builder, x: str) -> str:
    return b.op("Reshape", b.op("Reshape", x, b.ints(2, C, -1)), b.ints(0, C, SIDE, SIDE))


def _matmul(b: Builder, x: str) -> str:
    rows = b.op("MatMul", b.op("Transpose", x, perm=[0, 2, 3, 1]), b.param(C, 5))
    return b.op("Transpose", rows, perm=[0, 3, 1, 2])


def _gemm(b: Builder, x: str) -> str:
    gate = b.op("Gemm", b.op("Flatten", b.op("GlobalAveragePool", x)), b.param(5, C), b.param(5), transB=1)
    back = b.op("Gemm", gate, b.param(5, C), transB=0)
    return b.op("Mul", x, b.op("Unsqueeze", back, b.ints(2, 3)))


def _gather(b: Builder, x: str) -> str:
    return b.op("Gather", x, b.ints(7, 0, -3, 0), axis=1)


def _global(op: str) -> Row:
    return Row(lambda b, x: b.op("Add", x, b.op(op, x)))


def _pool(op: str) -> Row:
    return Row(lambda b, x: b.op(op, x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), (C, 4, 4))


def _shape(b: Builder, x: str) -> str:
    """The sizes of a tensor with a dynamic batch, read at run time."""
    return b.op("Add", x, b.op("Expand", b.op("GlobalMaxPool", x), b.op("Shape", x)))


ROWS: dict[str, Row] = {
    **{op: _unary(op) for op in POINTWISE if op not in _BINARY},
    **{op: _binary(op) for op in _BINARY},
    "Conv": Row(
        lambda b, x: b.op("Conv", x, b.param(6, 4, 3, 3), b.param(6), group=2, dilations=[2, 2], pads=[2] * 4),
        (6, SIDE, SIDE),
        macs=2 * 64 * 6 * 4 * 9,
    ),
    "ConvTranspose": Row(
        lambda b, x: b.op("ConvTranspose", x, b.param(C, 5, 2, 2), b.param(5), strides=[2, 2]),
        (5, 16, 16),
        macs=2 * 64 * C * 5 * 4,
    ),
    "Gemm": Row(_gemm, macs=2 * (C * 5 + 5 * C)),
    "MatMul": Row(_matmul, (5, SIDE, SIDE), macs=2 * 64 * C * 5),
    "AveragePool": _pool("AveragePool"),
    "MaxPool": _pool("MaxPool"),
    "LpPool": _pool("LpPool"),
    "GlobalAveragePool": _global("GlobalAveragePool"),
    "GlobalMaxPool": _global("GlobalMaxPool"),
    "GlobalLpPool": _global("GlobalLpPool"),
    "Transpose": Row(lambda b, x: b.op("Transpose", x, perm=[0, 1, 3, 2])),
    "Reshape": Row(_reshape),
    "Flatten": Row(lambda b, x: b.op("Reshape", b.op("Flatten", x, axis=2), b.ints(2, C, SIDE, SIDE))),
    "Squeeze": Row(lambda b, x: b.op("Squeeze", b.op("Unsqueeze", x, b.ints(1)), b.ints(1))),
    "Unsqueeze": Row(lambda b, x: b.op("Squeeze", b.op("Unsqueeze", x, b.ints(2)), b.ints(2))),
    "Shape": Row(_shape, batch="batch"),
    "Concat": Row(lambda b, x: b.op("Concat", x, b.op("Relu", x), axis=1), (16, SIDE, SIDE)),
    "Split": Row(lambda b, x: b.op("Add", (y := b.op("Split", x, outputs=2, axis=1)), y[:-1] + "1"), (4, SIDE, SIDE)),
    "Slice": Row(lambda b, x: b.op("Slice", x, b.ints(-6), b.ints(7), b.ints(1)), (5, SIDE, SIDE)),
    "Gather": Row(_gather, (4, SIDE, SIDE)),
    "Tile": Row(lambda b, x: b.op("Tile", x, b.ints(1, 3, 1, 1)), (24, SIDE, SIDE)),
    "Expand": Row(lambda b, x: b.op("Expand", b.op("GlobalMaxPool", x), b.ints(2, C, SIDE, SIDE))),
}
