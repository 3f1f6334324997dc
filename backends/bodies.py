"""The nodes of a graph in ONNX, with what runs by condition or in a loop put back into bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Graph, Node, Value, unused
from amcc.passes.bodies import body_of, renamed
from amcc.passes.branches import ELSE, THEN, WHOLE, is_select, operands
from amcc.passes.loops import axes, is_begin, is_end, states
from amcc.passes.protos import node_proto, type_proto
from amcc.passes.regions import Place, has_regions, places

if TYPE_CHECKING:
    import onnx


def node_protos(graph: Graph) -> list[onnx.NodeProto]:
    """The nodes as ONNX has them."""
    if not has_regions(graph):
        return [node_proto(node, graph.opsets.get(node.domain, 1)) for node in graph.nodes]
    return _Writer(graph).nodes(())


def described(value: Value) -> onnx.ValueInfoProto:
    """The description of a value."""
    from onnx import ValueInfoProto

    info = ValueInfoProto(name=value.name)
    if value.dtype:
        info.type.CopyFrom(type_proto(value.dtype, value.shape))
    return info


_SLICE_SINCE = 10  # with inputs
_STEPS = ("shape", "lengths", "zeros", "open")


class _Writer:
    """Writes the nodes of one place after another."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._taken: set[str] = set(graph.values)
        self._begins = {node.outputs[0]: node for node in graph.nodes if is_begin(node)}
        self._at: dict[Place, list[Node]] = {}
        self._made: dict[Place, set[str]] = {}
        where = places(graph)
        for node in graph.nodes:
            place = where[node.name]
            if not is_begin(node):
                self._at.setdefault(place, []).append(node)
                self._made.setdefault(place, set()).update(node.outputs)

    def nodes(self, place: Place) -> list[onnx.NodeProto]:
        """The nodes that run there."""
        return [self._node(node, place) for node in self._at.get(place, ())]

    def _node(self, node: Node, place: Place) -> onnx.NodeProto:
        from onnx import helper

        if is_select(node):
            bodies = [
                self._body((*place, (node.name, side)), (), chosen, f"{node.name}/{name}")
                for side, (name, chosen) in enumerate(zip((THEN, ELSE), operands(node), strict=True))
            ]
            inputs, outputs = [node.inputs[0]], list(node.outputs)
            return helper.make_node("If", inputs, outputs, node.name, then_branch=bodies[0], else_branch=bodies[1])
        if not is_end(node):
            return node_proto(node, self._graph.opsets.get(node.domain, 1))
        begin = self._begins[node.inputs[0]]
        body = self._body((*place, (node.name, 0)), begin.outputs[1:], node.inputs[1:], f"{node.name}/body")
        outputs = list(node.outputs)
        if node.op == "LoopEnd":
            return helper.make_node("Loop", list(begin.inputs), outputs, node.name, body=body)
        scan = helper.make_node("Scan", list(begin.inputs), outputs, node.name, body=body)
        settings = {f"scan_input_{name}": axes(begin, name) for name in ("axes", "directions")}
        settings |= {f"scan_output_{name}": axes(node, name) for name in ("axes", "directions")}
        scan.attribute.append(helper.make_attribute("num_scan_inputs", len(begin.inputs) - states(begin)))
        scan.attribute.extend(helper.make_attribute(name, value) for name, value in settings.items() if np.any(value))
        return scan

    def _body(self, place: Place, inputs: Sequence[str], results: Sequence[str], called: str) -> onnx.GraphProto:
        """A body; a result that it does not make itself, or gives twice, is copied."""
        from onnx import GraphProto, NodeProto

        nodes = self._at.get(place, ())
        if len(nodes) == 1 and nodes[0].op == WHOLE and nodes[0].outputs == tuple(results):
            return self._whole(nodes[0], place[-1][0])
        body = GraphProto(name=called, node=self.nodes(place))
        body.input.extend(described(self._graph.values[name]) for name in inputs)
        given: set[str] = set()
        for result in results:
            value = self._graph.values[result]
            if result in given or result not in self._made.get(place, ()):
                own = self._own(f"{called}/{result}")
                body.node.append(NodeProto(name=own, op_type="Identity", input=[result], output=[own]))
                value = Value(own, value.dtype, value.shape)
            given.add(value.name)
            body.output.append(described(value))
        return body

    def _whole(self, node: Node, owner: str) -> onnx.GraphProto:
        """A branch that does not fit the inputs: it reads them in a way that lets no runtime know their lengths.

        A runtime that knew would refuse the model, although the branch never runs.
        """
        from onnx import helper

        condition = next(n.inputs[0] for n in self._graph.nodes if n.name == owner)
        body, names = body_of(node, "body"), dict[str, str]()
        steps: list[onnx.NodeProto] = []
        for value in node.captures:
            reads = {inner.op_type for inner in body.node if value in inner.input}
            if not self._graph.values[value].rank or self._graph.opset < _SLICE_SINCE or reads <= {"Shape", "Slice"}:
                continue  # a condition; or read in this way already
            shape, lengths, zeros, names[value] = (self._own(f"{node.name}/{value}/{what}") for what in _STEPS)
            steps += [
                helper.make_node("Shape", [value], [shape], shape),
                helper.make_node("Where", [condition, shape, shape], [lengths], lengths),
                helper.make_node("Sub", [lengths, lengths], [zeros], zeros),
                helper.make_node("Slice", [value, zeros, lengths], [names[value]], names[value]),
            ]
        renamed(body, names)
        steps += body.node
        del body.node[:]
        body.node.extend(steps)
        return body

    def _own(self, name: str) -> str:
        own = unused(name, self._taken)
        self._taken.add(own)
        return own
