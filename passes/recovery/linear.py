"""Linear operators as matrices: `Y = X W^T + b`, whatever their spelling.

A `Linear` describes one Conv, ConvTranspose, Gemm or MatMul whose weight is a parameter. Its weight is a
stack of matrices `[G, O, K]`: G convolution groups, O outputs of a group, and `K = k * C` columns, kernel
offset first, then the channel within the group. `amcc.passes.recovery.patches` gives the rows that go with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.channels.model import Channels
from amcc.passes.regions import closed

OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear node with a trained weight.

    Attributes:
        x: the activation it reads, contracted over `x_axis`.
        y: what it gives, its bias included; outputs lie on `y_axis`.
        weight: name of the parameter, read through transpositions that amount to `permutation`.
        bias: name of the parameter with one number an output, "" when there is none of its own.
        groups: G.
        kernel: the shape of the kernel; () for Gemm and MatMul.
        weight_scale: what the operator multiplies the product with (Gemm's alpha), and `bias_scale` the bias (beta).
        weight_left: whether the weight is a MatMul's first operand.
    """

    node: Node
    x: str
    x_axis: int
    y: str
    y_axis: int
    weight: str
    permutation: tuple[int, ...]
    bias: str
    groups: int
    kernel: tuple[int, ...]
    weight_scale: float = 1.0
    bias_scale: float = 1.0
    weight_left: bool = False

    @property
    def taps(self) -> int:
        """Kernel offsets."""
        return math.prod(self.kernel)

    @property
    def output_axis(self) -> int:
        """The axis of the parameter along which outputs lie."""
        first = self.node.op == "Conv" or (self.node.op != "ConvTranspose" and self._rows_are_outputs)
        return self.permutation[0 if first else 1]

    def matrix(self, graph: Graph) -> Array:
        """The weight as float64 `[G, O, K]`."""
        w = graph.params[self.weight].astype(np.float64).transpose(self.permutation)
        op = self.node.op
        if op == "Conv":
            w = w.reshape(self.groups, w.shape[0] // self.groups, w.shape[1], self.taps)
            return w.transpose(0, 1, 3, 2).reshape(self.groups, w.shape[1], -1)
        if op == "ConvTranspose":
            w = w.reshape(self.groups, w.shape[0] // self.groups, w.shape[1], self.taps)
            return w.transpose(0, 2, 3, 1).reshape(self.groups, w.shape[2], -1)
        return self.weight_scale * (w if self._rows_are_outputs else w.T)[None]

    def offset(self, graph: Graph) -> Array | None:
        """The bias as float64 `[G, O]`."""
        if not self.bias:
            return None
        return self.bias_scale * graph.params[self.bias].astype(np.float64).reshape(self.groups, -1)

    def params(self, graph: Graph, matrix: Array, offset: Array | None) -> dict[str, Array]:
        """The parameters, as the graph stores them, that spell this matrix and offset."""
        stored = graph.params[self.weight]
        shape = tuple(stored.shape[axis] for axis in self.permutation)
        groups, outputs, columns = matrix.shape
        op = self.node.op
        if op == "Conv":
            w = matrix.reshape(groups, outputs, self.taps, columns // self.taps).transpose(0, 1, 3, 2)
        elif op == "ConvTranspose":
            w = matrix.reshape(groups, outputs, self.taps, columns // self.taps).transpose(0, 3, 1, 2)
        else:
            w = (matrix[0] if self._rows_are_outputs else matrix[0].T) / self.weight_scale
        w = w.reshape(shape).transpose(np.argsort(self.permutation))
        result = {self.weight: np.ascontiguousarray(w, dtype=stored.dtype)}
        if self.bias and offset is not None:
            bias = graph.params[self.bias]
            result[self.bias] = (offset.reshape(bias.shape) / self.bias_scale).astype(bias.dtype)
        return result

    @property
    def _rows_are_outputs(self) -> bool:
        if self.node.op == "Gemm":
            return bool(self.node.attributes.get("transB", 0))
        return self.weight_left


def linears(graph: Graph) -> dict[str, Linear]:
    """Every linear node with a weight of its own, by node name, in the graph's order.

    Left out are weights that several nodes read (changing one node would change another), weights that
    are computed from more than a transposition, operands with a batch of matrices, and nodes that cannot be run at
    will (`passes.regions.closed`).
    """
    shut = closed(graph)
    nodes = (n for n in graph.nodes if n.op in OPS and n.domain in ("", "ai.onnx") and n.name not in shut)
    found = (_linear(graph, node) for node in nodes)
    return {linear.node.name: linear for linear in found if linear is not None}


def _linear(graph: Graph, node: Node) -> Linear | None:
    y = node.outputs[0]
    if any(graph.values[name].shape is None for name in (*node.reads, y)):
        return None
    if node.op in ("Conv", "ConvTranspose"):
        return _convolution(graph, node)
    return _gemm(graph, node) if node.op == "Gemm" else _matmul(graph, node)


def _convolution(graph: Graph, node: Node) -> Linear | None:
    source = _weight(graph, node, 1)
    x = node.inputs[0]
    if source is None or x in graph.params:
        return None
    shape = graph.shape(node.inputs[1])
    return Linear(
        node,
        x=x,
        x_axis=1,
        y=node.outputs[0],
        y_axis=1,
        weight=source[0],
        permutation=source[1],
        bias=_own_bias(graph, node, 2, cast(int, graph.shape(node.outputs[0])[1])),
        groups=cast(int, node.attributes.get("group", 1)),
        kernel=cast("tuple[int, ...]", shape[2:]),
    )


def _gemm(graph: Graph, node: Node) -> Linear | None:
    source = _weight(graph, node, 1)
    x, alpha, beta = node.inputs[0], node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    assert isinstance(alpha, int | float) and isinstance(beta, int | float)
    if source is None or x in graph.params or not alpha:
        return None
    return Linear(
        node,
        x=x,
        x_axis=0 if node.attributes.get("transA", 0) else 1,
        y=node.outputs[0],
        y_axis=1,
        weight=source[0],
        permutation=source[1],
        bias=_own_bias(graph, node, 2, cast(int, graph.shape(node.outputs[0])[1])) if beta else "",
        groups=1,
        kernel=(),
        weight_scale=float(alpha),
        bias_scale=float(beta),
    )


def _matmul(graph: Graph, node: Node) -> Linear | None:
    left = _weight(graph, node, 0)
    source = left or _weight(graph, node, 1)
    x = node.inputs[1 if left else 0]
    if source is None or x in graph.params or len(source[1]) != 2 or len(graph.shape(x)) < 2:
        return None
    rank = len(graph.shape(node.outputs[0]))
    y, y_axis = node.outputs[0], rank - 2 if left else rank - 1
    y, bias = _added_bias(graph, y, y_axis)
    return Linear(
        node,
        x=x,
        x_axis=rank - 2 if left else rank - 1,
        y=y,
        y_axis=y_axis,
        weight=source[0],
        permutation=source[1],
        bias=bias,
        groups=1,
        kernel=(),
        weight_left=bool(left),
    )


def _weight(graph: Graph, node: Node, operand: int) -> tuple[str, tuple[int, ...]] | None:
    """The parameter behind an operand, and the axes of the operand in terms of the parameter's."""
    name = node.inputs[operand]
    permutation = tuple(range(len(graph.shape(name))))
    reader = node
    while name not in graph.params:
        producer = graph.producers.get(name)
        if producer is None or producer.op != "Transpose" or graph.consumers[name] != (reader,):
            return None
        rank = len(permutation)
        step = cast("tuple[int, ...]", producer.attributes.get("perm", tuple(reversed(range(rank)))))
        permutation = tuple(step[axis] for axis in permutation)
        name, reader = producer.inputs[0], producer
    weight = graph.params[name]
    if not _is_own(graph, name, reader) or weight.dtype.kind not in "fV" or not weight.size:
        return None
    return name, permutation


def _is_own(graph: Graph, name: str, reader: Node) -> bool:
    """Whether a parameter is read by one node, once, and is no output."""
    return graph.consumers[name] == (reader,) and reader.reads.count(name) == 1 and name not in graph.outputs


def _own_bias(graph: Graph, node: Node, operand: int, outputs: int) -> str:
    name = node.input(operand)
    if name in graph.params and _is_own(graph, name, node) and graph.params[name].size == outputs:
        return name
    return ""


def _added_bias(graph: Graph, y: str, y_axis: int) -> tuple[str, str]:
    """The value behind `Add(y, parameter)`, and the parameter, where that is all that reads y."""
    readers = graph.consumers.get(y, ())
    if len(readers) != 1 or readers[0].op != "Add" or y in graph.outputs:
        return y, ""
    add = readers[0]
    name = next((i for i in add.inputs if i in graph.params), "")
    shape, outputs = graph.shape(y), graph.shape(y)[y_axis]
    if not name or not _is_own(graph, name, add) or graph.shape(add.outputs[0]) != shape:
        return y, ""
    aligned = (1,) * (len(shape) - graph.params[name].ndim) + graph.params[name].shape
    along = tuple(outputs if axis == y_axis else 1 for axis in range(len(shape)))
    return (add.outputs[0], name) if aligned == along else (y, "")


@dataclass(frozen=True, slots=True)
class Cut:
    """What a removal leaves of a linear node.

    Attributes:
        groups: `[G']` the convolution groups that stay.
        inputs: `[G', C']` channels that stay of each, and `columns` `[G', K']` of its matrix.
        outputs: `[G', O']` outputs that stay.
    """

    groups: Array
    inputs: Array
    columns: Array
    outputs: Array

    @property
    def key(self) -> bytes:
        """Equal for equal inputs."""
        return self.groups.tobytes() + self.inputs.tobytes()


def cut(channels: Channels, linear: Linear, kept: dict[tuple[str, int], Array]) -> Cut:
    """The part of a linear node that a removal leaves; `kept` is `channels.kept(removal)`."""
    graph = channels.graph

    def by_group(value: str, axis: int) -> tuple[Array, Array]:
        size = cast(int, graph.shape(value)[axis])
        indices = kept.get((value, axis), np.arange(size))
        each = size // linear.groups
        groups = np.unique(indices // each)
        return groups, (indices % each).reshape(len(groups), -1)

    groups, inputs = by_group(linear.x, linear.x_axis)
    _, outputs = by_group(linear.y, linear.y_axis)
    return Cut(groups, inputs, columns_of(linear, graph, inputs), outputs)


def columns_of(linear: Linear, graph: Graph, inputs: Array | Sequence[int]) -> Array:
    """`[..., K']` matrix columns of some channels `[..., C']` of a group."""
    each = cast(int, graph.shape(linear.x)[linear.x_axis]) // linear.groups
    inputs = np.asarray(inputs, np.int64)
    columns: Array = np.arange(linear.taps)[:, None] * each + inputs[..., None, :]
    return columns.reshape(*inputs.shape[:-1], -1)
