"""Made-up devices: functions from an ONNX file to milliseconds that say the same whenever they are asked."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import onnx


class Layer(NamedTuple):
    """A convolution: channels out and in, and offsets times positions."""

    made: int
    read: int
    area: int


def convolutions(path: str) -> Iterator[Layer]:
    """The convolutions of a file."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in graph.value_info}
    for node in graph.node:
        if node.op_type == "Conv":
            made, read, *kernel = weights[node.input[1]]
            yield Layer(made, read, math.prod(kernel) * math.prod(shapes[node.output[0]][2:]))


def treads_of_8(path: str) -> float:
    """Channels cost as much as the next multiple of eight."""
    return 0.01 + sum(0.001 + 1e-6 * up(c.made) * up(c.read) * c.area for c in convolutions(path))


def up(channels: int) -> int:
    """The next multiple of eight."""
    return -(-channels // 8) * 8


def smooth(path: str) -> float:
    """Every channel costs the same."""
    return 0.01 + sum(0.001 + 1e-6 * layer.made * layer.read * layer.area for layer in convolutions(path))


def constant(path: str) -> float:
    """Nothing makes it faster."""
    return 1.0


def broken(path: str) -> float:
    """Lost the connection."""
    raise ConnectionError("the phone is gone")


def hanging(path: str) -> float:
    """Never answers in time."""
    time.sleep(5)
    return 1.0
