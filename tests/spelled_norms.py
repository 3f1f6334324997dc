"""Normalisations and channel attention as exporters spell them out: `[2, 8, 8, 8]` to the same shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.random_graphs import Builder

N, C, SIDE = 2, 8, 8
Spelled = Callable[[Builder, str], str]


def number(b: Builder, value: float) -> str:
    """A scalar."""
    return b.constant(np.float32(value))


def affine(b: Builder, x: str, *shape: int) -> str:
    """Scale and shift by parameters."""
    return b.op("Add", b.op("Mul", x, b.param(*shape, positive=True)), b.param(*shape))


def channels_last(inner: Spelled) -> Spelled:
    """The form applied to `[N, H, W, C]`."""
    return lambda b, x: b.op("Transpose", inner(b, b.op("Transpose", x, perm=[0, 2, 3, 1])), perm=[0, 3, 1, 2])


def layer_norm(b: Builder, x: str) -> str:
    """Over the last axis, squares by Pow."""
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1]))
    variance = b.op("ReduceMean", b.op("Pow", centred, number(b, 2)), axes=[-1])
    return affine(b, b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, number(b, 1e-5)))), C)


def layer_norm_2d(b: Builder, x: str) -> str:
    """Over the channels of `[N, C, H, W]`, squares by Mul."""
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes=[1]))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes=[1])
    scale = b.op("Reciprocal", b.op("Sqrt", b.op("Add", variance, number(b, 1e-6))))
    return affine(b, b.op("Mul", centred, scale), C, 1, 1)


def rms_norm(b: Builder, x: str) -> str:
    """As Llama's."""
    mean = b.op("ReduceMean", b.op("Pow", x, number(b, 2)), axes=[-1])
    scale = b.op("Div", number(b, 1), b.op("Sqrt", b.op("Add", mean, number(b, 1e-6))))
    return b.op("Mul", b.param(C, positive=True), b.op("Mul", x, scale))


def scale_norm(b: Builder, x: str) -> str:
    """x / |x|, times the square root of the width: a sum of squares, so that zeros count for nothing."""
    norm = b.op("Max", b.op("ReduceL2", x, axes=[-1], keepdims=1), number(b, 1e-5))
    return b.op("Mul", b.op("Div", x, b.op("Expand", norm, b.ints(N, SIDE, SIDE, C))), number(b, C**0.5))


def group_norm(groups: int) -> Spelled:
    """As torch exports it: an InstanceNormalization of merged axes with scales of one."""

    def place(b: Builder, x: str) -> str:
        merged = b.op("Reshape", x, b.ints(0, groups, -1))
        ones, zeros = b.constant(np.ones(groups, np.float32)), b.constant(np.zeros(groups, np.float32))
        normal = b.op("InstanceNormalization", merged, ones, zeros)
        return affine(b, b.op("Reshape", normal, b.ints(N, C, SIDE, SIDE)), C, 1, 1)

    return place


def group_norm_by_means(b: Builder, x: str) -> str:
    """Four groups, with reductions over positions and space at once."""
    split = b.op("Reshape", x, b.ints(N, 4, C // 4, SIDE, SIDE))
    centred = b.op("Sub", split, b.op("ReduceMean", split, axes=[2, 3, 4]))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes=[2, 3, 4])
    normal = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, number(b, 1e-5))))
    return affine(b, b.op("Reshape", normal, b.ints(N, C, SIDE, SIDE)), C, 1, 1)


def batch_norm(b: Builder, x: str) -> str:
    """With constant statistics."""
    deviation = b.op("Sqrt", b.op("Add", b.param(C, 1, 1, positive=True), number(b, 1e-5)))
    return affine(b, b.op("Div", b.op("Sub", x, b.param(C, 1, 1)), deviation), C, 1, 1)


