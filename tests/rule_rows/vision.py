"""Rows of the operators of detectors, segmenters and generators, and of data-dependent choice."""

from __future__ import annotations

import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row


def _floats(b: Builder, *values: float) -> str:
    return b.constant(np.array(values, np.float32))


def _array(b: Builder, values: object) -> str:
    return b.constant(np.array(values, np.int64))


def _grid_sample(b: Builder, x: str) -> str:
    places = b.constant(b.random.uniform(-1.2, 1.2, (2, 5, 3, 2)).astype(np.float32))
    return b.op("GridSample", x, places, mode="linear", padding_mode="border")


def _affine_grid(b: Builder, x: str) -> str:
    """A spatial transformer: the network chooses how its own features are turned."""
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    theta = b.op("Reshape", b.op("Gemm", pooled, b.param(C, 6)), b.ints(2, 2, 3))
    return b.op("GridSample", x, b.op("AffineGrid", theta, b.ints(2, C, 6, 5)))


def _roi_align(b: Builder, x: str) -> str:
    boxes = _floats(b, 0, 0, 7, 7, 1, 2, 5, 6)
    boxes = b.op("Reshape", boxes, b.ints(2, 4))
    return b.op("RoiAlign", x, boxes, b.ints(1, 0), output_height=3, output_width=4, spatial_scale=0.9)


def _max_roi_pool(b: Builder, x: str) -> str:
    boxes = b.op("Reshape", _floats(b, 0, 0, 0, 7, 7, 1, 1, 2, 5, 6), b.ints(2, 5))
    return b.op("MaxRoiPool", x, boxes, pooled_shape=[3, 4])


def _col2im(b: Builder, x: str) -> str:
    """Four columns of blocks of two by one, two channels each."""
    columns = b.op("Reshape", x, b.ints(2, C, 64))
    return b.op("Col2Im", columns, b.ints(16, SIDE), b.ints(2, 1), strides=[2, 1])


def _gather_nd(b: Builder, x: str) -> str:
    """Channel and row at once, constant."""
    turned = b.op("Transpose", x, perm=[1, 0, 2, 3])
    return b.op("Transpose", b.op("GatherND", turned, _array(b, [[7], [0], [-3], [0]])), perm=[1, 0, 2, 3])


def _scatter_nd(b: Builder, x: str) -> str:
    """Every other channel overwritten by the first four, halved."""
    turned = b.op("Transpose", x, perm=[1, 0, 2, 3])
    put = b.op("Slice", b.op("Mul", turned, _floats(b, 0.5)), b.ints(0), b.ints(4), b.ints(0))
    return b.op("Transpose", b.op("ScatterND", turned, _array(b, [[0], [2], [4], [-2]]), put), perm=[1, 0, 2, 3])


def _largest(b: Builder, x: str) -> str:
    """Where the largest entries of each row are, as data that depends on the channel."""
    return b.op("ArgMax", x, axis=3, keepdims=1)


def _gather_elements(b: Builder, x: str) -> str:
    return b.op("Add", x, b.op("GatherElements", x, _largest(b, x), axis=3))


def _compress(b: Builder, x: str) -> str:
    """The mean of some columns."""
    some = b.op("Compress", x, b.constant(np.array([1, 0, 1, 1, 0, 1, 0], bool)), axis=3)
    return b.op("Mul", x, b.op("ReduceMean", some, axes=[3], keepdims=1))


def _reverse(b: Builder, x: str) -> str:
    turned = b.op("Transpose", x, perm=[2, 0, 1, 3])
    return b.op("Transpose", b.op("ReverseSequence", turned, b.ints(3, 8)), perm=[1, 2, 0, 3])


def _one_hot(b: Builder, x: str) -> str:
    hot = b.op("OneHot", b.op("ArgMax", x, axis=3, keepdims=0), b.constant(np.int64(SIDE)), _floats(b, 0, 1), axis=3)
    return b.op("Mul", x, hot)


def _dft(b: Builder, x: str) -> str:
    """The length of each frequency along the rows."""
    waves = b.op("DFT", b.op("Unsqueeze", x, b.ints(4)), "", b.constant(np.int64(2)))
    return b.op("ReduceL2", waves, b.ints(4), keepdims=0)


def _stft(b: Builder, x: str) -> str:
    """Batch and channels as one axis of signals."""
    signals = b.op("Reshape", x, b.ints(2 * C, 64, 1))
    frames = b.op("STFT", signals, b.constant(np.int64(16)), "", b.constant(np.int64(16)))
    return b.op("Reshape", b.op("ReduceL2", frames, axes=[3], keepdims=0), b.ints(2, C, 4, 9))


def _det(b: Builder, x: str) -> str:
    return b.op("Add", x, b.op("Unsqueeze", b.op("Det", x), b.ints(2, 3)))


ROWS: dict[str, Row] = {
    "BitCast": Row(lambda b, x: b.op("BitCast", b.op("BitCast", x, to=6), to=1), opset=26),
    "Pad": Row(lambda b, x: b.op("Pad", x, b.ints(0, 2, 1, 0, 0, 3, 1, 0)), (13, 10, SIDE)),
    "CenterCropPad": Row(lambda b, x: b.op("CenterCropPad", x, b.ints(C, 5), axes=[1, 2]), (C, 5, SIDE), opset=18),
    "Resize": Row(lambda b, x: b.op("Resize", x, "", "", b.ints(2, C, 5, 11), mode="linear"), (C, 5, 11)),
    "Upsample": Row(lambda b, x: b.op("Upsample", x, _floats(b, 1, 1, 2, 2)), (C, 16, 16), opset=9),
    "GridSample": Row(_grid_sample, (C, 5, 3), opset=20),
    "AffineGrid": Row(_affine_grid, (C, 6, 5), opset=20, macs=2 * C * 6),
    "RoiAlign": Row(_roi_align, (C, 3, 4)),
    "MaxRoiPool": Row(_max_roi_pool, (C, 3, 4)),
    "DepthToSpace": Row(lambda b, x: b.op("DepthToSpace", x, blocksize=2, mode="CRD"), (2, 16, 16)),
    "SpaceToDepth": Row(lambda b, x: b.op("SpaceToDepth", x, blocksize=2), (32, 4, 4)),
    "Col2Im": Row(_col2im, (4, 16, SIDE), opset=18),
    "GatherND": Row(_gather_nd, (4, SIDE, SIDE)),
    "ScatterND": Row(_scatter_nd),
    "GatherElements": Row(_gather_elements),
    "ScatterElements": Row(
        lambda b, x: b.op("ScatterElements", x, _largest(b, x), b.op("ReduceMax", x, axes=[3], keepdims=1), axis=3)
    ),
    "Scatter": Row(
        lambda b, x: b.op("Scatter", x, _largest(b, x), b.op("ReduceMin", x, axes=[3], keepdims=1), axis=3), opset=10
    ),
    "Compress": Row(_compress),
    "ReverseSequence": Row(_reverse),
    "OneHot": Row(_one_hot),
    "DFT": Row(_dft, opset=20),
    "STFT": Row(_stft, (C, 4, 9)),
    "Det": Row(_det),
}
