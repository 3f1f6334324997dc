"""What the weights of a sparse network take when they are stored in a form that leaves zeros out."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.cost import weight_bytes
from amcc.passes.integers import is_weight
from amcc.passes.sparsity.layers import Layers

_LEVEL = 6
_NARROW = 1 << 16


@dataclass(frozen=True)
class Sizes:
    """Of all trained parameters together.

    Attributes:
        nonzeros: numbers other than zero.
        zlib: bytes, each parameter compressed with zlib's level 6.
        bitmask: bytes, of each layer the numbers other than zero and one bit for each weight.
        csr: bytes, of each layer's matrix the numbers other than zero, a column for each of two bytes (four from
            65,536 columns on), and four bytes for each row.
    """

    nonzeros: int
    zlib: int
    bitmask: int
    csr: int


def sizes(graph: Graph, layers: Layers) -> Sizes:
    """Measure and count; what is not smaller in a form is counted dense."""
    dense = weight_bytes(graph)
    bitmask = csr = dense
    for layer in layers.layers:
        groups, outputs, columns = layer.shape
        left = int(np.count_nonzero(graph.params[layer.name]))
        whole, values = -(-layer.weights * layer.bits // 8), -(-left * layer.bits // 8)
        index = left * (2 if columns < _NARROW else 4) + 4 * (groups * outputs + 1)
        bitmask -= max(0, whole - values - -(-layer.weights // 8))
        csr -= max(0, whole - values - index)
    trained = [array for name, array in graph.params.items() if is_weight(graph, name)]
    return Sizes(
        nonzeros=sum(int(np.count_nonzero(array)) for array in trained),
        zlib=sum(_compressed(array) for array in trained),
        bitmask=bitmask,
        csr=csr,
    )


def _compressed(array: Array) -> int:
    return len(zlib.compress(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, _LEVEL))
