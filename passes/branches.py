"""An If whose condition is known, spelled as the branch that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.ir import Array, Attribute, Graph, Node, Opaque, Value, frozen
from amcc.passes.protos import read_type

if TYPE_CHECKING:
    import onnx


def without_known_branches(graph: Graph) -> Graph:
    """The graph with every If of a constant condition replaced by the nodes of its branch; itself if there is none.

    A branch that amcc cannot read whole (it holds bodies or types) stays.
    """
    taken = {node.name: branch for node in graph.nodes if (branch := _taken(graph, node)) is not None}
    if not taken:
        return graph
    nodes: list[Node] = []
    values, params = dict(graph.values), dict(graph.params)
    for node in graph.nodes:
        if node.name not in taken:
            nodes.append(node)
            continue
        inlined = _Inlined(graph, node, taken[node.name])
        nodes += inlined.nodes
        values.update(inlined.values)
        params.update(inlined.params)
    return graph.replace(nodes=tuple(nodes), values=values, params=params).live()


def _taken(graph: Graph, node: Node) -> onnx.GraphProto | None:
    from onnx import AttributeProto

    if node.op != "If" or node.domain or node.inputs[0] not in graph.params:
        return None
    condition = bool(graph.params[node.inputs[0]].reshape(-1)[0])
    body = node.attributes["then_branch" if condition else "else_branch"]
    assert isinstance(body, Opaque)
    branch = AttributeProto.FromString(body.data).g
    simple = (
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.TENSOR,
        AttributeProto.INTS,
        AttributeProto.FLOATS,
        AttributeProto.STRINGS,
    )
    readable = all(attribute.type in simple for inner in branch.node for attribute in inner.attribute)
    return branch if readable and not branch.sparse_initializer else None


class _Inlined:
    """The parts of one branch, under names that nobody else has.

    Attributes:
        nodes: in order, the results under the names of the If's outputs.
    """

    def __init__(self, graph: Graph, node: Node, branch: onnx.GraphProto) -> None:
        from onnx import numpy_helper

        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.params: dict[str, Array] = {}
        self._graph = graph
        self._within = node.name
        self._names: dict[str, str] = {}
        described = {info.name: read_type(info.type) for info in (*branch.value_info, *branch.output)}
        made = {name for inner in branch.node for name in inner.output}
        for outer, result in zip(node.outputs, branch.output, strict=True):
            if outer and result.name in made:
                self._names.setdefault(result.name, outer)
        for tensor in branch.initializer:
            self._constant(tensor.name, numpy_helper.to_array(tensor))
        for number, inner in enumerate(branch.node):
            attributes = {a.name: _attribute(a) for a in inner.attribute}
            if inner.op_type == "Constant" and isinstance(value := attributes.get("value"), np.ndarray):
                self._constant(inner.output[0], value)
                continue
            for name in filter(None, inner.output):
                renamed = self._renamed(name)
                if renamed not in graph.values:
                    self.values[renamed] = Value(renamed, *described.get(name, ("", None)))
            domain = "" if inner.domain == "ai.onnx" else inner.domain
            inputs = tuple(self._names.get(name, name) for name in inner.input)
            outputs = tuple(self._renamed(name) if name else "" for name in inner.output)
            own = f"{node.name}/{inner.name or inner.op_type}/{number}"
            self.nodes.append(Node(own, inner.op_type, inputs, outputs, attributes, domain, node.source))
        for outer, result in zip(node.outputs, branch.output, strict=True):
            inside = self._names.get(result.name, result.name)
            if outer and inside != outer:
                self.nodes.append(Node(f"{node.name}/{outer}", "Identity", (inside,), (outer,), source=node.source))

    def _renamed(self, name: str) -> str:
        if name not in self._names:
            new = f"{self._within}/{name}"
            while new in self._graph.values or new in self.values:
                new += "_"
            self._names[name] = new
        return self._names[name]

    def _constant(self, name: str, array: Array) -> None:
        """A branch's own constant; where it is a result, an Identity will name it."""
        self._names.pop(name, None)
        renamed = self._renamed(name)
        self.params[renamed] = frozen(array)
        self.values[renamed] = Value(renamed, array.dtype.name, array.shape)


def _attribute(proto: onnx.AttributeProto) -> Attribute:
    from onnx import helper, numpy_helper

    if proto.HasField("t"):
        return frozen(numpy_helper.to_array(proto.t))
    value: Any = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return value
    return tuple(entry.decode() if isinstance(entry, bytes) else entry for entry in value)
