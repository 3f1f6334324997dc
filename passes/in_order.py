"""Gathers that read all of a flat tensor in order are Reshapes.

torch's `as_strided` becomes a Gather at computed indices; behind a pooling or a flattening they count up, whatever
the batch. Whether they do is tried out with several sizes of every symbol, as shapes are (`passes.probing`).
"""

from __future__ import annotations

import numpy as np

from amcc.ir import Array, Graph, Node, Value, frozen
from amcc.passes import dims
from amcc.passes.evaluate import evaluate, foldable

_TRIED = (2, 3, 7)


def gathers_in_order(graph: Graph) -> Graph:
    """The graph with every Gather whose indices count up over all elements spelled as a Reshape."""
    targets: dict[str, Array] = {}
    nodes = []
    for node in graph.nodes:
        target = _target(graph, node)
        if target is not None:
            targets[f"{node.outputs[0]}/target"] = frozen(target)
            inputs = (node.inputs[0], f"{node.outputs[0]}/target")
            node = node.replace(op="Reshape", inputs=inputs, attributes={})
        nodes.append(node)
    if not targets:
        return graph
    described = {name: Value(name, "int64", array.shape) for name, array in targets.items()}
    params, values = {**graph.params, **targets}, {**graph.values, **described}
    return graph.replace(nodes=tuple(nodes), params=params, values=values).live()


def _target(graph: Graph, node: Node) -> Array | None:
    """What such a Gather reshapes to; None for any other node."""
    if node.op != "Gather" or node.domain or node.inputs[1] in graph.params:
        return None
    data, indices = (graph.values[name].shape for name in node.inputs)
    if data is None or indices is None or len(data) != 1 or not dims.equal(data[0], dims.product(indices)):
        return None
    target = [dim if isinstance(dim, int) else -1 for dim in indices]
    if target.count(-1) > 1 or not all(_counts_up(graph, node.inputs[1], size) for size in _TRIED):
        return None
    return np.array(target, np.int64)


def _counts_up(graph: Graph, name: str, size: int) -> bool:
    content = _content(graph, name, size, {})
    return content is not None and bool(np.array_equal(content.ravel(), np.arange(content.size)))


def _content(graph: Graph, name: str, size: int, known: dict[str, Array | None]) -> Array | None:
    """What a value holds that follows from shapes alone, every symbol having this size."""
    if name in graph.params:
        return graph.params[name]
    if name not in known:
        node = graph.producers.get(name)
        known[name] = None if node is None or len(node.outputs) > 1 else _computed(graph, node, size, known)
    return known[name]


def _computed(graph: Graph, node: Node, size: int, known: dict[str, Array | None]) -> Array | None:
    shape = graph.values[node.inputs[0]].shape if node.inputs else None
    if node.op == "Shape" and not node.domain and shape is not None:
        sizes = [dims.evaluate(dim, dict.fromkeys(dims.symbols(shape), size)) for dim in shape]
        start, end = node.attributes.get("start", 0), node.attributes.get("end", len(sizes))
        assert isinstance(start, int) and isinstance(end, int)
        whole = [n for n in sizes if n is not None]
        return np.array(whole[start:end], np.int64) if len(whole) == len(sizes) else None
    if not foldable(node) or graph.values[node.outputs[0]].dtype.startswith(("float", "bfloat")):
        return None
    inputs = [_content(graph, name, size, known) if name else None for name in node.inputs]
    if any(array is None for array, name in zip(inputs, node.inputs, strict=True) if name):
        return None
    results = evaluate(node, inputs, graph.opset)
    return results[0] if results else None


__all__ = ["gathers_in_order"]
