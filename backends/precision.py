"""A float32 copy of a graph, for runtimes that lack its own precision."""

from __future__ import annotations

import numpy as np

from amcc.errors import ModelError
from amcc.ir import Attribute, Graph, Node, Opaque, Value, frozen
from amcc.passes.protos import element_type

_NARROW = ("bfloat16", "float16")


def wants_float32(graph: Graph) -> bool:
    """Whether numpy cannot hand the graph's inputs or outputs to a runtime: bfloat16."""
    return any(graph.values[name].dtype == "bfloat16" for name in (*graph.inputs, *graph.outputs))


def as_float32(graph: Graph) -> Graph:
    """The graph with every float64, float16 and bfloat16 tensor and cast in float32.

    Raises:
        ModelError: a body carried as it is holds such types.
    """
    others = {"float64", *_NARROW}
    numbers = {element_type(dtype) for dtype in others}
    single = element_type("float32")

    def attribute(node: Node, name: str, value: Attribute) -> Attribute:
        if isinstance(value, Opaque):
            raise ModelError(f"{node.label} holds a {value.kind.lower()} that cannot be converted to float32")
        if isinstance(value, np.ndarray) and value.dtype.name in others:
            return frozen(value.astype(np.float32))
        return single if name in ("to", "dtype", "output_dtype") and value in numbers else value

    nodes = tuple(
        node.replace(attributes={n: attribute(node, n, a) for n, a in node.attributes.items()}) for node in graph.nodes
    )
    params = {n: frozen(a.astype(np.float32)) if a.dtype.name in others else a for n, a in graph.params.items()}
    values = {n: Value(n, "float32", v.shape) if v.dtype in others else v for n, v in graph.values.items()}
    return graph.replace(nodes=nodes, params=params, values=values)
