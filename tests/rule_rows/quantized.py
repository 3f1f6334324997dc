"""Rows of quantised operators: integers in between, floats before and after."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.microsoft import MS, on_tokens
from tests.rule_rows.row import SIDE, C, Row

T = SIDE * SIDE
STEP, ZERO = 0.05, 117


def scale(b: Builder, *values: float) -> str:
    """One scale, or one for each index."""
    array = np.array(values or STEP, np.float32)
    return b.constant(array)


def zero(b: Builder, value: int = ZERO) -> str:
    """A zero point of unsigned bytes."""
    return b.constant(np.uint8(value))


def down(b: Builder, x: str) -> str:
    """Floats to unsigned bytes."""
    return b.op("QuantizeLinear", x, scale(b), zero(b))


def up(b: Builder, x: str) -> str:
    """Unsigned bytes to floats."""
    return b.op("DequantizeLinear", x, scale(b), zero(b))


def weight(b: Builder, *shape: int) -> str:
    """Signed bytes."""
    return b.constant(b.random.integers(-100, 100, shape).astype(np.int8))


def each(b: Builder, n: int) -> tuple[str, str]:
    """A scale and a zero point for each of n output channels."""
    return b.constant((b.random.random(n) / 100 + 0.001).astype(np.float32)), b.constant(np.zeros(n, np.int8))


def _by_channel(b: Builder, x: str) -> str:
    params = b.constant(np.linspace(0.01, 0.05, C, dtype=np.float32)), b.constant(np.arange(C, dtype=np.uint8) + 110)
    return b.op("DequantizeLinear", b.op("QuantizeLinear", x, *params, axis=1), *params, axis=1)


def _dequantized_weight(b: Builder, x: str) -> str:
    w = b.op("DequantizeLinear", weight(b, 6, C, 3, 3), *each(b, 6), axis=0)
    bias = b.op("DequantizeLinear", b.constant(np.arange(6, dtype=np.int32)), scale(b, *[0.01] * 6), axis=0)
    return up(b, down(b, b.op("Conv", up(b, down(b, x)), w, bias, pads=[1] * 4)))


def _blocks(b: Builder, x: str) -> str:
    """Weights `[8, 6]` in blocks of four along what is summed."""
    scales = b.constant(np.linspace(0.001, 0.01, 12, dtype=np.float32).reshape(2, 6))
    w = b.op("DequantizeLinear", weight(b, C, 6), scales, axis=0, block_size=4)
    return b.op("MatMul", x, w)


def _trained_rounded(b: Builder, x: str) -> str:
    """A float weight that is rounded in the graph, as training for quantisation leaves it; data of sixteen bits."""
    params = b.constant(np.full(5, 0.01, np.float32)), b.constant(np.zeros(5, np.int8))
    rounded = b.op("DequantizeLinear", b.op("QuantizeLinear", b.param(C, 5, 2, 2), *params, axis=1), *params, axis=1)
    step = b.constant(np.float32(0.001)), b.constant(np.uint16(30000))
    data = b.op("DequantizeLinear", b.op("QuantizeLinear", x, *step), *step)
    return b.op("ConvTranspose", data, rounded, strides=[2, 2])


def _four_bits(b: Builder, x: str) -> str:
    """Weights of four bits, two in a byte, with a scale for each output."""
    weight = b.constant(b.random.integers(-8, 8, (C, 7)).astype(ml_dtypes.int4))
    scales = b.constant((b.random.random(7) / 10).astype(np.float32))
    return b.op("MatMul", x, b.op("DequantizeLinear", weight, scales, axis=1))


def _dynamic(b: Builder, x: str) -> str:
    quantized = b.op("DynamicQuantizeLinear", x, outputs=3)
    return b.op("DequantizeLinear", quantized, *(quantized[:-1] + str(k) for k in (1, 2)))


def _conv_integer(b: Builder, x: str) -> str:
    params = [weight(b, 6, C, 3, 3), zero(b), b.constant(np.int8(0))]
    whole = b.op("ConvInteger", down(b, x), *params, pads=[1] * 4)
    return b.op("Mul", b.op("Cast", whole, to=1), scale(b, 0.001))


def _matmul_integer(b: Builder, x: str) -> str:
    params = [weight(b, C, 6), zero(b), b.constant(np.arange(6, dtype=np.int8))]
    return b.op("Mul", b.op("Cast", b.op("MatMulInteger", down(b, x), *params), to=1), scale(b, 0.001))


def _qlinear_conv(b: Builder, x: str) -> str:
    params = [scale(b), zero(b), weight(b, 6, C // 2, 3, 3), *each(b, 6), scale(b), zero(b)]
    bias = b.constant(np.arange(6, dtype=np.int32) * 50)
    return up(b, b.op("QLinearConv", down(b, x), *params, bias, pads=[1] * 4, group=2))


def _channels_last(b: Builder, x: str) -> str:
    last = b.op("Transpose", down(b, x), perm=[0, 2, 3, 1])
    params = [scale(b), zero(b), weight(b, 6, C // 2, 3, 3), *each(b, 6), scale(b), zero(b)]
    y = b.op("QLinearConv", last, *params, pads=[1] * 4, group=2, channels_last=1, domain=MS)
    return up(b, b.op("Transpose", y, perm=[0, 3, 1, 2]))


def _qlinear_matmul(b: Builder, x: str) -> str:
    params = [scale(b), zero(b), weight(b, C, 6), *each(b, 6), scale(b), zero(b)]
    return up(b, b.op("QLinearMatMul", down(b, x), *params))


def _qgemm(b: Builder, x: str) -> str:
    """A gate over the channels."""
    flat = down(b, b.op("Flatten", b.op("GlobalAveragePool", x)))
    params = [weight(b, C, C), *each(b, C), b.constant(np.arange(C, dtype=np.int32)), scale(b), zero(b)]
    gate = up(b, b.op("QGemm", flat, scale(b), zero(b), *params, transB=1, domain=MS))
    return b.op("Mul", x, b.op("Unsqueeze", gate, b.ints(2, 3)))


def _dynamic_matmul(b: Builder, x: str) -> str:
    return b.op("DynamicQuantizeMatMul", x, weight(b, C, 6), *each(b, 6), b.param(6), domain=MS)


def _integer_to_float(b: Builder, x: str) -> str:
    scales, points = each(b, 6)
    return b.op("MatMulIntegerToFloat", down(b, x), weight(b, C, 6), scale(b), scales, zero(b), points, domain=MS)


def _binary(op: str) -> Row:
    def place(b: Builder, x: str) -> str:
        other = down(b, b.param(C, 1, 1))
        return up(b, b.op(op, down(b, x), scale(b), zero(b), other, scale(b), zero(b), scale(b), zero(b), domain=MS))

    return Row(place)


def _unary(op: str, **more: object) -> Row:
    def place(b: Builder, x: str) -> str:
        return up(b, b.op(op, down(b, x), scale(b), zero(b), scale(b), zero(b), domain=MS, **more))

    return Row(place)


def _softmax(b: Builder, x: str) -> str:
    y = b.op(
        "QLinearSoftmax", down(b, x), scale(b), zero(b), scale(b, 1 / 256), zero(b, 0), axis=1, opset=13, domain=MS
    )
    return up(b, y)


def _concat(b: Builder, x: str) -> str:
    parts = (down(b, x), scale(b), zero(b), down(b, b.op("Relu", x)), scale(b), zero(b))
    return up(b, b.op("QLinearConcat", scale(b), zero(b), *parts, axis=1, domain=MS))


def _pool(op: str, **more: object) -> Callable[[Builder, str], str]:
    def place(b: Builder, x: str) -> str:
        return up(b, b.op(op, down(b, x), scale(b), zero(b), scale(b), zero(b), domain=MS, **more))

    return place


def _nhwc_pool(b: Builder, x: str) -> str:
    last = b.op("Transpose", down(b, x), perm=[0, 2, 3, 1])
    y = b.op("NhwcMaxPool", last, kernel_shape=[3, 3], pads=[1] * 4, domain=MS)
    return up(b, b.op("Transpose", y, perm=[0, 3, 1, 2]))


def _own(b: Builder, x: str) -> str:
    """The operators of the runtime's own domain."""
    params = (scale(b), zero(b))
    return b.op("DequantizeLinear", b.op("QuantizeLinear", x, *params, domain=MS), *params, domain=MS)


