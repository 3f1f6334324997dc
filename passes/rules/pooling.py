"""Pooling: within a channel, over space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Node
from amcc.passes.rules.rule import UNKNOWN, Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _relate(r: Relation, node: Node) -> None:
    """Batch and channel stay, space is mixed. Indices that MaxPool gives count elements of the whole tensor."""
    if any(node.outputs[1:]):
        UNKNOWN.relate(r, node)
        return
    x, y = node.inputs[0], node.outputs[0]
    r.set(y, [r.axis(x, 0), r.axis(x, 1), *[None] * (r.rank(y) - 2)])


RULES = table(
    "AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool".split(),
    Rule(_relate),
)