def response_norm(b: Builder, x: str) -> str:
    """Global response normalisation (ConvNeXt V2), channels last."""
    norm = b.op("ReduceL2", x, axes=[1, 2], keepdims=1)
    share = b.op("Div", norm, b.op("Add", b.op("ReduceMean", norm, axes=[-1]), number(b, 1e-6)))
    return b.op("Add", x, affine(b, b.op("Mul", x, share), 1, 1, 1, C))


def spatial_attention(b: Builder, x: str) -> str:
    """CBAM: a mean and a maximum over channels weigh positions."""
    seen = b.op("Concat", b.op("ReduceMean", x, axes=[1]), b.op("ReduceMax", x, axes=[1]), axis=1)
    return b.op("Mul", x, b.op("Sigmoid", b.op("Conv", seen, b.param(1, 2, 3, 3), pads=[1] * 4)))


def efficient_channel_attention(b: Builder, x: str) -> str:
    """ECA: a convolution slides over the channels."""
    line = b.op("Reshape", b.op("GlobalAveragePool", x), b.ints(0, 1, C))
    gate = b.op("Sigmoid", b.op("Conv", line, b.param(1, 1, 3), pads=[1, 1]))
    return b.op("Mul", x, b.op("Reshape", gate, b.ints(N, C, 1, 1)))


def selective_kernel(b: Builder, x: str) -> str:
    """SKNet: a softmax over two branches for each channel."""
    branches = [b.op("Relu", x), b.op("Sigmoid", x)]
    stacked = b.op("Concat", *(b.op("Unsqueeze", y, b.ints(1)) for y in branches), axis=1)
    pooled = b.op("ReduceMean", b.op("ReduceSum", stacked, b.ints(1), keepdims=0), axes=[2, 3])
    chosen = b.op("Conv", b.op("Relu", b.op("Conv", pooled, b.param(4, C, 1, 1))), b.param(2 * C, 4, 1, 1))
    gate = b.op("Softmax", b.op("Reshape", chosen, b.ints(N, 2, C, 1, 1)), axis=1)
    return b.op("ReduceSum", b.op("Mul", stacked, gate), b.ints(1), keepdims=0)


