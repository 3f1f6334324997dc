"""The linear layers of a network as decisions: how many of each one's weights stay.

Weights are seen as matrices `[G, O, K]` (`amcc.passes.recovery.linear`): G convolution groups, O outputs, K columns,
kernel offset first, then input channel. A *unit* is what stays or goes as a whole: a weight, or a block of rows
and columns; units are numbered row by row. Because a layer may have millions, a plan settles one of up
to `LEVELS` *levels* for it, evenly spaced.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amcc.granularity import Granularity
from amcc.ir import Array, Graph
from amcc.passes.cost import node_macs
from amcc.passes.integers import stored_bits
from amcc.passes.recovery.linear import Linear, linears

LEVELS = 200


@dataclass(frozen=True)
class Layer:
    """A linear layer of which weights may go.

    Attributes:
        index: place among the layers, in topological order.
        shape: `(G, O, K)` of its matrix.
        grid: `(G, O / rows, K / columns)` of its units.
        kept: `[levels + 1]` int64, the units that stay at each level: none at 0, all at the last.
        macs: multiply-accumulates of the node.
        bits: of a weight.
    """

    index: int
    linear: Linear
    shape: tuple[int, int, int]
    grid: tuple[int, int, int]
    kept: Array
    macs: int
    bits: int

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.linear.weight

    @property
    def levels(self) -> int:
        """The level at which everything stays."""
        return len(self.kept) - 1

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return math.prod(self.shape)

    @property
    def units(self) -> int:
        """How many units it has."""
        return math.prod(self.grid)

    @property
    def unit(self) -> int:
        """Weights of a unit."""
        return self.weights // self.units

    def mask(self, gone: Array) -> Array:
        """Bool `[G, O, K]`: the weights that stay when some units go."""
        alive = np.ones(self.units, bool)
        alive[gone] = False
        _, rows, columns = (whole // parts for whole, parts in zip(self.shape, self.grid, strict=True))
        return np.repeat(np.repeat(alive.reshape(self.grid), rows, 1), columns, 2)

    def by_unit(self, matrix: Array) -> Array:
        """A matrix `[G, O, K]` as `[units, weights of a unit]`."""
        (groups, above, beside), (_, outputs, columns) = self.grid, self.shape
        split = matrix.reshape(groups, above, outputs // above, beside, columns // beside)
        return split.transpose(0, 1, 3, 2, 4).reshape(self.units, -1)

    def stored(self, graph: Graph, mask: Array) -> Array:
        """A mask `[G, O, K]` in the shape of the parameter."""
        return np.asarray(self.linear.params(graph, mask.astype(np.float64), None)[self.name] != 0)


@dataclass(frozen=True)
class Layers:
    """All layers of a network of which weights may go.

    Attributes:
        whole: the linear layers that stay as they are, by node, each with the reason.
    """

    graph: Graph
    granularity: Granularity
    layers: tuple[Layer, ...]
    whole: Mapping[str, str]

    @property
    def groups(self) -> tuple[Layer, ...]:
        """The layers: what one decision is about, as a group is where channels go."""
        return self.layers

    def removal(self, keep: Sequence[int] | Array, orders: Sequence[Array]) -> dict[int, Array]:
        """The units that go at level `keep[l]` of each layer, first in `orders[l]` first; sorted."""
        return {
            layer.index: np.sort(orders[layer.index][: layer.units - int(layer.kept[int(level)])])
            for layer, level in zip(self.layers, keep, strict=True)
            if int(level) < layer.levels
        }

    def keep(self, removal: Mapping[int, Array]) -> tuple[int, ...]:
        """The level of each layer that a removal comes from, or else the next one that leaves as much."""
        return tuple(
            int(layer.kept.searchsorted(layer.units - len(removal.get(layer.index, ())))) for layer in self.layers
        )

    def masks(self, removal: Mapping[int, Array]) -> dict[str, Array]:
        """For the parameter of each layer that loses units, bool of its shape: what stays."""
        found = ((self.layers[index], gone) for index, gone in removal.items() if len(gone))
        return {layer.name: layer.stored(self.graph, layer.mask(gone)) for layer, gone in found}

    def of_masks(self, masks: Mapping[str, Array]) -> dict[int, Array]:
        """The units that masks remove, the reverse of `masks`.

        Raises:
            KeyError: a mask is of no layer that may lose weights.
            ValueError: a mask has another shape, or cuts through a unit or a pattern; names the parameter.
        """
        by_name = {layer.name: layer for layer in self.layers}
        removal = {}
        for name, mask in masks.items():
            layer, stored = by_name[name], self.graph.params[name]
            if mask.shape != stored.shape:
                raise ValueError(f"'{name}' has the shape {list(stored.shape)}, its mask {list(mask.shape)}")
            held = self.graph.with_params({name: mask.astype(stored.dtype)})
            alive = layer.by_unit(layer.linear.matrix(held) != 0)
            gone = np.asarray(~alive.any(axis=1))
            if (gone == alive.all(axis=1)).any() or not self._follows(layer, gone):
                raise ValueError(f"the mask of '{name}' does not have the granularity {self.granularity}")
            removal[layer.index] = np.flatnonzero(gone)
        return removal

    def _follows(self, layer: Layer, gone: Array) -> bool:
        how = self.granularity
        return not how.regular or bool((gone.reshape(-1, how.of).sum(axis=1) == how.of - how.stay).all())


def layers_of(graph: Graph, granularity: Granularity, *, locked: Iterable[str] = ()) -> Layers:
    """The linear layers of a network in topological order.

    Args:
        locked: names of parameters, nodes or values; a layer with a weight, bias, node or output of that name
            stays whole.
    """
    names, macs = set(locked), node_macs(graph)
    found: list[Layer] = []
    whole: dict[str, str] = {}
    for linear in linears(graph).values():
        if not names.isdisjoint((linear.weight, linear.bias, linear.node.name, linear.y, *linear.node.outputs)):
            whole[linear.node.name] = "locked"
            continue
        shape = linear.matrix(graph).shape
        grid = _grid(granularity, linear, shape)
        if grid is None:
            whole[linear.node.name] = f"its channels are no multiples of {granularity}"
            continue
        bits = stored_bits(graph.params[linear.weight])
        kept = _kept(granularity, math.prod(grid))
        found.append(Layer(len(found), linear, shape, grid, kept, macs.get(linear.node.name, 0), bits))
    return Layers(graph, granularity, tuple(found), whole)


def _grid(granularity: Granularity, linear: Linear, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The units of a matrix; None where they would not come out even."""
    groups, outputs, columns = shape
    channels = columns // linear.taps
    if granularity.regular and channels % granularity.of:
        return None
    if outputs % granularity.rows or channels % granularity.columns:
        return None
    return groups, outputs // granularity.rows, columns // granularity.columns


def _kept(granularity: Granularity, units: int) -> Array:
    if granularity.regular:
        return np.array([0, units // granularity.of * granularity.stay, units], np.int64)
    levels = min(units, LEVELS)
    return -(-units * np.arange(levels + 1, dtype=np.int64) // levels)
