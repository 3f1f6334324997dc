"""What follows a linear operator: per-channel affine nodes, then perhaps a sum with another value.

`BatchNormalization`, and `Mul`, `Div`, `Add`, `Sub` with one number a channel, turn an output y into
`scale * y + shift`. A target for the sum behind them is thereby a target for y; and an offset of y
that has no bias to live in can live in one of their parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.recovery.linear import Linear
from amcc.passes.regions import closed


@dataclass(frozen=True, slots=True)
class Tail:
    """The affine nodes behind a linear one, and the sum that they lead to.

    Attributes:
        scale: `[O]`, and `shift` `[O]`: what they do to the linear node's output.
        end: the value behind them, and behind the sum where there is one.
        other: what is added in the sum, "" when there is none.
        sign: -1 where the sum subtracts the affine branch, and `other_sign` where it subtracts the other.
        holder: name of a parameter that can take up an offset of the linear output, or "".
        holder_factor: `[O]` how much of the offset it must take up.
    """

    scale: Array
    shift: Array
    end: str
    other: str = ""
    sign: float = 1.0
    other_sign: float = 1.0
    holder: str = ""
    holder_factor: Array | None = None

    def held(self, graph: Graph, change: Array) -> dict[str, Array]:
        """The holder, in a graph that may have been cut, with a change of its numbers added."""
        old = graph.params[self.holder]
        return {self.holder: (old.astype(np.float64) + change.reshape(old.shape)).astype(old.dtype)}


def spelled(
    linear: Linear, graph: Graph, behind: Tail, fitted: Array, *, free: bool, factor: Array | None = None
) -> dict[str, Array]:
    """The parameters that spell a fit `[G, O, K]`, or `[G, O, K + 1]` with an offset where that is `free`.

    Args:
        graph: where the operator is, which may have been cut.
        factor: how much of the offset the tail's holder takes up, by default the tail's own.
    """
    if not free:
        return linear.params(graph, fitted, None)
    matrix, offset = fitted[..., :-1], fitted[..., -1]
    if linear.bias:
        return linear.params(graph, matrix, offset)
    factor = behind.holder_factor if factor is None else factor
    assert factor is not None
    return linear.params(graph, matrix, None) | behind.held(graph, factor.reshape(offset.shape) * offset)


def tail(graph: Graph, linear: Linear) -> Tail:
    """Follow a linear node's output as long as one node alone reads it, and not into a loop."""
    value, axis = linear.y, linear.y_axis
    size = cast(int, graph.shape(value)[axis])
    scale, shift = np.ones(size), np.zeros(size)
    holder, factor, shut = "", None, closed(graph)
    while True:
        readers = graph.consumers.get(value, ())
        if len(readers) != 1 or value in graph.outputs or readers[0].name in shut:
            break
        node = readers[0]
        found = _step(graph, node, value, axis, size)
        if found is None:
            end, other, sign, other_sign = _sum(graph, node, value) or (value, "", 1.0, 1.0)
            return Tail(scale, shift, end, other, sign, other_sign, holder, factor)
        times, plus, taker = found
        scale, shift = scale * times, shift * times + plus
        if taker and not holder:
            holder = taker
            factor = -scale if node.op == "Sub" else scale
        value = node.outputs[0]
    return Tail(scale, shift, value, holder=holder, holder_factor=factor)


def _step(graph: Graph, node: Node, value: str, axis: int, size: int) -> tuple[Array, Array, str] | None:
    """(scale, shift, parameter that an offset can be added to) of one affine node, or None."""
    if node.op == "Identity":
        return np.ones(size), np.zeros(size), ""
    if node.op == "BatchNormalization":
        return _batch_norm(graph, node, value) if axis == 1 else None
    if node.op not in ("Mul", "Div", "Add", "Sub") or node.inputs.count(value) != 1:
        return None
    operand = 1 if node.inputs[0] == value else 0
    name = node.inputs[operand]
    if name not in graph.params or (node.op in ("Div", "Sub") and operand == 0):
        return None
    if graph.shape(node.outputs[0]) != graph.shape(value):
        return None
    numbers = _along(graph.params[name], len(graph.shape(value)), axis)
    if numbers is None:
        return None
    numbers = np.broadcast_to(numbers, (size,))
    if node.op in ("Mul", "Div"):
        if node.op == "Div" and not numbers.all():
            return None
        return (numbers if node.op == "Mul" else 1 / numbers), np.zeros(size), ""
    takes = graph.params[name].size == size and _own(graph, name)
    return np.ones(size), numbers if node.op == "Add" else -numbers, name if takes else ""


def _batch_norm(graph: Graph, node: Node, value: str) -> tuple[Array, Array, str] | None:
    names = node.inputs[1:5]
    if node.inputs[0] != value or node.attributes.get("training_mode", 0) or any(n not in graph.params for n in names):
        return None
    gamma, beta, mean, variance = (graph.params[n].astype(np.float64) for n in names)
    scale = gamma / np.sqrt(variance + cast(float, node.attributes.get("epsilon", 1e-5)))
    return scale, beta - mean * scale, names[1] if _own(graph, names[1]) else ""


def _along(array: Array, rank: int, axis: int) -> Array | None:
    """The numbers of an array that varies along one axis of a tensor, or not at all."""
    if array.ndim > rank or array.dtype.kind not in "fV":
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(d != 1 for a, d in enumerate(shape) if a != axis):
        return None
    return array.astype(np.float64).reshape(-1)


def _sum(graph: Graph, node: Node, value: str) -> tuple[str, str, float, float] | None:
    """(sum, other operand, sign of the branch, sign of the other) where a node adds two activations."""
    if node.op not in ("Add", "Sub", "Sum") or len(node.inputs) != 2 or node.inputs.count(value) != 1:
        return None
    operand = node.inputs.index(value)
    other, total = node.inputs[1 - operand], node.outputs[0]
    if other in graph.params or not graph.shape(other) == graph.shape(total) == graph.shape(value):
        return None
    minus = -1.0 if node.op == "Sub" else 1.0
    return (total, other, 1.0, minus) if operand == 0 else (total, other, minus, 1.0)


def _own(graph: Graph, name: str) -> bool:
    return len(graph.consumers[name]) == 1 and name not in graph.outputs
