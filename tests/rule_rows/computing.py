"""Forms that tell a right rule from a nearly right one: windows, samples, normalisations, attention.

`free` is False where an operator works along the channels in a way that none of them may go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Place, Row
from tests.rule_rows.turned import OWN, T, inner, largest, number, own, turned

# -- padding, sampling, windows --------------------------------------------------------------------------


def _padded_at_run_time(*before: int, axis: int) -> Place:
    """By a length on one axis that only run time knows; by these in front of all."""

    def place(b: Builder, x: str) -> str:
        parts = [b.ints(n) for n in (*before, 0, 0, 0, 0)]
        parts[axis] = b.op("Add", number(b, x), b.ints(1))
        return largest(b, b.op("Pad", x, b.op("Concat", *parts, axis=0)), axis)

    return place


def _places(b: Builder, n: int) -> str:
    return b.constant(b.random.uniform(-0.9, 0.9, (n, SIDE, SIDE, 2)).astype(np.float32))


def _sampled_channels(b: Builder, x: str) -> str:
    return b.op("GridSample", x, _places(b, 2), mode="linear")


def _sampled_by_channel(b: Builder, x: str) -> str:
    """Each channel at places of its own."""
    places = b.op("Transpose", b.op("Tanh", own(b, x)), perm=[1, 2, 3, 0])
    return b.op("Transpose", b.op("GridSample", b.op("Transpose", x, perm=[1, 0, 2, 3]), places), perm=[1, 0, 2, 3])


def _a_grid_for_each_channel(b: Builder, x: str) -> str:
    """As many transforms as there are channels."""
    pooled = b.op("Flatten", b.op("GlobalAveragePool", b.op("Transpose", x, perm=[1, 0, 2, 3])))
    theta = b.op("Reshape", b.op("Gemm", pooled, b.param(2, 6)), b.ints(-1, 2, 3))
    return b.op("Add", x, b.reduce("ReduceMax", b.op("AffineGrid", theta, b.ints(C, 1, SIDE, SIDE)), 0, 3, keep=False))


def _regions_of_channels(b: Builder, x: str) -> str:
    boxes = b.op("Reshape", b.constant(np.array([0, 0, 7, 7, 1, 2, 5, 6], np.float32)), b.ints(2, 4))
    return b.op("RoiAlign", x, boxes, b.ints(1, 0), output_height=SIDE, output_width=3)


def _blocks_of_samples(op: str, **attributes: object) -> Place:
    """All samples' channels as those of one picture."""

    def place(b: Builder, x: str) -> str:
        one = b.op("Reshape", x, b.ints(1, -1, SIDE, SIDE))
        return b.op("Reshape", b.op(op, one, blocksize=2, **attributes), b.ints(-1, C // 4, 2 * SIDE, 2 * SIDE))

    return place


def _window(op: str, **attributes: object) -> Place:
    """A window that slides over the channels."""
    return inner(lambda b, x: b.op(op, x, kernel_shape=[3, 1], **attributes))


def _indices(b: Builder, x: str) -> str:
    """What counts elements of a whole tensor, as numbers."""
    y = b.op("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    return b.op("Add", y, b.op("Cast", y[:-1] + "1", to=1))


def _unpooled(b: Builder, x: str) -> str:
    """Of other channels than those that gave the indices."""
    pooled = b.op("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    return b.op("MaxUnpool", own(b, pooled), pooled[:-1] + "1", kernel_shape=[2, 2], strides=[2, 2])


def _over_channels(op: str, **attributes: object) -> Callable[[Builder, str], str]:
    return inner(lambda b, x: b.op(op, x, **attributes))


# -- normalisations, reductions, sequences -----------------------------------------------------------------


def _group_norm(groups: int, each: int) -> Place:
    return lambda b, x: b.op("GroupNormalization", x, b.param(each), b.param(each), num_groups=groups)


def _reduced(op: str, axes: Sequence[int], *, keep: bool = True, **attributes: object) -> Place:
    """Over these axes, then a weight for each channel that is left."""

    def place(b: Builder, x: str) -> str:
        some = [b.ints(*axes)] if axes else []
        y = b.op(op, x, *some, keepdims=int(keep), **attributes)
        return b.op("Mul", x, y) if keep else b.op("Add", b.op("Mul", x, b.param(C, 1, 1)), y)

    return place


def _transformed(b: Builder, x: str) -> str:
    waves = b.op("DFT", b.op("Unsqueeze", x, b.ints(4)), "", b.constant(np.int64(1)))
    return b.op("ReduceL2", waves, b.ints(4), keepdims=0)


def _attended_sequence(b: Builder, x: str) -> str:
    """Channels as the places of a sequence."""
    q = b.op("Reshape", x, b.ints(2, C, T))
    return b.op("Reshape", b.op("Attention", q, q, q, q_num_heads=4, kv_num_heads=4), b.ints(2, C, SIDE, SIDE))


def _attended_batches(b: Builder, x: str) -> str:
    """Channels as the batch, of queries and of others."""
    q, k = (b.op("Transpose", t, perm=[1, 0, 2, 3]) for t in (x, own(b, x)))
    return b.op("Transpose", b.op("Attention", q, k, k), perm=[1, 0, 2, 3])


def _attended_cache(b: Builder, x: str) -> str:
    """Four queries on two keys, three places before; all that comes out is read."""
    tokens = b.op("Transpose", b.op("Reshape", x, b.ints(2, C, T)), perm=[0, 2, 1])
    q, k, v = (b.op("MatMul", tokens, b.param(C, n)) for n in (12, 6, 10))
    past = b.param(2, 2, 3, 3), b.param(2, 2, 3, 5)
    y = b.op("Attention", q, k, v, "", *past, q_num_heads=4, kv_num_heads=2, outputs=3)
    present = [b.op("ReduceMax", y[:-1] + str(i), b.ints(2), keepdims=0) for i in (1, 2)]
    flat = b.op("Concat", *(b.op("Reshape", p, b.ints(2, 1, -1)) for p in present), axis=2)
    read = b.op("MatMul", flat, b.param(16, 20))
    rows = b.op("Transpose", b.op("Add", y, read), perm=[0, 2, 1])
    return b.op("Reshape", rows, b.ints(2, 20, SIDE, SIDE))


def _turned_sequence(b: Builder, x: str) -> str:
    y = b.op("RotaryEmbedding", b.op("Reshape", x, b.ints(2, C, T)), b.param(2, C, 8), b.param(2, C, 8), num_heads=4)
    return b.op("Reshape", y, b.ints(2, C, SIDE, SIDE))


def _turned_halves(b: Builder, x: str) -> str:
    """Two heads of eight, of which the first and second pair of positions turn, half a width apart."""
    tokens = b.op("Transpose", b.op("Reshape", x, b.ints(2, C, T)), perm=[0, 2, 1])
    wide = b.op("MatMul", tokens, b.param(C, 16))
    y = b.op("RotaryEmbedding", wide, b.param(2, T, 2), b.param(2, T, 2), num_heads=2, rotary_embedding_dim=4)
    return b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1]), b.ints(2, 16, SIDE, SIDE))


def _grouped_with_a_past(b: Builder, x: str) -> str:
    """Both pictures as one sequence behind four places that came before; keys as they are kept are read too."""
    rows = b.op("Reshape", b.op("Transpose", x, perm=[0, 2, 3, 1]), b.ints(1, 2 * T, C))
    q, k, v = (b.op("MatMul", rows, b.param(C, n)) for n in (32, 16, 16))
    past, total = (b.param(1, 2, 4, 8), b.param(1, 2, 4, 8)), 2 * T + 4
    lengths = b.constant(np.array([total - 1], np.int32)), b.constant(np.int32(total))
    heads = {"num_heads": 4, "kv_num_heads": 2}
    y = b.op("GroupQueryAttention", q, k, v, *past, *lengths, domain="com.microsoft", outputs=3, **heads)
    kept = b.op("ReduceMax", y[:-1] + "1", axes=[2], keepdims=0)
    read = b.op("MatMul", b.op("Reshape", kept, b.ints(1, 1, 16)), b.param(16, 32))
    wide = b.op("Reshape", b.op("Add", y, read), b.ints(2, SIDE, SIDE, 32))
    return b.op("Transpose", wide, perm=[0, 3, 1, 2])


FORMS: dict[str, Row] = {
    "Pad at run time": Row(_padded_at_run_time(0, 0, 0, 0, axis=1), (1, SIDE, SIDE), free=False),
    "Pad partly at run time": Row(_padded_at_run_time(0, 2, 0, 0, axis=2), (10, 1, SIDE), free=False),
    "Pad one end, crop the other": Row(
        lambda b, x: b.op("Pad", x, b.ints(0, 2, 0, 0, 0, -1, 0, 0), mode="edge"), (9, SIDE, SIDE), free=False
    ),
    "CenterCropPad channels": Row(
        lambda b, x: b.op("CenterCropPad", x, b.ints(5), axes=[1]), (5, SIDE, SIDE), free=False, opset=18
    ),
    "GridSample over channels": Row(inner(_sampled_channels), free=False, opset=20),
    "GridSample by channel": Row(_sampled_by_channel, opset=20, macs=OWN),
    "AffineGrid for each channel": Row(_a_grid_for_each_channel, free=False, opset=20, macs=2 * C * 6),
    "RoiAlign over channels": Row(inner(_regions_of_channels), (SIDE, SIDE, 3), free=False),
    "DepthToSpace of samples": Row(_blocks_of_samples("DepthToSpace"), (2, 16, 16), free=False, batch="batch"),
    "MaxPool over channels": Row(_window("MaxPool", pads=[1, 0, 1, 0]), inexact=True),
    "MaxPool over channels with strides": Row(
        _window("MaxPool", strides=[2, 1], pads=[1, 0, 1, 0]), (4, SIDE, SIDE), free=False
    ),
    "AveragePool over inner channels": Row(_window("AveragePool"), (6, SIDE, SIDE), inexact=True),
    "MaxPool indices": Row(_indices, (C, 4, 4), free=False),
    "GlobalAveragePool over channels": Row(_over_channels("GlobalAveragePool"), (1, SIDE, 1), inexact=True),
    "MaxUnpool of others": Row(_unpooled, macs=OWN // 4),
    "GroupNormalization of four groups": Row(_group_norm(4, C), opset=21, inexact=None),
    "GroupNormalization by group": Row(_group_norm(2, 2), opset=18, inexact=None),
    "ReduceSum in front": Row(_reduced("ReduceSum", [0], keep=False)),
    "ReduceSum of all": Row(_reduced("ReduceSum", [])),
    "ReduceSum of nothing": Row(_reduced("ReduceSum", [], noop_with_empty_axes=1)),
    "ReduceMax of space": Row(_reduced("ReduceMax", [-1, 2]), opset=18),
    "Softmax of old": Row(lambda b, x: b.op("Softmax", x, axis=1), opset=11, inexact=True),
    "Softmax of old behind": Row(turned([0, 2, 3, 1], lambda b, x: b.op("Softmax", x, axis=1)), opset=11, inexact=True),
    "DFT of channels": Row(_transformed, free=False, opset=20),
    "Attention sequence": Row(_attended_sequence, free=False, opset=23, macs=2 * C * C * T * 2),
    "Attention batches": Row(_attended_batches, opset=23, macs=OWN + C * T * 2 * SIDE * 2),
    "Attention cache": Row(
        _attended_cache, (20, SIDE, SIDE), opset=23, macs=2 * T * C * 28 + 2 * T * (T + 3) * 32 + 2 * 16 * 20
    ),
    "com.microsoft.GroupQueryAttention with a past": Row(
        _grouped_with_a_past, (32, SIDE, SIDE), macs=2 * T * C * 64 + 2 * (2 * T) ** 2 * 32 + 16 * 32
    ),
    "RotaryEmbedding halves": Row(_turned_halves, (16, SIDE, SIDE), opset=23, macs=2 * T * C * 16),
    "RotaryEmbedding sequence": Row(_turned_sequence, free=False, opset=23),
}
"""Each a row of its own; the name begins with the operator."""
