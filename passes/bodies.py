"""Bodies of If, Loop and Scan as nodes among the others, under names that nobody else has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.ir import Array, Attribute, Graph, Node, Opaque, Value, frozen, unused
from amcc.passes.protos import read_type

if TYPE_CHECKING:
    import onnx

Why = str
"""Why a body cannot be read."""


def body_of(node: Node, name: str) -> onnx.GraphProto:
    """A body of a node."""
    from onnx import AttributeProto

    carried = node.attributes[name]
    assert isinstance(carried, Opaque)
    body: onnx.GraphProto = AttributeProto.FromString(carried.data).g
    return body


def carried(node: Node, why: Why) -> Node:
    """The node with its bodies left as they are, and why."""
    attributes = {
        name: Opaque(value.kind, value.data, value.captures, why) if isinstance(value, Opaque) else value
        for name, value in node.attributes.items()
    }
    return node.replace(attributes=attributes)


def unreadable(body: onnx.GraphProto) -> Why | None:
    """What keeps a body from being read, if anything."""
    if body.sparse_initializer:
        return "a body holds sparse tensors"
    for info in (*body.input, *body.output):
        if info.type.WhichOneof("value") not in (None, "tensor_type"):
            return "a body takes or gives something other than a tensor"
    return None


class Names:
    """The names of a graph's values and nodes, and those that are added."""

    def __init__(self, graph: Graph) -> None:
        self.values = set(graph.values)
        self.nodes = {node.name for node in graph.nodes}


class Inlined:
    """The parts of bodies of one node.

    Names that nobody has stay; others get the node's in front.

    Args:
        names: that are taken; new ones join them.
        within: the node's name.

    Attributes:
        nodes: in order.
        values: descriptions of what they make, and of the constants.
        params: the bodies' constants.
    """

    def __init__(self, names: Names, within: str) -> None:
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.params: dict[str, Array] = {}
        self._taken = names
        self._within = within

    def add(self, body: onnx.GraphProto, given: Mapping[str, str] | None = None, source: str = "") -> tuple[str, ...]:
        """Read a body; gives the names of its results.

        Args:
            given: names outside for some of the body's inputs; the others get names of their own.
        """
        from onnx import numpy_helper

        names = dict(given or {})
        described = {info.name: read_type(info.type) for info in (*body.value_info, *body.output, *body.input)}
        for info in body.input:
            if info.name not in names:
                names[info.name] = self.value(info.name, *described[info.name])
        for tensor in body.initializer:
            names[tensor.name] = self.constant(tensor.name, numpy_helper.to_array(tensor))
        for number, inner in enumerate(body.node):
            domain = "" if inner.domain == "ai.onnx" else inner.domain
            attributes = {a.name: _attribute(a, names) for a in inner.attribute}
            if inner.op_type == "Constant" and not domain and (array := _content(attributes)) is not None:
                names[inner.output[0]] = self.constant(inner.output[0], array)
                continue
            inputs = tuple(names.get(name, name) for name in inner.input)
            for name in filter(None, inner.output):
                names[name] = self.value(name, *described.get(name, ("", None)))
            outputs = tuple(names[name] if name else "" for name in inner.output)
            called = self._free(inner.name or f"{self._within}/{inner.op_type}/{number}", self._taken.nodes)
            self.nodes.append(Node(called, inner.op_type, inputs, outputs, attributes, domain, inner.name or source))
        return tuple(names.get(result.name, result.name) for result in body.output)

    def value(self, name: str, dtype: str, shape: Any) -> str:
        """A new value; gives its name."""
        own = self._free(name, self._taken.values)
        self.values[own] = Value(own, dtype, shape)
        return own

    def constant(self, name: str, array: Array) -> str:
        """A new parameter; gives its name."""
        own = self.value(name, array.dtype.name, array.shape)
        self.params[own] = frozen(array)
        return own

    def _free(self, name: str, taken: set[str]) -> str:
        own = unused(f"{self._within}/{name}", taken) if not name or name in taken else name
        taken.add(own)
        return own


def replaced(graph: Graph, spelled: Mapping[str, tuple[Sequence[Node], Inlined]]) -> Graph:
    """The graph with some nodes, by name, spelled as others."""
    nodes: list[Node] = []
    values, params = dict(graph.values), dict(graph.params)
    for node in graph.nodes:
        if node.name not in spelled:
            nodes.append(node)
            continue
        new, parts = spelled[node.name]
        nodes += new
        values.update(parts.values)
        params.update(parts.params)
    return graph.replace(nodes=tuple(nodes), values=values, params=params).live()


# -- what a body reads -----------------------------------------------------------------------------


def inner_bodies(proto: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The bodies that an attribute holds."""
    from onnx import AttributeProto

    if proto.type == AttributeProto.GRAPH:
        yield proto.g
    yield from proto.graphs


def captured(body: onnx.GraphProto) -> list[str]:
    """Names that a body reads and does not make itself, bodies within bodies included."""
    made = {i.name for i in body.input} | {t.name for t in body.initializer}
    made |= {t.values.name for t in body.sparse_initializer}
    read: dict[str, None] = {}
    for node in body.node:
        inner = (name for a in node.attribute for b in inner_bodies(a) for name in captured(b))
        read.update(dict.fromkeys(name for name in (*node.input, *inner) if name and name not in made))
        made.update(node.output)
    read.update(dict.fromkeys(o.name for o in body.output if o.name and o.name not in made))
    return list(read)


def renamed(body: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Call what a body captures by other names."""
    for node in body.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for inner in inner_bodies(attribute):
                renamed(inner, names)
    for result in body.output:
        result.name = names.get(result.name, result.name)


def _attribute(proto: onnx.AttributeProto, names: Mapping[str, str]) -> Attribute:
    """An attribute inside a body; a body within is carried on, with what it captures under the new names."""
    from onnx import AttributeProto, helper, numpy_helper

    simple = (AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.INTS)
    lists = (AttributeProto.FLOATS, AttributeProto.STRINGS)
    if proto.type == AttributeProto.TENSOR:
        return frozen(numpy_helper.to_array(proto.t))
    if proto.type not in simple and not (proto.type in lists and (proto.floats or proto.strings)):
        inner = AttributeProto.FromString(proto.SerializeToString())
        for body in inner_bodies(inner):
            renamed(body, {old: new for old, new in names.items() if old != new and old in captured(body)})
        captures = tuple(dict.fromkeys(name for body in inner_bodies(inner) for name in captured(body)))
        kind = AttributeProto.AttributeType.Name(proto.type)
        return Opaque(kind, inner.SerializeToString(deterministic=True), captures)
    value: Any = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return value
    return tuple(entry.decode() if isinstance(entry, bytes) else entry for entry in value)


def _content(attributes: Mapping[str, Attribute]) -> Array | None:
    """What a Constant holds, if it is numbers."""
    ((key, value),) = attributes.items()
    if isinstance(value, np.ndarray):
        return value
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.array(value, types[key]) if key in types and not isinstance(value, Opaque) else None
