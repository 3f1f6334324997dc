"""What random networks have found, each as the smallest network that shows it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.random_graphs import BATCH, Builder

N = BATCH


def single_index_gathered(b: Builder) -> onnx.ModelProto:
    """A list of one index was split into axes without a lock, so that its channel could go."""
    x = b.op("Conv", "x", b.param(2, 3, 3, 3), b.param(2), pads=[1] * 4)
    y = b.op("Gather", x, b.ints(-1), axis=1)
    return b.finish(b.op("Conv", y, b.param(4, 1, 1, 1)))


def square_group_norm(b: Builder) -> onnx.ModelProto:
    """Two groups of two: groups and positions had one footprint, and a plan could leave nothing."""
    b.opset = 21
    x = b.op("Conv", "x", b.param(4, 3, 1, 1))
    y = b.op("GroupNormalization", x, b.param(4, positive=True), b.param(4), num_groups=2)
    return b.finish(b.op("Conv", y, b.param(4, 4, 1, 1)))


def product_with_a_quantised_weight(b: Builder) -> onnx.ModelProto:
    """The runtime's fusion rounds the activations to eight bits, on one side of the certificate only."""
    weight = b.constant(b.random.integers(-100, 100, (6, 5)).astype(np.int8))
    dense = b.op("DequantizeLinear", weight, b.constant(np.float32(0.005)), b.constant(np.int8(0)))
    x = b.op("Conv", "x", b.param(6, 3, 1, 1))
    rows = b.op("MatMul", b.op("Transpose", x, perm=[0, 2, 3, 1]), dense)
    return b.finish(b.op("MatMul", b.op("Relu", rows), b.param(5, 4)))


def diagonal_of_a_grid(b: Builder) -> onnx.ModelProto:
    """One channel of either copy: a plan that kept another channel and another copy left nothing."""
    x = b.op("Conv", "x", b.param(5, 3, 1, 1))
    y = b.op("Gather", b.op("Tile", x, b.ints(1, 2, 1, 1)), b.ints(6, -6), axis=1)
    return b.finish(b.op("Conv", y, b.param(4, 2, 1, 1)))


CASES: dict[str, Callable[[Builder], onnx.ModelProto]] = {
    make.__name__: make
    for make in (single_index_gathered, square_group_norm, product_with_a_quantised_weight, diagonal_of_a_grid)
}
