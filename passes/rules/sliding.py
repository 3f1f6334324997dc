"""Windows that slide along an axis: what becomes of its indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Node

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def slid(r: Relation, node: Node, x: str, y: str, axis: int, window: int, stride: int) -> Axis:
    """The axis of y that a window slides over in x.

    One index wide, it leaves the axis as it is. Wider, with a result of the same length, it sees other neighbours once
    indices are gone: inexact. Any other result has an axis of its own, and that of x stays whole.
    """
    own = r.axis(x, axis)
    if own is None:
        return None
    if stride != 1 or r.shape(x)[axis] != r.shape(y)[axis]:
        r.lock(own, (x, axis), f"{node.op} slides over this axis")
        return None
    if window > 1:
        r.inexact(own, (x, axis), f"{node.op} slides over this axis")
    return own


def numbers(node: Node, name: str, count: int) -> tuple[int, ...]:
    """An attribute with one number for each spatial axis, by default 1."""
    said = node.attributes.get(name, (1,) * count)
    assert isinstance(said, tuple)
    return tuple(int(s) for s in said)
