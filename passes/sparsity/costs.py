"""What a sparse network costs, in exact integers.

`params` counts the parameters that are stored: all but the weights that are zero for good. `flops` are the
multiply-accumulates with weights that stay. `size` is bytes: of a layer the values that stay and one bit for
each unit, or the whole matrix where that is less; of everything else what it takes. Activations are those of the
original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from amcc.budget import Costs
from amcc.ir import Array
from amcc.passes.cost import node_macs, parameter_count, weight_bytes
from amcc.passes.memory import peak_activations
from amcc.passes.sparsity.layers import Layers


class SparseCosts:
    """Costs of any plan of one network, without building it; all follow from how many units stay.

    Args:
        memory: also count the peak of activations, which is 0 otherwise.
    """

    regular = True

    def __init__(self, layers: Layers, *, memory: bool = False) -> None:
        self.layers = layers
        graph = layers.graph
        self._nodes = node_macs(graph)
        found = layers.layers
        self._macs = np.array([layer.macs for layer in found], np.int64)
        self._units = np.array([layer.units for layer in found], np.int64)
        self._unit = np.array([layer.unit for layer in found], np.int64)
        self._bits = np.array([layer.bits for layer in found], np.int64)
        whole = self._units * self._unit
        self._fixed = Costs(
            flops=sum(self._nodes.values()) - int(self._macs.sum()),
            params=parameter_count(graph) - int(whole.sum()),
            size=weight_bytes(graph) - int(_bytes(whole * self._bits).sum()),
            memory=peak_activations(graph) if memory else 0,
        )

    def costs(self, keep: Sequence[int] | Array) -> Costs:
        """All costs of leaving each layer at a level."""
        return self._of(np.array([layer.kept[int(k)] for layer, k in zip(self.layers.layers, keep, strict=True)]))

    def of_removal(self, removal: Mapping[int, Array]) -> Costs:
        """All costs of a plan."""
        return self._of(self._left(removal))

    def node_macs(self, removal: Mapping[int, Array]) -> dict[str, int]:
        """MACs of each node under a plan, by node name."""
        left = self._layer_macs(self._left(removal)).tolist()
        return self._nodes | {a.linear.node.name: macs for a, macs in zip(self.layers.layers, left, strict=True)}

    @cached_property
    def original(self) -> Costs:
        """Costs of the network as it is."""
        return self._of(self._units)

    def _left(self, removal: Mapping[int, Array]) -> Array:
        return self._units - [len(removal.get(index, ())) for index in range(len(self._units))]

    def _layer_macs(self, units: Array) -> Array:
        return -(-self._macs * units // np.maximum(self._units, 1))

    def _of(self, units: Array) -> Costs:
        weights, fixed = units * self._unit, self._fixed
        dense, sparse = (
            _bytes(self._units * self._unit * self._bits),
            _bytes(weights * self._bits) + _bytes(self._units),
        )
        return Costs(
            flops=fixed.flops + int(self._layer_macs(units).sum()),
            params=fixed.params + int(weights.sum()),
            size=fixed.size + int(np.minimum(dense, sparse).sum()),
            memory=fixed.memory,
        )


def _bytes(bits: Array) -> Array:
    return -(-bits // 8)
