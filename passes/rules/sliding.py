"""Windows that slide along an axis: what becomes of its indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Node

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def slid(r: Relation, node: Node, x: str, y: str, axis: int, window: int, stride: int) -> Axis:
    """The axis of y that a window slides over in x.

    One index wide, it leaves the axis as it is. Wider, it sees other neighbours once indices are gone: inexact; an
    index goes with the window around it, and where the result is shorter, both ends stay. With strides all stay.
    """
    own, shorter = r.axis(x, axis), r.shape(y)[axis]
    if own is None or r.stays(own):
        return None
    lost = len(own) - shorter if isinstance(shorter, int) else -1
    if stride != 1 or lost < 0 or (window == 1 and lost):
        r.lock(own, (x, axis), f"{node.op} slides over this axis")
        return None
    if window > 1:
        inner = own[lost // 2 : len(own) - (lost - lost // 2)]
        r.inexact(inner, (x, axis), f"{node.op} slides over this axis")
        if lost:
            ends = np.concatenate([own[: lost // 2], own[len(own) - (lost - lost // 2) :]])
            r.lock(ends, (x, axis), f"{node.op} slides over this axis from end to end")
        return inner
    return own


def numbers(node: Node, name: str, count: int) -> tuple[int, ...]:
    """An attribute with one number for each spatial axis, by default 1."""
    said = node.attributes.get(name, (1,) * count)
    assert isinstance(said, tuple)
    return tuple(int(s) for s in said)
