"""Quantise and dequantise pairs around weights and activations.

Activations are quantised only where both sides of the law compute the very same numbers: at the input.
"""

from __future__ import annotations

import numpy as np

from tests.random_graphs.builder import Builder, Tensor


def _weight(b: Builder, *shape: int, axis: int) -> str:
    """An int8 weight with one scale, or one a channel, dequantised."""
    stored = b.constant(b.random.integers(-100, 100, shape).astype(np.int8))
    n = shape[axis]
    if b.opset >= 13 and b.pick(0, 1):
        scales = b.constant(b.random.uniform(0.002, 0.01, n).astype(np.float32))
        return b.op("DequantizeLinear", stored, scales, b.constant(np.zeros(n, np.int8)), axis=axis)
    return b.op("DequantizeLinear", stored, b.constant(np.float32(0.005)), b.constant(np.int8(0)))


def quantised_weight(b: Builder, x: Tensor) -> None:
    """A convolution, maybe grouped, or a product with a dequantised weight."""
    name, (n, c, h, w) = x
    if b.pick(0, 1):
        groups = int(b.random.choice([g for g in (1, 2, c) if c % g == 0]))
        out = groups * b.pick(1, 4)
        y = b.op("Conv", name, _weight(b, out, c // groups, 3, 3, axis=0), b.param(out), pads=[1] * 4, group=groups)
        b.put(y, (n, out, h, w))
    else:
        out = b.pick(2, 6)
        rows = b.op("MatMul", b.op("Transpose", name, perm=[0, 2, 3, 1]), _weight(b, c, out, axis=1))
        b.put(b.op("Transpose", rows, perm=[0, 3, 1, 2]), (n, out, h, w))


def quantised_input(b: Builder, x: Tensor) -> None:
    """The network's input through eight bits into a branch of its own."""
    entry, (n, c, h, w) = b.pool[0]
    scale, zero = b.constant(np.float32(0.03)), b.constant(np.uint8(128))
    back = b.op("DequantizeLinear", b.op("QuantizeLinear", entry, scale, zero), scale, zero)
    out = b.pick(2, 6)
    b.put(b.op("Conv", back, _weight(b, out, c, 3, 3, axis=0), b.param(out), pads=[1] * 4), (n, out, h, w))


GROWTHS = (quantised_weight, quantised_weight, quantised_input)
