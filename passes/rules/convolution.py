"""Convolutions of any rank, group, stride and dilation.

With `G` groups, input channel (g, q) goes with group g or with position q of every group, and output
channel (g, p) with group g or position p. A group of units of each kind: groups may be removed (the
attribute `group` falls) and positions may be removed, and the search may use both. Weights need not be
parameters: what is computed in the graph is tied like any other tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import Monomial, Rule
from amcc.passes.rules.sliding import numbers, slid

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


@dataclass(frozen=True, slots=True)
class Convolution:
    """Where an operator of the family has its operands.

    Attributes:
        x: position of the data, `weight` of the weight, `bias` of the bias among the inputs.
        per_output: positions of further inputs with one number for each output channel, or one for all.
        summed: position of what is added to the result, -1 if there is none.
        transposed: the weight is `[I, O/G, k...]`, not `[O, I/G, k...]`.
        last: whether channels come last, whatever the node's `channels_last` says.
        deformable: where the kernel reads is data.
    """

    x: int = 0
    weight: int = 1
    bias: int = 2
    per_output: tuple[int, ...] = ()
    summed: int = -1
    transposed: bool = False
    last: bool = False
    deformable: bool = False

    def rule(self) -> Rule:
        """The rule of the operator."""
        return Rule(self.relate, self.macs, self.contracts, self.respell)

    def channel_axis(self, node: Node, rank: int) -> int:
        """The axis of data and result that holds the channels."""
        return rank - 1 if self.last or node.attributes.get("channels_last", 0) else 1

    def relate(self, r: Relation, node: Node) -> None:
        """Ties input channels, weight, bias and output channels."""
        x, w, y = node.inputs[self.x], node.inputs[self.weight], node.outputs[0]
        along = self.channel_axis(node, r.rank(x))
        channels, groups = r.axis(x, along), _groups(node)
        read, made = (0, 1) if self.transposed else (1, 0)
        if groups == 1:
            r.same(channels, r.axis(w, read), (w, read))
            out = r.axis(w, made)
        else:
            out = self._relate_groups(r, node, channels, groups)
            r.same(r.axis(w, 0), channels if self.transposed else out, (w, 0))
        for index in (self.bias, *self.per_output):
            param = node.input(index) if index >= 0 else ""
            if param and r.rank(param) and r.shape(param)[0] != 1:
                r.same(out, r.axis(param, 0), (param, 0))
        result: list[Axis] = [r.axis(x, 0), *[None] * (r.rank(y) - 1)]
        result[along] = out
        space = [] if self.deformable else [axis for axis in range(1, r.rank(y)) if axis != along]
        strides = numbers(node, "strides", len(space))
        for axis, window, stride in zip(space, r.shape(w)[2:], strides, strict=False):
            result[axis] = slid(r, node, x, y, axis, window if isinstance(window, int) else 2, stride)
        r.set(y, result)
        if self.summed >= 0 and (other := node.input(self.summed)):
            for axis, own in enumerate(result):
                r.same(own, r.axis(other, axis), (other, axis))

    def _relate_groups(self, r: Relation, node: Node, channels: Axis, groups: int) -> Axis:
        """Ties the input channels to groups and positions; gives the output channels."""
        x, w = node.inputs[self.x], node.inputs[self.weight]
        rows, columns = r.shape(w)[:2]
        assert isinstance(rows, int) and isinstance(columns, int)
        blocks, each = r.fresh(groups), r.fresh(rows // groups)
        inner = (each, rows // groups), (r.axis(w, 1), columns)
        (q, read), (p, made) = inner if self.transposed else inner[::-1]
        r.same(
            channels,
            r.grid((blocks, groups), (q, read)),
            (x, self.channel_axis(node, r.rank(x))),
            "channels of a grouped convolution go in whole groups or positions",
        )
        return r.grid((blocks, groups), (p, made))

    def macs(self, graph: Graph, node: Node) -> tuple[Monomial, ...]:
        """Every output (transposed: every input) position does `k` MACs for each pair of channels it ties."""
        w = node.inputs[self.weight]
        kernel = math.prod(per_sample(d) for d in graph.shape(w)[2:])
        grid = node.inputs[self.x] if self.transposed else node.outputs[0]
        along = self.channel_axis(node, len(graph.shape(grid)))
        positions = tuple((grid, axis) for axis in range(len(graph.shape(grid))) if axis != along)
        return (Monomial(kernel, ((w, 0), (w, 1), *positions)),)

    def contracts(self, graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
        """Sums over the input channels."""
        return ((self.x, self.channel_axis(node, len(graph.shape(node.inputs[self.x])))),)

    def respell(self, shrink: Respell, node: Node) -> Node:
        """`group` is the number of groups that still have an input channel."""
        return _respell_groups(shrink, node, "group", node.inputs[self.x], self.contracts(shrink.graph, node)[0][1])


def _groups(node: Node, name: str = "group") -> int:
    group = node.attributes.get(name, 1)
    assert isinstance(group, int)
    return group


def _respell_groups(shrink: Respell, node: Node, name: str, x: str, axis: int) -> Node:
    groups, channels = _groups(node, name), shrink.graph.shape(x)[axis]
    if groups == 1 or not isinstance(channels, int):
        return node
    left = len(np.unique(shrink.kept(x, axis) // (channels // groups)))
    return node if left == groups else with_attributes(node, **{name: left})


_DEFORMABLE = Convolution(bias=3, deformable=True)


def _relate_deformable(r: Relation, node: Node) -> None:
    """Channels share offsets in groups, which go with their offsets and mask."""
    x, w, offsets = node.inputs[:3]
    groups, kernel = _groups(node, "offset_group"), math.prod(per_sample(d) for d in r.shape(w)[2:])
    channels = r.shape(x)[1]
    if groups > 1 and isinstance(channels, int):
        blocks, each = r.fresh(groups), r.fresh(channels // groups)
        whole = r.grid((blocks, groups), (each, channels // groups))
        r.same(r.axis(x, 1), whole, (x, 1), "channels go in whole groups of offsets, or positions of every group")
        for value, numbers in ((offsets, 2 * kernel), (node.input(4), kernel)):
            if value:
                r.same(r.axis(value, 1), r.grid((blocks, groups), (None, numbers)), (value, 1))
    _DEFORMABLE.relate(r, node)


def _respell_deformable(shrink: Respell, node: Node) -> Node:
    return _respell_groups(shrink, _DEFORMABLE.respell(shrink, node), "offset_group", node.inputs[0], 1)


RULES = {
    "Conv": Convolution().rule(),
    "ConvTranspose": Convolution(transposed=True).rule(),
    "DeformConv": Rule(_relate_deformable, _DEFORMABLE.macs, _DEFORMABLE.contracts, _respell_deformable),
}
