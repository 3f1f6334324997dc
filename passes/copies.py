"""Tensors that hold one number over and over, once for each node that reads them.

Exporters share them: the scales of one and offsets of zero of every normalisation without any are one tensor. A shared
parameter ties all that reads it, index by index, which these need not be.
"""

from __future__ import annotations

import numpy as np

from amcc.ir import Array, Graph, Node, Value, unused
from amcc.passes.protos import is_float

# Elements of the largest constant that is copied.
_LARGEST = 1 << 16


def own_constants(graph: Graph) -> Graph:
    """The graph in which no two nodes read the same constant of this kind."""
    shared = {
        name: array
        for name, array in graph.params.items()
        if len(graph.consumers.get(name, ())) > 1 and name not in graph.outputs and _repeats(array)
    }
    filled = {
        node.outputs[0]: node
        for node in graph.nodes
        if _fills(graph, node)
        and len(graph.consumers.get(node.outputs[0], ())) > 1
        and node.outputs[0] not in graph.outputs
    }
    if not shared and not filled:
        return graph
    nodes: list[Node] = []
    values, params = dict(graph.values), dict(graph.params)
    taken: set[str] = {name for node in graph.nodes for name in node.captures}
    for node in graph.nodes:
        own: dict[str, str] = {}
        for name in dict.fromkeys(node.inputs):
            if name not in shared and name not in filled:
                continue
            if name not in taken:
                taken.add(name)  # the first reader keeps the name
                continue
            own[name] = unused(f"{name}/{node.name}", values)
            values[own[name]] = Value(own[name], values[name].dtype, values[name].shape)
            if name in shared:
                params[own[name]] = shared[name]
            else:
                nodes.append(filled[name].replace(name=own[name], outputs=(own[name],)))
        nodes.append(node.replace(inputs=tuple(own.get(name, name) for name in node.inputs)) if own else node)
    return graph.replace(nodes=tuple(nodes), values=values, params=params)


def _fills(graph: Graph, node: Node) -> bool:
    """Whether a node makes such a tensor, of a shape that run time knows: the first state of a recurrence, say."""
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op == "Expand":
        return node.inputs[0] in graph.params and (
            graph.params[node.inputs[0]].size == 1 or _repeats(graph.params[node.inputs[0]])
        )
    return node.op == "ConstantOfShape"


def _repeats(array: Array) -> bool:
    if not (1 < array.size <= _LARGEST and is_float(array)):
        return False
    flat = array.reshape(-1)
    return bool(np.all(flat == flat[0]))
