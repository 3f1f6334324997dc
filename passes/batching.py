"""Which inputs of a graph hold samples, along which axis, and how many of them one run takes.

An input is *batched* where one of its dimensions is the batch: a symbol in front of some input, else a symbol
with "batch" in its name at any axis; without symbols, the leading number that all inputs in use share. Every
other input is *shared*: all samples see it as it is. Where no input is batched, a sample is a whole set of
inputs, and samples are *stacked* along an axis of their own, in front of every input's shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array, Graph, Shape
from amcc.passes.inputs import batch_symbols


@dataclass(frozen=True)
class Batching:
    """How samples lie in the inputs of a graph.

    Attributes:
        axes: the axis of the samples of each batched input; None where it is the first of every input.
        size: samples that a run takes, no more and no fewer; 0 where any number will do.
        one_by_one: whether samples are best run alone: a shared input holds a 1 that may stand for one sample.
        stacked: whether a sample is a whole set of inputs, behind an axis of samples that the graph lacks.
        symbols: the dimensions that are the batch.
    """

    axes: Mapping[str, int] | None = None
    size: int = 0
    one_by_one: bool = False
    stacked: bool = False
    symbols: frozenset[str] = frozenset()

    def axis(self, name: str) -> int | None:
        """The axis of an input's samples; None for a shared one."""
        return 0 if self.axes is None else self.axes.get(name)

    def count(self, inputs: Mapping[str, Array]) -> int:
        """The number of samples."""
        return min((a.shape[axis] for n, a in inputs.items() if (axis := self.axis(n)) is not None), default=0)

    def take(self, inputs: Mapping[str, Array], chosen: slice | Array) -> dict[str, Array]:
        """Some samples, as they lie; a slice makes views."""
        return {
            name: array if (axis := self.axis(name)) is None else array[(slice(None),) * axis + (chosen,)]
            for name, array in inputs.items()
        }

    def feeds(self, inputs: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
        """What a run over samples `start` to `stop` takes; of stacked samples, the first of these."""
        if self.stacked:
            return {name: np.asarray(array[start]) for name, array in inputs.items()}
        return self.take(inputs, slice(start, stop))

    def count_in(self, feeds: Mapping[str, Array]) -> int:
        """The number of samples in what a run takes."""
        return 1 if self.stacked else self.count(feeds)

    @property
    def alone(self) -> bool:
        """Whether a run takes a single sample."""
        return self.stacked or self.one_by_one

    def samples_first(self, shape: Shape | None, array: Array, count: int) -> Array:
        """What a run over so many samples gave for a value, one row a sample where that is known.

        A value without a batch axis is repeated for every sample of the run.

        Args:
            shape: the value's, in the graph.
        """
        if self.stacked:
            return array[None]
        if shape is None or array.ndim != len(shape):
            return array
        if shape and self.size and isinstance(shape[0], int) and shape[0] % self.size == 0:
            several = shape[0] // self.size
            return array if several <= 1 else array.reshape(-1, several, *array.shape[1:])
        if not self.size:
            axis = next((axis for axis, dim in enumerate(shape) if dim in self.symbols), None)
            if axis is not None:
                return np.moveaxis(array, axis, 0)
        if all(isinstance(dim, int) for dim in shape):
            return np.broadcast_to(array, (count, *array.shape))
        return array


SAMPLES_FIRST = Batching()
"""Samples in front of every input."""


def batching(graph: Graph) -> Batching:
    """How samples lie in the inputs of a graph; see the module's text."""
    shapes = {name: shape for name in graph.inputs if (shape := graph.values[name].shape)}
    read = {name for name in shapes if name in graph.consumers or name in graph.outputs}
    if symbols := batch_symbols(shapes.values()):
        axes = {n: axis for n, shape in shapes.items() if (axis := _axis(shape, symbols)) is not None}
        one = any(1 in shapes[name] and len(shapes[name]) > 1 for name in read - axes.keys())
        return Batching(axes, one_by_one=one, symbols=symbols)
    leading = {shape[0] for name, shape in shapes.items() if name in read or not read}
    if len(leading) == 1:
        size = leading.pop()
        assert isinstance(size, int)
        return Batching({n: 0 for n, shape in shapes.items() if shape[0] == size}, size=size)
    return Batching(dict.fromkeys(graph.inputs, 0), stacked=True)


def _axis(shape: Shape, symbols: frozenset[str]) -> int | None:
    return next((axis for axis, dim in enumerate(shape) if dim in symbols and (dim != "?" or not axis)), None)
