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


RULES = {
    "BatchNormalization": Rule(_relate_per_channel),
    "InstanceNormalization": Rule(_relate_per_channel),
}
