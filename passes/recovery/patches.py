"""Rows of a linear operator: what its weight matrix is multiplied with, and what comes out.

A row belongs to one sample and one output position. Positions are drawn by seed, the same ones for all
samples of a chunk, so that taking them is one indexing along one axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from amcc.ir import Array
from amcc.passes.recovery.linear import Linear


@dataclass(frozen=True, slots=True)
class Positions:
    """Output positions of a linear operator, for one shape of its input.

    Attributes:
        outputs: `[P]` positions in the flattened output grid.
        inputs: `[P, taps]` what each kernel offset reads there, in the flattened input grid; the grid's size,
            one past its end, stands for padding.
    """

    outputs: Array
    inputs: Array


def draw(linear: Linear, x: Array, y_shape: tuple[int, ...], limit: int, rng: np.random.Generator) -> Positions:
    """At most `limit` positions, sorted.

    Args:
        x: the input of a chunk of samples.
        y_shape: the shape of its output.
    """
    grid = _grid(linear, y_shape)
    count = math.prod(grid)
    chosen = np.arange(count) if count <= limit else np.sort(rng.choice(count, limit, replace=False))
    if not linear.kernel:
        return Positions(chosen, chosen[:, None])
    return Positions(chosen, _sources(linear, x.shape[2:], grid)[chosen])


def inputs_at(linear: Linear, x: Array, at: Positions) -> Array:
    """The rows `[G, R, K]` float32 of an input; columns as in `Linear.matrix`."""
    spread = _channels_last(linear, x, linear.x_axis)
    if not linear.kernel:
        return spread[:, at.outputs].reshape(1, -1, spread.shape[-1])
    samples, _, channels = spread.shape
    if (at.inputs == spread.shape[1]).any():
        spread = np.concatenate([spread, np.zeros((samples, 1, channels), np.float32)], axis=1)
    rows = spread[:, at.inputs]
    if linear.groups == 1:
        return rows.reshape(1, samples * len(at.outputs), -1)
    rows = rows.reshape(-1, linear.taps, linear.groups, channels // linear.groups)
    return np.ascontiguousarray(rows.transpose(2, 0, 1, 3)).reshape(linear.groups, len(rows), -1)


def outputs_at(linear: Linear, y: Array, at: Positions) -> Array:
    """The rows `[G, R, O]` float32 of an output, or of anything of its shape."""
    spread = _channels_last(linear, y, linear.y_axis)
    rows = spread[:, at.outputs].reshape(-1, linear.groups, spread.shape[-1] // linear.groups)
    return rows.transpose(1, 0, 2)


def _grid(linear: Linear, y_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of the output that are positions: all but the samples and the channels."""
    if linear.node.op == "Gemm" or linear.y_axis == 0:
        return (1,)
    return tuple(d for axis, d in enumerate(y_shape) if axis not in (0, linear.y_axis)) or (1,)


def _channels_last(linear: Linear, value: Array, axis: int) -> Array:
    """`[samples, positions, channels]`."""
    if linear.node.op == "Gemm":
        rows = value.T if axis == 0 else value
        return np.ascontiguousarray(rows, dtype=np.float32)[:, None]
    if axis == 0:  # a matrix on the right of a weight: its columns are the samples
        return np.ascontiguousarray(value.T, dtype=np.float32)[:, None]
    moved = np.moveaxis(value, axis, -1)
    moved = moved.reshape(len(value), -1, value.shape[axis])
    return np.ascontiguousarray(moved, dtype=np.float32)


def _sources(linear: Linear, size: tuple[int, ...], grid: tuple[int, ...]) -> Array:
    """`[positions, taps]` where each output position reads, for a convolution or a transposed one."""
    rank = len(size)
    attributes = linear.node.attributes
    strides = cast("tuple[int, ...]", attributes.get("strides", (1,) * rank))
    dilations = cast("tuple[int, ...]", attributes.get("dilations", (1,) * rank))
    begins = _begins(linear, size, grid, strides, dilations)
    flat = np.zeros((1, 1), np.int64)
    inside = np.ones((1, 1), bool)
    for n_in, n_out, k, stride, dilation, begin in zip(
        size, grid, linear.kernel, strides, dilations, begins, strict=True
    ):
        out, offset = np.arange(n_out)[:, None], np.arange(k)[None] * dilation
        if linear.node.op == "Conv":
            index = out * stride - begin + offset
            valid = (index >= 0) & (index < n_in)
        else:
            index, rest = np.divmod(out + begin - offset, stride)
            valid = (rest == 0) & (index >= 0) & (index < n_in)
        # axes so far are [positions, taps]; the new axis varies fastest in both
        flat = (flat[:, None, :, None] * n_in + index[None, :, None, :]).reshape(len(flat) * n_out, -1)
        inside = (inside[:, None, :, None] & valid[None, :, None, :]).reshape(len(inside) * n_out, -1)
    return np.where(inside, flat, math.prod(size))


def _begins(
    linear: Linear, size: tuple[int, ...], grid: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> list[int]:
    """Padding before the first element of every spatial axis."""
    attributes = linear.node.attributes
    how = attributes.get("auto_pad", "NOTSET")
    transposed = linear.node.op == "ConvTranspose"
    if how == "VALID":
        return [0] * len(size)
    if how == "NOTSET" and not (transposed and "output_shape" in attributes):
        pads = cast("tuple[int, ...]", attributes.get("pads", (0,) * 2 * len(size)))
        return list(pads[: len(size)])
    extra = cast("tuple[int, ...]", attributes.get("output_padding", (0,) * len(size)))
    begins = []
    for n_in, n_out, k, stride, dilation, more in zip(
        size, grid, linear.kernel, strides, dilations, extra, strict=True
    ):
        reach = dilation * (k - 1) + 1
        total = stride * (n_in - 1) + more + reach - n_out if transposed else (n_out - 1) * stride + reach - n_in
        total = max(total, 0)
        before = total // 2
        begins.append(before if how == "SAME_UPPER" else total - before)
    return begins
