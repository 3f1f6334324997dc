"""What is known of small tensors that spell shapes: a resize's sizes, joined from numbers and run-time lengths."""

from __future__ import annotations

import numpy as np

from amcc.ir import Graph

_SAME_ENTRIES = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten")


def entries(graph: Graph, value: str) -> list[float | None] | None:
    """The entries of a tensor of rank 0 or 1 in order, None for what only run time knows.

    None if not even their number is known.
    """
    if value in graph.params:
        return [float(entry) for entry in graph.params[value].reshape(-1)]
    node = graph.producers.get(value)
    if node is not None and node.domain in ("", "ai.onnx"):
        if node.op == "Concat":
            parts = [entries(graph, part) for part in node.inputs]
            return None if any(p is None for p in parts) else [entry for part in parts for entry in part or ()]
        if node.op in _SAME_ENTRIES and node.inputs[0] in graph.producers:
            return entries(graph, node.inputs[0])
    shape = graph.values[value].shape
    if shape == ():
        return [None]
    return [None] * shape[0] if shape is not None and len(shape) == 1 and isinstance(shape[0], int) else None


def wholes(graph: Graph, value: str) -> list[int | None] | None:
    """The entries of a tensor of integers, as `entries` gives them."""
    found = entries(graph, value)
    return None if found is None else [None if entry is None else int(entry) for entry in found]


_SPREADS = frozenset(
    "Cast Expand Flatten Gather Identity Neg Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split()
)


def always_zero(graph: Graph, value: str) -> bool:
    """Whether a tensor holds zeros alone, whatever its shape at run time."""
    while value not in graph.params:
        node = graph.producers.get(value)
        if node is None or node.domain not in ("", "ai.onnx"):
            return False
        if node.op == "ConstantOfShape":
            fill = node.attributes.get("value", 0)
            return isinstance(fill, int | np.ndarray) and not np.any(fill)
        if node.op == "Concat":
            return all(always_zero(graph, part) for part in node.inputs)
        if node.op not in _SPREADS:
            return False
        value = node.inputs[0]
    return not np.any(graph.params[value])
