"""Integer weights as the real numbers that they stand for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from amcc.ir import Array, Graph, Node

_NARROW = frozenset({"int8", "uint8", "int4", "uint4", "int2", "uint2"})
_BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float4_e2m1fn": 4}
# Where operators have an integer weight, its scale and zero point (-1: none), and the axis that these go along.
_READERS = {
    "DequantizeLinear": (0, 1, 2, 1),
    "QLinearConv": (3, 4, 5, 0),
    "QLinearMatMul": (3, 4, 5, -1),
    "QGemm": (3, 4, 5, -1),
    "ConvInteger": (1, -1, 3, 0),
    "MatMulInteger": (1, -1, 3, -1),
    "MatMulIntegerToFloat": (1, 3, 5, -1),
    "DynamicQuantizeMatMul": (1, 2, 3, -1),
}
_BIASES = {"QLinearConv": 8, "QGemm": 6}


def is_weight(graph: Graph, name: str) -> bool:
    """Whether a parameter is trained: floats, bytes, and integers that some operator reads as reals."""
    dtype = graph.params[name].dtype
    if _is_real(dtype):
        return True
    return dtype.kind in "iu" and any(
        name in (reader.input(_READERS.get(reader.op, (99,))[0]), reader.input(_BIASES.get(reader.op, 99)))
        for reader in graph.consumers.get(name, ())
    )


@cache
def _is_real(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of a type are trained whoever reads them."""
    return dtype.kind == "f" or dtype.name.startswith(("float", "bfloat")) or dtype.name in _NARROW


def real(graph: Graph, name: str) -> Array | None:
    """A weight in float64; None for what is none, and for integers of which nobody says what they stand for."""
    array = graph.params[name]
    if not is_weight(graph, name):
        return None
    if array.dtype.kind not in "iu" and "int" not in array.dtype.name:
        return array.astype(np.float64)
    for reader in graph.consumers.get(name, ()):
        place = _READERS.get(reader.op)
        if place is not None and reader.input(place[0]) == name:
            return _dequantized(graph, reader, array, *place[1:])
    return None


def stored_bits(array: Array) -> int:
    """Bits that an element takes in a file, where narrow ones share bytes."""
    return _bits(array.dtype)


@cache
def _bits(dtype: np.dtype[Any]) -> int:
    return _BITS.get(dtype.name, 8 * dtype.itemsize)


def _dequantized(graph: Graph, reader: Node, array: Array, scale: int, zero: int, along: int) -> Array:
    axis = reader.attributes.get("axis", along) if reader.op == "DequantizeLinear" else along
    if reader.op == "QGemm" and reader.attributes.get("transB", 0):
        axis = 0
    block = reader.attributes.get("block_size", 0)
    assert isinstance(axis, int) and isinstance(block, int)
    result: Array = array.astype(np.float64)
    for index, combine in ((zero, np.subtract), (scale, np.multiply)):
        values = graph.params.get(reader.input(index)) if index >= 0 else None
        if values is not None:
            result = combine(result, _spread(values.astype(np.float64), result.shape, axis, block))
    return result


def _spread(values: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """One number for all, for each index of the axis, or for each block along it."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == len(shape) and block:
        return np.repeat(values, block, axis).take(range(shape[axis]), axis)
    if values.ndim == 1:
        return values.reshape([-1 if a == axis % len(shape) else 1 for a in range(len(shape))])
    return values