def split_attention(b: Builder, x: str) -> str:
    """ResNeSt: two radix splits of grouped channels, weighed and summed."""
    wide = b.op("Conv", x, b.param(2 * C, C // 2, 1, 1), b.param(2 * C), group=2)
    split = b.op("Reshape", wide, b.ints(N, 2, C, SIDE, SIDE))
    pooled = b.op("ReduceMean", b.op("ReduceSum", split, b.ints(1), keepdims=0), axes=[2, 3])
    chosen = b.op("Conv", b.op("Relu", b.op("Conv", pooled, b.param(4, C, 1, 1))), b.param(2 * C, 4, 1, 1))
    turned = b.op("Transpose", b.op("Reshape", chosen, b.ints(N, 1, 2, C)), perm=[0, 2, 1, 3])
    gate = b.op("Reshape", b.op("Softmax", turned, axis=1), b.ints(N, 2, C, 1, 1))
    return b.op("ReduceSum", b.op("Mul", split, gate), b.ints(1), keepdims=0)


def cross_covariance(b: Builder, x: str) -> str:
    """XCiT: a softmax over channels, of normalised queries and keys."""
    flat = b.op("Reshape", x, b.ints(N, C, SIDE * SIDE))
    heads = [b.op("Reshape", b.op("MatMul", b.param(C, C), flat), b.ints(N, 2, C // 2, SIDE * SIDE)) for _ in range(3)]
    q, k = (b.op("LpNormalization", head, axis=-1) for head in heads[:2])
    scores = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    return b.op("Reshape", b.op("MatMul", scores, heads[2]), b.ints(N, C, SIDE, SIDE))


def attention(b: Builder, x: str) -> str:
    """Two heads whose queries and keys are normalised (QK-norm), channels last."""
    rows, width = b.op("Reshape", x, b.ints(N, SIDE * SIDE, C)), 6

    def heads(perm: list[int]) -> str:
        made = b.op("Reshape", b.op("MatMul", rows, b.param(C, 2 * width)), b.ints(N, SIDE * SIDE, 2, width))
        return b.op("Transpose", made, perm=perm)

    q, v = (heads([0, 2, 1, 3]) for _ in range(2))
    q, k = layer_norm_of(b, q, width), layer_norm_of(b, heads([0, 2, 1, 3]), width)
    scores = b.op("Mul", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), number(b, width**-0.5))
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    out = b.op("MatMul", b.op("Reshape", mixed, b.ints(N, SIDE * SIDE, 2 * width)), b.param(2 * width, C))
    return b.op("Reshape", b.op("Add", rows, out), b.ints(N, SIDE, SIDE, C))


def attention_of_merged_heads(b: Builder, x: str) -> str:
    """Batch and heads as one axis, queries and keys normalised; channels last."""
    rows, width, positions = b.op("Reshape", x, b.ints(0, SIDE * SIDE, C)), 6, SIDE * SIDE

    def heads() -> str:
        made = b.op("Reshape", b.op("MatMul", rows, b.param(C, 2 * width)), b.ints(0, positions, 2, width))
        return b.op("Reshape", b.op("Transpose", made, perm=[0, 2, 1, 3]), b.ints(-1, positions, width))

    q, k = (layer_norm_of(b, heads(), width) for _ in range(2))
    scores = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
    split = b.op("Reshape", b.op("MatMul", scores, heads()), b.ints(-1, 2, positions, width))
    mixed = b.op("Reshape", b.op("Transpose", split, perm=[0, 2, 1, 3]), b.ints(-1, positions, 2 * width))
    out = b.op("Add", rows, b.op("MatMul", mixed, b.param(2 * width, C)))
    return b.op("Reshape", out, b.ints(-1, SIDE, SIDE, C))


def layer_norm_of(b: Builder, x: str, width: int) -> str:
    """As one node."""
    return b.op("LayerNormalization", x, b.param(width, positive=True), b.param(width))


def local_response(b: Builder, x: str) -> str:
    """LRN spelled out as timm does: an average over a window of padded channels."""
    squares = b.op("Unsqueeze", b.op("Mul", x, x), b.ints(1))
    mean = b.op("AveragePool", squares, kernel_shape=[3, 1, 1], pads=[1, 0, 0, 1, 0, 0])
    return b.op("Div", x, b.op("Pow", b.op("Add", b.op("Squeeze", mean, b.ints(1)), number(b, 1)), number(b, 0.75)))


FREE, INEXACT, BOTH, LOCKED = "free", "inexact", "both", "locked"
"""What becomes of the channels in front: BOTH has units of either kind."""

FORMS: dict[str, tuple[Spelled, str]] = {
    "layer norm": (channels_last(layer_norm), INEXACT),
    "layer norm over channels": (layer_norm_2d, INEXACT),
    "rms norm": (channels_last(rms_norm), INEXACT),
    "scale norm": (channels_last(scale_norm), FREE),
    "group norm of 1": (group_norm(1), INEXACT),
    "group norm of 4": (group_norm(4), BOTH),
    "group norm of 8": (group_norm(8), FREE),
    "group norm by means": (group_norm_by_means, BOTH),
    "batch norm": (batch_norm, FREE),
    "response norm": (channels_last(response_norm), INEXACT),
    "spatial attention": (spatial_attention, INEXACT),
    "efficient channel attention": (efficient_channel_attention, INEXACT),
    "selective kernel": (selective_kernel, FREE),
    "split attention": (split_attention, BOTH),
    "cross-covariance": (cross_covariance, FREE),
    "attention": (channels_last(attention), FREE),
    "attention of merged heads": (channels_last(attention_of_merged_heads), FREE),
    "local response": (local_response, INEXACT),
}
