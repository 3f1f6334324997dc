"""What rows have in common that put an operator along the channels, or beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.row import C, Place

T = 64
"""Places of a picture."""


def array(b: Builder, values: object) -> str:
    return b.constant(np.array(values, np.int64))


def own(b: Builder, x: str) -> str:
    """A tensor like x with channels of its own."""
    return b.op("Conv", x, b.param(C, C, 1, 1), b.param(C))


OWN = 2 * T * C * C
"""What that costs."""


def turned(order: Sequence[int], place: Place) -> Place:
    """What is put in sees the axes in another order, and gives them back in that order."""
    return lambda b, x: b.op("Transpose", place(b, b.op("Transpose", x, perm=order)), perm=np.argsort(order).tolist())


def first(place: Place) -> Place:
    """Channels in front: `[8, 2, 8, 8]`."""
    return turned([1, 0, 2, 3], place)


def inner(place: Place) -> Place:
    """Channels as the first axis of space: `[2, 8, 8, 8]`."""
    return turned([0, 2, 1, 3], place)


def number(b: Builder, x: str) -> str:
    """`[1]`: a place on an axis of eight that only run time knows, and that no channel has a say in."""
    largest = b.op("ReduceMax", "x", axes=[0, 1, 3], keepdims=0)
    return b.op("ArgMax", largest, axis=0, keepdims=1)


def largest(b: Builder, x: str, axis: int) -> str:
    return b.op("ReduceMax", x, axes=[axis], keepdims=1)
