"""Convolutions of any rank, group, stride and dilation.

With `G` groups, input channel (g, q) goes with group g or with position q of every group, and output
channel (g, p) with group g or position p. A group of units of each kind: groups may be removed (the
attribute `group` falls) and positions may be removed, and the search may use both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import Monomial, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def _groups(node: Node) -> int:
    group = node.attributes.get("group", 1)
    assert isinstance(group, int)
    return group


def _relate_conv(r: Relation, node: Node) -> None:
    """Weight `[O, I/G, k...]`."""
    x, w = node.inputs[:2]
    n_out, n_in = r.shape(w)[:2]
    channels = r.axis(x, 1)
    if _groups(node) == 1:
        r.same(channels, r.axis(w, 1), (w, 1))
        out = r.axis(w, 0)
    else:
        out = _relate_groups(r, node, channels, inputs=n_in, outputs=int(n_out) // _groups(node), position_axis=1)
        r.same(r.axis(w, 0), out, (w, 0))
    _finish(r, node, out)


def _relate_transposed(r: Relation, node: Node) -> None:
    """Weight `[I, O/G, k...]`."""
    x, w = node.inputs[:2]
    n_in, n_out = r.shape(w)[:2]
    channels = r.axis(x, 1)
    r.same(channels, r.axis(w, 0), (w, 0))
    if _groups(node) == 1:
        out = r.axis(w, 1)
    else:
        out = _relate_groups(r, node, channels, inputs=int(n_in) // _groups(node), outputs=n_out, position_axis=None)
    _finish(r, node, out)


def _relate_groups(
    r: Relation, node: Node, channels: Axis, *, inputs: int | str, outputs: int | str, position_axis: int | None
) -> Axis:
    """Ties the channels of a grouped convolution to its groups and positions; gives the output channels.

    Args:
        inputs: channels that a group reads, and `outputs`, that it makes.
        position_axis: the weight axis that holds a group's input positions; None for a transposed
            convolution, whose second axis holds output positions.
    """
    x, w = node.inputs[:2]
    groups = _groups(node)
    assert isinstance(inputs, int) and isinstance(outputs, int)
    blocks = r.fresh(groups)
    if position_axis is None:
        q, p = r.fresh(inputs), r.axis(w, 1)
    else:
        q, p = r.axis(w, position_axis), r.fresh(outputs)
    r.same(
        channels,
        r.grid((blocks, groups), (q, inputs)),
        (x, 1),
        "channels of a grouped convolution go in whole groups or positions",
    )
    return r.grid((blocks, groups), (p, outputs))


def _finish(r: Relation, node: Node, out: Axis) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if bias := node.input(2):
        r.same(out, r.axis(bias, 0), (bias, 0))
    r.set(y, [r.axis(x, 0), out, *[None] * (r.rank(y) - 2)])


def _macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """Every output (transposed: every input) position does `k` MACs for each pair of channels it ties."""
    w = node.inputs[1]
    kernel = math.prod(per_sample(d) for d in graph.shape(w)[2:])
    grid = graph.shape(node.inputs[0] if node.op == "ConvTranspose" else node.outputs[0])
    positions = math.prod(per_sample(d) for d in (grid[0], *grid[2:]))
    return (Monomial(kernel * positions, ((w, 0), (w, 1))),)


def _contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    return ((0, 1),)


def _respell(shrink: Respell, node: Node) -> Node:
    """`group` is the number of groups that still have an input channel."""
    groups = _groups(node)
    channels = shrink.graph.shape(node.inputs[0])[1]
    if groups == 1 or not isinstance(channels, int):
        return node
    left = len(np.unique(shrink.kept(node.inputs[0], 1) // (channels // groups)))
    return node if left == groups else with_attributes(node, group=left)


RULES = {
    "Conv": Rule(_relate_conv, _macs, _contracts, _respell),
    "ConvTranspose": Rule(_relate_transposed, _macs, _contracts, _respell),
}
