"""What a rule uses to spell a node for shrunk shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from amcc.ir import Array, Attribute, Dim, Graph, Node, Shape, Value, frozen, unused
from amcc.passes.dims import parse, per_sample, text
from amcc.passes.rules.known import wholes
from amcc.passes.rules.rule import Place


class Respell:
    """The old graph, what is kept of its axes, and the constants that rules add.

    Attributes:
        graph: the graph before the cut.
        cut: the indices that stay, for each (tensor, axis) that shrinks.
        constants: new parameters by name.
        nodes: new nodes that make what a respelled node reads, in order.
        values: what those make.
    """

    def __init__(self, graph: Graph, kept: Mapping[Place, Array]) -> None:
        self.graph = graph
        self.constants: dict[str, Array] = {}
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.cut = kept

    def changes(self, value: str) -> bool:
        """Whether any axis of the tensor shrinks."""
        shape = self.graph.values[value].shape if value else None
        return shape is not None and any((value, axis) in self.cut for axis in range(len(shape)))

    def kept(self, value: str, axis: int) -> Array:
        """The indices that stay on an axis of known length, or within one period of `"8*batch"`."""
        shape = self.graph.shape(value)
        axis %= len(shape)
        if (value, axis) in self.cut:
            return self.cut[value, axis]
        return np.arange(per_sample(shape[axis]))

    def size(self, value: str, axis: int) -> int:
        """The new length of an axis of known length."""
        return len(self.kept(value, axis))

    def shape(self, value: str) -> Shape:
        """The new shape of a tensor."""
        return tuple(
            resized(dim, len(self.cut[value, axis])) if (value, axis) in self.cut else dim
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
        return _reading(node, index, self.add(node, array.astype(old.dtype) if old is not None else array, index))

    def add(self, node: Node, array: Array, what: object = "constant") -> str:
        """A new constant for a node; gives its name."""
        name = self._unused(f"{node.name}/{(isinstance(what, int) and node.input(what)) or what}")
        self.constants[name] = frozen(array)
        return name

    def step(self, node: Node, op: str, inputs: tuple[str, ...], value: Value, **attributes: Attribute) -> str:
        """A new node in front of a respelled one; gives its output, described by `value`."""
        name = self._unused(value.name)
        self.values[name] = Value(name, value.dtype, value.shape)
        self.nodes.append(
            Node(f"{name}/{op}", op, inputs, (name,), attributes=MappingProxyType(attributes), source=node.source)
        )
        return name

    def with_lengths(self, node: Node, index: int, old: Sequence[Dim], new: Sequence[Dim]) -> Node:
        """The node, whose input `index` spells the lengths `old`, spelling the lengths `new` instead."""
        spelled = node.inputs[index]
        constant = self.constant(spelled)
        if constant is not None:
            numbers = [dim if isinstance(dim, int) else said for dim, said in zip(new, constant.tolist(), strict=True)]
            return self.with_constant(node, index, np.array(numbers))
        known = wholes(self.graph, spelled) or [None] * len(new)
        by = [per_sample(dim) if number is None else 1 for dim, number in zip(old, known, strict=True)]
        times = [per_sample(dim) if number is None else 1 for dim, number in zip(new, known, strict=True)]
        if any(not isinstance(dim, int) and a != b for dim, a, b in zip(new, times, by, strict=True)):
            described = Value(f"{node.name}/{spelled}/left", "int64", (len(new),))
            product = self.step(node, "Mul", (spelled, self.add(node, np.array(times), "times")), described)
            quotient = self.step(node, "Div", (product, self.add(node, np.array(by), "by")), described)
            node = _reading(node, index, quotient)
        return self.with_entries(node, index, [dim if isinstance(dim, int) else None for dim in new])

    def with_entries(self, node: Node, index: int, entries: Sequence[int | None]) -> Node:
        """The node, whose input `index` spells a shape at run time, with some entries replaced by numbers."""
        old = node.inputs[index]
        known = [entry for entry in entries if entry is not None]
        if not known:
            return node
        if len(known) == len(entries):
            return self.with_constant(node, index, np.array(known, np.int64))
        told = self.add(node, np.array([entry is not None for entry in entries]), "told")
        numbers = self.add(node, np.array([entry or 0 for entry in entries], np.int64), "numbers")
        described = Value(f"{node.name}/{old}/told", "int64", (len(entries),))
        return _reading(node, index, self.step(node, "Where", (told, numbers, old), described))

    def _unused(self, name: str) -> str:
        return unused(name, self.graph.values, self.constants, self.values)


def _reading(node: Node, index: int, name: str) -> Node:
    inputs = list(node.inputs) + [""] * (index + 1 - len(node.inputs))
    inputs[index] = name
    return node.replace(inputs=tuple(inputs))


def resized(dim: Dim, n: int) -> Dim:
    """The length of an axis of which n indices stay, of one period if it is `"8*batch"`."""
    parsed = parse(dim)
    return n if parsed is None else text(n, parsed[1])


def with_attributes(node: Node, **changes: object) -> Node:
    """The node with some attributes replaced."""
    return node.replace(attributes={**node.attributes, **changes})


def described(name: str, array: Array) -> Value:
    """The description of a parameter."""
    return Value(name, array.dtype.name, array.shape)