_GROUPED = 2 * T * 6 * (C // 2) * 9

ROWS = {
    "QuantizeLinear": Row(_by_channel),
    "DequantizeLinear": Row(_dequantized_weight, (6, SIDE, SIDE), macs=2 * T * 6 * C * 9),
    "DynamicQuantizeLinear": Row(_dynamic, inexact=True),
    "ConvInteger": Row(_conv_integer, (6, SIDE, SIDE), macs=2 * T * 6 * C * 9),
    "MatMulInteger": on_tokens(_matmul_integer, 6, macs=2 * T * C * 6),
    "QLinearConv": Row(_qlinear_conv, (6, SIDE, SIDE), macs=_GROUPED),
    "QLinearMatMul": on_tokens(_qlinear_matmul, 6, macs=2 * T * C * 6),
    **{
        f"{MS}.{op}": row
        for op, row in {
            "QuantizeLinear": Row(_own),
            "DequantizeLinear": Row(_own),
            "QLinearConv": Row(_channels_last, (6, SIDE, SIDE), macs=_GROUPED),
            "QGemm": Row(_qgemm, macs=2 * C * C),
            "DynamicQuantizeMatMul": on_tokens(_dynamic_matmul, 6, macs=2 * T * C * 6, inexact=True),
            "MatMulIntegerToFloat": on_tokens(_integer_to_float, 6, macs=2 * T * C * 6),
            **{op: _binary(op) for op in ("QLinearAdd", "QLinearMul")},
            "QLinearLeakyRelu": _unary("QLinearLeakyRelu", alpha=0.1),
            "QLinearSigmoid": _unary("QLinearSigmoid"),
            "QLinearSoftmax": Row(_softmax, inexact=True),
            "QLinearConcat": Row(_concat, (2 * C, SIDE, SIDE)),
            "QLinearAveragePool": Row(_pool("QLinearAveragePool", kernel_shape=[3, 3], pads=[1] * 4)),
            "QLinearGlobalAveragePool": Row(_pool("QLinearGlobalAveragePool"), (C, 1, 1)),
            "NhwcMaxPool": Row(_nhwc_pool),
        }.items()
    },
}

FORMS = {
    "QuantizeLinear in training": Row(_trained_rounded, (5, 16, 16), macs=2 * T * C * 5 * 4, opset=21),
    "DequantizeLinear four bits": on_tokens(_four_bits, 7, macs=2 * T * C * 7, opset=21),
    "DequantizeLinear blocks": on_tokens(_blocks, 6, macs=2 * T * C * 6, opset=21),
}
"""Further forms of the operators, each a row of its own."""
