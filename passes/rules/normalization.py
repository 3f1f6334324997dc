"""Normalisations: what has its statistics within a channel is exact, what has them over channels is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Node
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import UNKNOWN, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _over(r: Relation, node: Node, axes: Iterable[int]) -> None:
    """The statistics of input 0 are taken over these axes."""
    x = node.inputs[0]
    for axis in axes:
        r.inexact(r.axis(x, axis), (x, axis), f"{node.op} takes its statistics over this axis")


def _relate_batch(r: Relation, node: Node) -> None:
    """Parameters `[C]` go with the channels of `[N, C, ...]`. In training the statistics are over all other axes."""
    training = bool(node.attributes.get("training_mode", 0))
    if (any(node.outputs[1:]) and not training) or node.attributes.get("spatial", 1) == 0:
        UNKNOWN.relate(r, node)
        return
    rank = r.rank(node.inputs[0])
    _over(r, node, (0, *range(2, rank)) if training else ())
    _scaled(r, node)
    for output in filter(None, node.outputs[1:]):
        r.set(output, [r.axis(node.inputs[0], 1)])


def _relate_instance(r: Relation, node: Node) -> None:
    """Statistics of each channel of `[N, C, ...]` over all that follows, where merged axes may hold channels too."""
    _over(r, node, range(2, r.rank(node.inputs[0])))
    _scaled(r, node)


def _scaled(r: Relation, node: Node) -> None:
    x = node.inputs[0]
    for param in node.inputs[1:]:
        r.same(r.axis(x, 1), r.axis(param, 0), (param, 0))
    r.set(node.outputs[0], r.all_axes(x))


def _relate_group(r: Relation, node: Node) -> None:
    """Channel (g, p) of `[N, C, ...]` goes with group g, which is exact, or with position p of every group."""
    x = node.inputs[0]
    groups, channels = _groups(node), r.shape(x)[1]
    assert isinstance(channels, int)
    blocks, positions = r.fresh(groups), r.fresh(channels // groups)
    whole = r.grid((blocks, groups), (positions, channels // groups))
    r.same(r.axis(x, 1), whole, (x, 1), "channels of a group normalisation go in whole groups or positions")
    r.inexact(positions, (x, 1), f"{node.op} takes its statistics over the channels of a group")
    _over(r, node, range(2, r.rank(x)))
    for param in node.inputs[1:]:
        r.same(r.axis(x, 1) if r.shape(param)[0] == channels else blocks, r.axis(param, 0), (param, 0))
    r.set(node.outputs[0], r.all_axes(x))


def _groups(node: Node) -> int:
    groups = node.attributes["num_groups"]
    assert isinstance(groups, int)
    return groups


def _respell_group(shrink: Respell, node: Node) -> Node:
    """`num_groups` is the number of groups that still have a channel."""
    channels = shrink.graph.shape(node.inputs[0])[1]
    assert isinstance(channels, int)
    left = np.unique(shrink.kept(node.inputs[0], 1) // (channels // _groups(node)))
    return node if len(left) == _groups(node) else with_attributes(node, num_groups=len(left))


def _relate_layer(r: Relation, node: Node) -> None:
    """Scale and bias are broadcast to the normalised axes, from `axis` on."""
    x, rank = node.inputs[0], r.rank(node.inputs[0])
    axis = node.attributes.get("axis", -1)
    assert isinstance(axis, int)
    first = axis % rank
    _over(r, node, range(first, rank))
    for param in filter(None, node.inputs[1:]):
        offset = rank - r.rank(param)
        for own in range(r.rank(param)):
            if r.shape(param)[own] != 1:
                r.same(r.axis(x, own + offset), r.axis(param, own), (param, own))
            else:
                r.axis(param, own)
    r.set(node.outputs[0], r.all_axes(x))
    for output in filter(None, node.outputs[1:]):
        r.set(output, [None if a >= first else r.axis(x, a) for a in range(rank)])


def _relate_mean_variance(r: Relation, node: Node) -> None:
    rank = r.rank(node.inputs[0])
    axes = node.attributes.get("axes", (0, 2, 3))
    assert isinstance(axes, tuple)
    _over(r, node, (int(axis) % rank for axis in axes))
    r.set(node.outputs[0], r.all_axes(node.inputs[0]))


_LAYER = Rule(_relate_layer, periodic=True)

RULES = {
    "BatchNormalization": Rule(_relate_batch, periodic=True),
    "InstanceNormalization": Rule(_relate_instance, periodic=True),
    "GroupNormalization": Rule(_relate_group, respell=_respell_group, periodic=True),
    "LayerNormalization": _LAYER,
    "RMSNormalization": _LAYER,
    "SimplifiedLayerNormalization": _LAYER,
    "MeanVarianceNormalization": Rule(_relate_mean_variance, periodic=True),
}
