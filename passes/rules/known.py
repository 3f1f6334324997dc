"""What is known of small tensors that spell shapes: a resize's sizes, joined from numbers and run-time lengths."""

from __future__ import annotations

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
