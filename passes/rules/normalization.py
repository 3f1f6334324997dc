"""Normalisations whose statistics stay within a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Node
from amcc.passes.rules.rule import UNKNOWN, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _relate_per_channel(r: Relation, node: Node) -> None:
    """Parameters `[C]` go with the channels of `[N, C, ...]`; the other axes keep their meaning."""
    training = any(node.outputs[1:]) or node.attributes.get("training_mode", 0)
    if training or node.attributes.get("spatial", 1) == 0:
        UNKNOWN.relate(r, node)
        return
    x = node.inputs[0]
    channels = r.axis(x, 1)
    for param in node.inputs[1:]:
        r.same(channels, r.axis(param, 0), (param, 0))
    r.set(
        node.outputs[0],
        r.all_axes(x) if node.op == "BatchNormalization" else [r.axis(x, 0), channels, *[None] * (r.rank(x) - 2)],
    )


def _relate_layer(r: Relation, node: Node) -> None:
    """Scale and bias span the normalised axes, from `axis` on; their statistics are over the survivors."""
    x, rank = node.inputs[0], r.rank(node.inputs[0])
    axis = node.attributes.get("axis", -1)
    assert isinstance(axis, int)
    first = axis % rank
    for own in range(first, rank):
        r.inexact(r.axis(x, own), (x, own), f"{node.op} takes its statistics over this axis")
    for param in node.inputs[1:]:
        offset = rank - r.rank(param) if param else 0
        for own in range(r.rank(param) if param else 0):
            if r.shape(param)[own] != 1:
                r.same(r.axis(x, own + offset), r.axis(param, own), (param, own))
    r.set(node.outputs[0], r.all_axes(x))
    for output in node.outputs[1:]:
        if output:
            r.set(output, [None if a >= first else r.axis(x, a) for a in range(rank)])


RULES = {
    "LayerNormalization": Rule(_relate_layer),
    "BatchNormalization": Rule(_relate_per_channel),
    "InstanceNormalization": Rule(_relate_per_channel),
}
