"""Two products of unlike factors on one axis: `4 * 3 = 2 * 6` is `2 * 2 * 3` on both sides.

If every atom of an axis of n indices depends on some digits of the index alone, in one mixed radix for
both sides, then an atom may go in part: with each of its digits. New atoms, one for each value of a
digit, replace it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array
from amcc.passes.ragged import Ragged, among, ascending


@dataclass(frozen=True)
class Factors:
    """Atoms to be replaced by digits.

    Attributes:
        atoms: `[n]`, and `digits`, for each the digit values that it splits into, numbered from 0.
        count: how many digit values there are.
    """

    atoms: Array
    digits: Ragged
    count: int


def common_factors(left: Ragged, right: Ragged) -> Factors | None:
    """How the atoms of both sides of an equation split; None if the sides are no such products.

    Args:
        left: the atoms of every index of the axis in order, and `right`, on the other side.
    """
    sides = [columns for rows in (left, right) if (columns := _columns(rows)) is not None]
    if len(sides) < 2 or among(left.items, ascending(right.items)).any():
        return None
    n = len(left)
    marks = sorted({1, n, *(mark for side in sides for column in side for mark in _places(column))})
    if any(high % low for low, high in itertools.pairwise(marks)):
        return None
    radix = [high // low for low, high in itertools.pairwise(marks)][::-1]
    starts = np.concatenate([[0], np.cumsum(radix)])
    atoms, digits = [], []
    for side in sides:
        used: list[int] = []
        for column in side:
            cells = column.reshape(radix)
            varies = [d for d in range(len(radix)) if (cells != cells.take([0], d)).any()]
            corner = cells[tuple(slice(None) if d in varies else 0 for d in range(len(radix)))]
            if not varies or len(ascending(corner.ravel())) < corner.size:
                return None
            used += varies
            atoms.append(corner.ravel())
            values = np.stack(np.unravel_index(np.arange(corner.size), corner.shape), 1)
            digits.append(Ragged.of_sizes(np.full(corner.size, len(varies)), (values + starts[varies]).ravel()))
        if sorted(used) != list(range(len(radix))):
            return None
    return Factors(np.concatenate(atoms), Ragged.joined(digits), int(starts[-1]))


def _columns(rows: Ragged) -> list[Array] | None:
    """Atoms by their place in their row; None if rows are unlike, or one atom is in two places."""
    sizes = rows.sizes
    if not len(sizes) or sizes.min() != sizes.max() or not sizes[0]:
        return None
    columns = list(rows.items.reshape(len(rows), -1).T)
    return columns if sum(len(ascending(c)) for c in columns) == len(ascending(rows.items)) else None


def _places(column: Array) -> Sequence[int]:
    """The length of the runs of a column, and after how many indices it repeats."""
    n = len(column)
    run = int(np.gcd.reduce(np.flatnonzero(np.diff(column)) + 1, initial=n))
    heads = column[::run]
    again = np.flatnonzero(heads == heads[0])[1:]
    for period in again[len(heads) % again == 0].tolist():
        if (heads.reshape(-1, period) == heads[:period]).all():
            return run, run * period
    return run, n
