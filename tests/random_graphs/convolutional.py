"""Convolutional networks: growths on `[N, C, H, W]`."""

from __future__ import annotations

import numpy as np

from tests.random_graphs.builder import Builder, Tensor


def conv(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    groups = int(b.random.choice([g for g in (1, 1, 2, 3, 4, c) if c % g == 0]))
    out = groups * b.pick(1, 3) if groups > 1 else b.pick(2, 10)
    k = int(b.random.choice([1, 3]))
    bias = [b.param(out)] if b.pick(0, 1) else []
    weight = b.param(out, c // groups, k, k)
    y = b.op("Conv", name, weight, *bias, group=groups, kernel_shape=[k, k], pads=[k // 2] * 4)
    b.put(y, (n, out, h, w))


def _transposed(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    groups = int(b.random.choice([g for g in (1, 1, 2, c) if c % g == 0]))
    each = b.pick(1, 4)
    bias = [b.param(groups * each)] if b.pick(0, 1) else []
    y = b.op("ConvTranspose", name, b.param(c, each, 3, 3), *bias, group=groups, pads=[1] * 4)
    b.put(y, (n, groups * each, h, w))


def _batch_norm(b: Builder, x: Tensor) -> None:
    name, shape = x
    c = shape[1]
    params = [b.param(c, positive=True), b.param(c), b.param(c), b.param(c, positive=True)]
    b.put(b.op("BatchNormalization", name, *params), shape)


def _instance_norm(b: Builder, x: Tensor) -> None:
    name, shape = x
    if shape[2] * shape[3] > 1:
        b.put(b.op("InstanceNormalization", name, b.param(shape[1], positive=True), b.param(shape[1])), shape)


def _activation(b: Builder, x: Tensor) -> None:
    name, shape = x
    kind = str(b.random.choice(["Relu", "Sigmoid", "LeakyRelu", "HardSwish", "Tanh", "Softplus"]))
    b.put(b.op(kind, name), shape)


def _spelled_hard_swish(b: Builder, x: Tensor) -> None:
    name, shape = x
    three, six = b.constant(np.float32(3)), b.constant(np.float32(6))
    clipped = b.op("Clip", b.op("Add", name, three), b.constant(np.float32(0)), six)
    b.put(b.op("Div", b.op("Mul", name, clipped), six), shape)


def _prelu(b: Builder, x: Tensor) -> None:
    name, shape = x
    b.put(b.op("PRelu", name, b.param(shape[1], 1, 1)), shape)


def _scale(b: Builder, x: Tensor) -> None:
    name, shape = x
    b.put(b.op(str(b.random.choice(["Add", "Mul", "Sub"])), name, b.param(1, shape[1], 1, 1)), shape)


def _squeeze_excite(b: Builder, x: Tensor) -> None:
    name, shape = x
    c, middle = shape[1], b.pick(1, 4)
    pooled = b.reduce("ReduceMean", name, 2, 3)
    squeezed = b.op("Relu", b.op("Conv", pooled, b.param(middle, c, 1, 1), b.param(middle)))
    gate = b.op("Sigmoid", b.op("Conv", squeezed, b.param(c, middle, 1, 1)))
    b.put(b.op("Mul", name, gate), shape)


def _join(b: Builder, x: Tensor) -> None:
    alike = [other for other in b.pool if other[1] == x[1]]
    other = alike[b.pick(0, len(alike) - 1)]
    b.put(b.op(str(b.random.choice(["Add", "Mul", "Max"])), x[0], other[0]), x[1])


def _concat(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    alike = [o for o in b.pool if (o[1][0], *o[1][2:]) == (n, h, w) and o[1][1] + c <= 24]
    if alike:
        other = alike[b.pick(0, len(alike) - 1)]
        b.put(b.op("Concat", name, other[0], axis=1), (n, c + other[1][1], h, w))


def _split(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    if c >= 2:
        first = b.pick(1, c - 1)
        y = b.op("Split", name, b.ints(first, c - first), outputs=2, axis=1)
        b.put(y, (n, first, h, w))
        b.put(y[:-1] + "1", (n, c - first, h, w))


def _slice(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    start = b.pick(0, c - 1)
    end = b.pick(start + 1, c)
    spelled = (start, end) if b.pick(0, 1) else (start - c, end - c if end < c else 1000)
    y = b.op("Slice", name, b.ints(spelled[0]), b.ints(spelled[1]), b.ints(1))
    b.put(y, (n, end - start, h, w))


def _stride(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    if h >= 4:
        y = b.op("Slice", name, b.ints(0, 0), b.ints(1000, 1000), b.ints(2, 3), b.ints(2, 2))
        b.put(y, (n, c, (h + 1) // 2, (w + 1) // 2))


def _gather(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    chosen = b.random.integers(-c, c, b.pick(1, c))
    b.put(b.op("Gather", name, b.ints(*chosen.tolist()), axis=1), (n, len(chosen), h, w))


def _pad(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    before, after = b.pick(-1 if c > 2 else 0, 3), b.pick(0, 3)
    y = b.op("Pad", name, b.ints(0, before, 0, 0, 0, after, 0, 0), b.constant(np.float32(b.pick(0, 1))))
    b.put(y, (n, c + before + after, h, w))


def _pad_space(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    mode = str(b.random.choice(["constant", "reflect", "edge"]))
    if min(h, w) > 1 and h < 12:
        b.put(b.op("Pad", name, b.ints(0, 0, 1, 0, 0, 0, 1, 0), mode=mode), (n, c, h + 2, w))


def _there_and_back(b: Builder, x: Tensor) -> None:
    """NHWC for a while, with a matrix product on the channels."""
    name, (n, c, h, w) = x
    out = b.pick(2, 8)
    last = b.op("Transpose", name, perm=[0, 2, 3, 1])
    mixed = b.op("Add", b.op("MatMul", last, b.param(c, out)), b.param(out))
    b.put(b.op("Transpose", mixed, perm=[0, 3, 1, 2]), (n, out, h, w))


def _shuffle(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    groups = [g for g in (2, 3, 4) if c % g == 0 and c > g]
    if groups:
        g = int(b.random.choice(groups))
        split = b.reshape(name, n, g, c // g, h, w)
        turned = b.op("Transpose", split, perm=[0, 2, 1, 3, 4])
        b.put(b.reshape(turned, n, c, h, w), (n, c, h, w))


def _squeeze_and_back(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    pooled = b.op("GlobalMaxPool", name)
    flat = b.op("Squeeze", pooled, b.ints(2, 3))
    tall = b.op("Unsqueeze", flat, b.ints(2, 3))
    b.put(b.expand(tall, name, n, c, h, w), (n, c, h, w))


def _pool(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    kind = str(b.random.choice(["MaxPool", "AveragePool"]))
    padded = any(node.op_type == "Pad" and name in node.output for node in b.nodes)
    if h >= 4 and w >= 4 and not padded:  # ONNX Runtime fuses the two and then refuses what it made
        b.put(b.op(kind, name, kernel_shape=[2, 2], strides=[2, 2]), (n, c, h // 2, w // 2))


def _resize(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    if h <= 6 and w <= 6:
        if b.pick(0, 1):
            y = b.op("Resize", name, "", b.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
        else:
            y = b.op("Resize", name, "", "", b.sizes(name, 2 * h, 2 * w, channels=c), mode="linear")
        b.put(y, (n, c, 2 * h, 2 * w))


def _depth_to_space(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    if c % 4 == 0 and h <= 8:
        mode = str(b.random.choice(["DCR", "CRD"]))
        b.put(b.op("DepthToSpace", name, blocksize=2, mode=mode), (n, c // 4, 2 * h, 2 * w))


def _space_to_depth(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    if h % 2 == 0 and w % 2 == 0 and c <= 8:
        b.put(b.op("SpaceToDepth", name, blocksize=2), (n, 4 * c, h // 2, w // 2))


def _tile(b: Builder, x: Tensor) -> None:
    name, (n, c, h, w) = x
    if c <= 8:
        b.put(b.op("Tile", name, b.ints(1, 2, 1, 1)), (n, 2 * c, h, w))


def _normalise_channels(b: Builder, x: Tensor) -> None:
    """Operators that must lock the channels."""
    name, shape = x
    y = b.op("LRN", name, size=3) if b.pick(0, 1) else b.op("Softmax", name, axis=1)
    b.put(y, shape)


GROWTHS = (
    *([conv] * 5), _transposed, _batch_norm, _batch_norm, _instance_norm, _activation, _activation,
    _spelled_hard_swish, _prelu, _scale, _squeeze_excite, _join, _join, _join, _concat, _concat, _split, _slice,
    _stride, _gather, _pad, _pad_space, _there_and_back, _shuffle, _shuffle, _squeeze_and_back, _pool, _resize,
    _depth_to_space, _space_to_depth, _tile, _normalise_channels,
)  # fmt: skip
