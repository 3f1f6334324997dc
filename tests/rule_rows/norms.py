"""Rows of normalisations, reductions and whatever else computes over a whole axis."""

from __future__ import annotations

import numpy as np

from amcc.passes.rules import RULES
from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row

_SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")


def _reduce(op: str) -> Row:
    """Over the channels that may go."""
    attributes = {"axes": [1]} if op != "ReduceSum" else {}

    def place(b: Builder, x: str) -> str:
        above_one = b.op("Add", b.op("Abs", x), b.constant(np.float32(1)))
        return b.op(
            "Mul", x, b.op(op, above_one, *([b.ints(1)] if op == "ReduceSum" else []), keepdims=1, **attributes)
        )

    return Row(place, inexact=op not in _SUMS)


def _arg(op: str) -> Row:
    return Row(lambda b, x: b.op("Add", x, b.op("Cast", b.op(op, x, axis=2, keepdims=1), to=1)))


def _along_channels(op: str, opset: int = 17, **attributes: object) -> Row:
    return Row(lambda b, x: b.op(op, x, **attributes), opset=opset, inexact=True)


def _batch_norm(b: Builder, x: str) -> str:
    scale, var = b.param(C, positive=True), b.param(C, positive=True)
    return b.op("BatchNormalization", x, scale, b.param(C), b.param(C), var)


def _last(op: str, opset: int = 17, bias: bool = False) -> Row:
    """A normalisation of the last axis, with the channels there."""

    def place(b: Builder, x: str) -> str:
        rows = b.op("Transpose", x, perm=[0, 2, 3, 1])
        return b.op("Transpose", b.op(op, rows, b.param(C), *([b.param(C)] if bias else [])), perm=[0, 3, 1, 2])

    return Row(place, opset=opset, inexact=True)


def _group_norm(b: Builder, x: str) -> str:
    return b.op("GroupNormalization", x, b.param(C), b.param(C), num_groups=1)


def _unpool(b: Builder, x: str) -> str:
    pooled = b.op("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    return b.op("MaxUnpool", pooled, pooled[:-1] + "1", kernel_shape=[2, 2], strides=[2, 2])


ROWS: dict[str, Row] = {
    **{op: _reduce(op) for op in RULES if op.startswith("Reduce")},
    "ArgMax": _arg("ArgMax"),
    "ArgMin": _arg("ArgMin"),
    "TopK": Row(lambda b, x: b.op("TopK", x, b.ints(3), outputs=2, axis=3), (C, SIDE, 3)),
    "Softmax": _along_channels("Softmax", axis=1),
    "LogSoftmax": _along_channels("LogSoftmax", axis=1),
    "Hardmax": _along_channels("Hardmax", axis=1),
    "LRN": _along_channels("LRN", size=3, alpha=0.5),
    "LpNormalization": Row(lambda b, x: b.op("LpNormalization", x, axis=1)),
    "CumSum": Row(lambda b, x: b.op("CumSum", x, b.constant(np.int64(1)))),
    "CumProd": Row(lambda b, x: b.op("CumProd", x, b.constant(np.int64(1))), opset=26, inexact=True),
    "BatchNormalization": Row(_batch_norm),
    "InstanceNormalization": Row(lambda b, x: b.op("InstanceNormalization", x, b.param(C), b.param(C))),
    "GroupNormalization": Row(_group_norm, opset=21, inexact=True),
    "LayerNormalization": _last("LayerNormalization", bias=True),
    "RMSNormalization": _last("RMSNormalization", opset=23),
    "SimplifiedLayerNormalization": _last("SimplifiedLayerNormalization"),
    "MeanVarianceNormalization": _along_channels("MeanVarianceNormalization", axes=[1]),
    "MaxUnpool": Row(_unpool),
}
