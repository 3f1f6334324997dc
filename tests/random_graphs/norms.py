"""Normalisations as single nodes and spelled out."""

from __future__ import annotations

import numpy as np

from tests.random_graphs.builder import Builder, Tensor

_EPSILON = 1e-3


def _epsilon(b: Builder) -> str:
    return b.constant(np.float32(_EPSILON))


def _centred(b: Builder, x: str, axis: int, scale: str, shift: str) -> str:
    """Mean and variance over one axis, spelled out as exporters do."""
    mean = b.reduce("ReduceMean", x, axis)
    centred = b.op("Sub", x, mean)
    square = b.op("Mul", centred, centred) if b.pick(0, 1) else b.op("Pow", centred, b.constant(np.float32(2)))
    deviation = b.op("Sqrt", b.op("Add", b.reduce("ReduceMean", square, axis), _epsilon(b)))
    normal = b.op("Div", centred, deviation) if b.pick(0, 1) else b.op("Mul", centred, b.op("Reciprocal", deviation))
    return b.op("Add", b.op("Mul", normal, scale), shift)


def _root_mean_square(b: Builder, x: str, axis: int, scale: str) -> str:
    square = b.op("Mul", x, x)
    mean = b.op("Add", b.reduce("ReduceMean", square, axis), _epsilon(b))
    return b.op("Mul", b.op("Mul", x, b.op("Reciprocal", b.op("Sqrt", mean))), scale)


def last_axis(b: Builder, x: str, d: int) -> str:
    """LayerNorm or RMSNorm over the last axis, in one of their spellings."""
    kind = b.pick(0, 3)
    if kind == 0:
        return b.op("LayerNormalization", x, b.param(d, positive=True), b.param(d), epsilon=_EPSILON)
    if kind == 1:
        return _centred(b, x, -1, b.param(d, positive=True), b.param(d))
    if kind == 2 and b.opset >= 23:
        return b.op("RMSNormalization", x, b.param(d, positive=True), epsilon=_EPSILON)
    return _root_mean_square(b, x, -1, b.param(d, positive=True))


def layer_norm(b: Builder, x: Tensor) -> None:
    """Over the channels, which are turned to the last place and back, or stay where they are."""
    name, shape = x
    c = shape[1]
    if b.pick(0, 1):
        normal = last_axis(b, b.op("Transpose", name, perm=[0, 2, 3, 1]), c)
        b.put(b.op("Transpose", normal, perm=[0, 3, 1, 2]), shape)
    elif b.pick(0, 1):
        b.put(_centred(b, name, 1, b.param(c, 1, 1, positive=True), b.param(c, 1, 1)), shape)
    else:
        b.put(_root_mean_square(b, name, 1, b.param(c, 1, 1, positive=True)), shape)


def group_norm(b: Builder, x: Tensor) -> None:
    """A node where the opset has it; else InstanceNormalization over rows of groups, or spelled out."""
    name, (n, c, h, w) = x
    groups = int(b.random.choice([g for g in (1, 2, 3, 4) if c % g == 0]))
    scale, shift = b.param(c, positive=True), b.param(c)
    if b.opset >= 21 and b.pick(0, 1):
        y = b.op("GroupNormalization", name, scale, shift, num_groups=groups, epsilon=_EPSILON)
        b.put(y, (n, c, h, w))
        return
    if c // groups * h * w == 1:
        return
    if b.pick(0, 1):
        rows = b.op("Reshape", name, b.ints(0, groups, -1))
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        normal = b.op("InstanceNormalization", rows, b.constant(ones), b.constant(zeros), epsilon=_EPSILON)
    else:
        rows = b.reshape(name, n, groups, c // groups * h * w)
        normal = _centred(b, rows, 2, b.constant(np.float32(1)), b.constant(np.float32(0)))
    back = b.reshape(normal, n, c, h, w)
    scaled = b.op("Mul", back, b.op("Unsqueeze", scale, b.ints(1, 2)))
    b.put(b.op("Add", scaled, b.op("Unsqueeze", shift, b.ints(1, 2))), (n, c, h, w))


def response_norm(b: Builder, x: Tensor) -> None:
    """ConvNeXt V2's: the norm over space, divided by its mean over the channels."""
    name, shape = x
    norm = b.reduce("ReduceL2", name, 2, 3)
    relative = b.op("Div", norm, b.op("Add", b.reduce("ReduceMean", norm, 1), _epsilon(b)))
    scaled = b.op("Mul", b.op("Mul", name, relative), b.param(shape[1], 1, 1))
    b.put(b.op("Add", scaled, name), shape)


def unit_length(b: Builder, x: Tensor) -> None:
    """Over the channels, as a node or with its norm spelled out."""
    name, shape = x
    if b.pick(0, 1):
        b.put(b.op("LpNormalization", b.op("Add", name, _epsilon(b)), axis=1), shape)
        return
    norm = b.op("Clip", b.reduce("ReduceL2", name, 1), _epsilon(b))
    b.put(b.op("Div", name, norm), shape)


def over_channels(b: Builder, x: Tensor) -> None:
    """What computes over all channels at once."""
    name, shape = x
    kind = b.pick(0, 4)
    if kind == 0:
        b.put(b.op("LRN", name, size=3), shape)
    elif kind == 1:
        b.put(b.op("Softmax", name, axis=1), shape)
    elif kind == 2:
        b.put(b.op("CumSum", name, b.constant(np.int64(1)), reverse=b.pick(0, 1)), shape)
    elif kind == 3:
        gate = b.op("Sigmoid", b.reduce(str(b.random.choice(["ReduceMax", "ReduceMean", "ReduceSum"])), name, 1))
        b.put(b.op("Mul", name, gate), shape)
    else:
        b.put(b.op("Mul", name, b.op("Sigmoid", b.op("CumSum", name, b.constant(np.int64(3))))), shape)


GROWTHS = (layer_norm, layer_norm, group_norm, group_norm, response_norm, unit_length, over_channels)
