"""Channel shuffles are Gathers.

A shuffle is spelled as a Reshape of `[N, g * m, H, W]` to `[N, g, m, H, W]`, a Transpose and a Reshape back. The
tensor between is rectangular, so that channels could only go in whole rows and columns of it. All that the
three nodes do is to put channels in another order, which a Gather says for whatever channels are left. It
copies block by block what lies behind the axis, twice as fast as the three; element by element it would be slow.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from amcc.ir import Array, Dim, Graph, Node, Shape, Value, frozen, unused
from amcc.passes.dims import per_sample

# Elements behind the axis from which a Gather is fast, and of a tensor from which that matters.
_BLOCK = 16
_LARGE = 1 << 12
_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")


@dataclass(frozen=True)
class _Run:
    """Indices of one axis of the first tensor: `size` of them, `stride` apart; a size may be a symbol."""

    axis: int
    size: Dim
    stride: int = 1


_Axis = list[_Run]
"""An axis as the row-major product of runs."""


def shuffles_as_gathers(graph: Graph) -> Graph:
    """The graph with every chain of nodes that only permutes the indices of one axis spelled as a Gather."""
    gathers: dict[str, Node] = {}
    orders: dict[str, Array] = {}
    for node in graph.nodes:
        found = _shuffle(graph, node) if node.op in ("Reshape", "Unsqueeze") else None
        if found is not None:
            last, axis, order = found
            name = unused(f"{last.outputs[0]}/order", graph.values)
            orders[name] = frozen(order)
            inputs = (node.inputs[0], name)
            gathers[last.name] = last.replace(op="Gather", domain="", inputs=inputs, attributes={"axis": axis})
    if not gathers:
        return graph
    described = {name: Value(name, "int64", order.shape) for name, order in orders.items()}
    nodes = tuple(gathers.get(node.name, node) for node in graph.nodes)
    params, values = {**graph.params, **orders}, {**graph.values, **described}
    return graph.replace(nodes=nodes, params=params, values=values).live()


def _shuffle(graph: Graph, first: Node) -> tuple[Node, int, Array] | None:
    """The end of the chain that starts with a node, the axis that it permutes, and in which order it puts it."""
    shape = graph.values[first.inputs[0]].shape
    if shape is None:
        return None
    axes: list[_Axis] = [[_Run(axis, dim)] if dim != 1 else [] for axis, dim in enumerate(shape)]
    node = first
    while True:
        if node.op not in _MOVES or node.domain or (made := graph.values[node.outputs[0]].shape) is None:
            return None
        moved = _moved(axes, node, made)
        if moved is None:
            return None
        axes = moved
        if made == shape and (turned := _permuted(axes)) is not None:
            return (node, turned, _order(axes[turned])) if _is_fast(shape, turned) else None
        readers = graph.consumers.get(node.outputs[0], ())
        if len(readers) != 1 or readers[0].inputs[0] != node.outputs[0] or node.outputs[0] in graph.outputs:
            return None
        node = readers[0]


def _is_fast(shape: Shape, axis: int) -> bool:
    return prod(map(per_sample, shape[axis + 1 :])) >= _BLOCK or prod(map(per_sample, shape)) < _LARGE


def _moved(axes: Sequence[_Axis], node: Node, shape: Sequence[Dim]) -> list[_Axis] | None:
    """The axes behind a node; None where runs fall apart."""
    if node.op == "Transpose":
        order = node.attributes.get("perm", tuple(reversed(range(len(axes)))))
        assert isinstance(order, tuple)
        return [axes[a] for a in order]
    pending = [run for axis in axes for run in axis][::-1]
    result: list[_Axis] = []
    for dim in shape:
        axis: _Axis = []
        while dim != 1:
            if not pending:
                return None
            run = pending.pop()
            if run.size == dim:
                axis.append(run)
                break
            if not isinstance(run.size, int) or not isinstance(dim, int):
                return None
            if not run.size or not dim:
                return None
            if dim % run.size == 0:
                axis.append(run)
                dim //= run.size
            elif run.size % dim == 0:
                low = run.size // dim
                axis.append(_Run(run.axis, dim, run.stride * low))
                pending.append(_Run(run.axis, low, run.stride))
                break
            else:
                return None
        result.append(axis)
    return result if not pending else None


def _permuted(axes: Sequence[_Axis]) -> int | None:
    """The one axis that holds its own indices in another order; None if there is none, or indices of another."""
    if any(run.axis != axis for axis, runs in enumerate(axes) for run in runs):
        return None
    turned = [axis for axis, runs in enumerate(axes) if any(a.stride < b.stride for a, b in itertools.pairwise(runs))]
    return turned[0] if len(turned) == 1 else None


def _order(runs: _Axis) -> Array:
    order = np.zeros(1, np.int64)
    for run in runs:
        assert isinstance(run.size, int)
        order = (order[:, None] + run.stride * np.arange(run.size)).ravel()
    return order


__all__ = ["shuffles_as_gathers"]
