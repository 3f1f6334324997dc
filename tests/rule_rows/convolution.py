"""Rows of the convolutional family beyond the plain ones."""

from __future__ import annotations

import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row

T = SIDE * SIDE


def _deformable(b: Builder, x: str, *, offsets: int, group: int) -> str:
    """Offsets and mask are read off the picture itself."""
    moved = b.op("Mul", b.op("Conv", x, b.param(offsets * 18, C, 3, 3), pads=[1] * 4), b.constant(np.float32(0.3)))
    mask = b.op("Sigmoid", b.op("Conv", x, b.param(offsets * 9, C, 3, 3), pads=[1] * 4))
    weight = b.param(6, C // group, 3, 3)
    return b.op("DeformConv", x, weight, moved, b.param(6), mask, pads=[1] * 4, offset_group=offsets, group=group)


def _deformable_row(offsets: int, group: int) -> Row:
    macs = 2 * T * 9 * (offsets * 27 * C + 6 * C // group)
    return Row(lambda b, x: _deformable(b, x, offsets=offsets, group=group), (6, SIDE, SIDE), macs=macs, opset=19)


def _experts(b: Builder, x: str) -> str:
    """A kernel for each sample: a weighted sum of four, and the batch as groups of one convolution."""
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    routing = b.op("Softmax", b.op("Gemm", pooled, b.param(4, C), b.param(4), transB=1), axis=1)
    kernels = b.op("MatMul", routing, b.param(4, 6 * C * 9))
    kernels = b.op("Reshape", kernels, b.ints(2 * 6, C, 3, 3))
    merged = b.op("Conv", b.op("Reshape", x, b.ints(1, 2 * C, SIDE, SIDE)), kernels, pads=[1] * 4, group=2)
    return b.op("Reshape", merged, b.ints(2, 6, SIDE, SIDE))


def _standardised(b: Builder, x: str) -> str:
    """A weight whose every filter has mean zero and unit variance, computed in the graph.

    It hangs on the picture, so that nobody folds it: by a number that is always one.
    """
    one = b.op("Cast", b.op("Greater", b.op("ReduceMax", b.op("Abs", x), keepdims=0), b.constant(np.float32(-1))), to=1)
    weight = b.op("Mul", b.param(6, C, 3, 3), one)
    centred = b.op("Sub", weight, b.op("ReduceMean", weight, axes=[1, 2, 3], keepdims=1))
    spread = b.op("ReduceMean", b.op("Mul", centred, centred), axes=[1, 2, 3], keepdims=1)
    return b.op("Conv", x, b.op("Div", centred, b.op("Sqrt", spread)), pads=[1] * 4)


def _summed(b: Builder, x: str) -> str:
    """Two kernels, the smaller one padded, as one."""
    one = b.op("Cast", b.op("Greater", b.op("ReduceMax", b.op("Abs", x), keepdims=0), b.constant(np.float32(-1))), to=1)
    small = b.op("Pad", b.op("Mul", b.param(6, C, 1, 1), one), b.ints(0, 0, 1, 1, 0, 0, 1, 1))
    return b.op("Conv", x, b.op("Add", b.param(6, C, 3, 3), small), pads=[1] * 4)


def _sequence(b: Builder, x: str) -> str:
    """One and three axes in space; the first one causal."""
    line = b.op("Reshape", x, b.ints(2, C, T))
    line = b.op("Conv", b.op("Pad", line, b.ints(0, 0, 4, 0, 0, 0)), b.param(6, C, 3), b.param(6), dilations=[2])
    solid = b.op("Reshape", line, b.ints(2, 6, 4, 4, 4))
    solid = b.op("Conv", solid, b.param(6, 3, 3, 3, 3), group=2, pads=[1] * 6)
    return b.op("Reshape", solid, b.ints(2, 6, SIDE, SIDE))


def _multiplied(b: Builder, x: str) -> str:
    """Depthwise with three results a channel, then groups of another size."""
    wide = b.op("Conv", x, b.param(3 * C, 1, 3, 3), b.param(3 * C), group=C, pads=[1] * 4)
    return b.op("Conv", wide, b.param(6, 4, 1, 1), group=6)


def _transposed(b: Builder, x: str, **attributes: object) -> str:
    return b.op("ConvTranspose", x, b.param(C, 3, 3, 3), b.param(6), group=2, strides=[2, 2], **attributes)


_STANDARD = 2 * T * 6 * C * 9

ROWS = {"DeformConv": _deformable_row(1, 1)}
FORMS = {
    "DeformConv offsets": _deformable_row(2, 1),
    "DeformConv groups": _deformable_row(2, 2),
    "Conv experts": Row(_experts, (6, SIDE, SIDE), macs=2 * (4 * C + 4 * 6 * C * 9) + _STANDARD),
    "Conv standardised": Row(_standardised, (6, SIDE, SIDE), macs=_STANDARD, inexact=True),
    "Conv summed": Row(_summed, (6, SIDE, SIDE), macs=_STANDARD, inexact=True),
    "Conv sequence": Row(_sequence, (6, SIDE, SIDE), macs=2 * T * 6 * (C * 3 + 3 * 27)),
    "Conv multiplier": Row(_multiplied, (6, SIDE, SIDE), macs=2 * T * (3 * C * 9 + 6 * 4)),
    "Conv padded": Row(
        lambda b, x: b.op("Conv", x, b.param(6, C, 2, 2), auto_pad="SAME_UPPER"),
        (6, SIDE, SIDE),
        macs=2 * T * 6 * C * 4,
    ),
    "ConvTranspose output_padding": Row(
        lambda b, x: _transposed(b, x, output_padding=[1, 1], pads=[1] * 4), (6, 16, 16), macs=2 * T * C * 3 * 9
    ),
    "ConvTranspose output_shape": Row(
        lambda b, x: _transposed(b, x, output_shape=[17, 16]), (6, 17, 16), macs=2 * T * C * 3 * 9
    ),
}
"""Further forms of the operators, each a row of its own."""
