"""What a rule uses to spell a node for shrunk shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from amcc.ir import Array, Graph, Node, Shape, Value, frozen
from amcc.passes.rules.rule import Place


class Respell:
    """The old graph, what is kept of its axes, and the constants that rules add.

    Attributes:
        graph: the graph before the cut.
        cut: the indices that stay, for each (tensor, axis) that shrinks.
        constants: new parameters by name.
    """

    def __init__(self, graph: Graph, kept: Mapping[Place, Array]) -> None:
        self.graph = graph
        self.constants: dict[str, Array] = {}
        self.cut = kept

    def changes(self, value: str) -> bool:
        """Whether any axis of the tensor shrinks."""
        shape = self.graph.values[value].shape if value else None
        return shape is not None and any((value, axis) in self.cut for axis in range(len(shape)))

    def kept(self, value: str, axis: int) -> Array:
        """The indices that stay on an axis of known length."""
        shape = self.graph.shape(value)
        axis %= len(shape)
        if (value, axis) in self.cut:
            return self.cut[value, axis]
        size = shape[axis]
        assert isinstance(size, int)
        return np.arange(size)

    def size(self, value: str, axis: int) -> int:
        """The new length of an axis of known length."""
        return len(self.kept(value, axis))

    def shape(self, value: str) -> Shape:
        """The new shape of a tensor."""
        return tuple(
            len(self.cut[value, axis]) if (value, axis) in self.cut else dim
            for axis, dim in enumerate(self.graph.shape(value))
        )

    def constant(self, value: str) -> Array | None:
        """The array of a constant input, before the cut."""
        return self.graph.params.get(value) if value else None

    def with_constant(self, node: Node, index: int, array: Array) -> Node:
        """The node, reading a new constant as input `index`; unchanged if it says the same."""
        old = self.constant(node.input(index))
        if old is not None and old.shape == array.shape and bool(np.array_equal(old, array)):
            return node
        name = f"{node.name}/{node.input(index) or index}"
        while name in self.graph.values or name in self.constants:
            name += "'"
        self.constants[name] = frozen(array.astype(old.dtype) if old is not None else array)
        inputs = list(node.inputs) + [""] * (index + 1 - len(node.inputs))
        inputs[index] = name
        return node.replace(inputs=tuple(inputs))


def with_attributes(node: Node, **changes: object) -> Node:
    """The node with some attributes replaced."""
    return node.replace(attributes={**node.attributes, **changes})


def described(name: str, array: Array) -> Value:
    """The description of a parameter."""
    return Value(name, array.dtype.name, array.shape)
