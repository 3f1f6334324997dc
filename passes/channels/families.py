"""Equations too large to search: families of atoms are tied to each other index by index, the rest is locked."""

from __future__ import annotations

import itertools

import numpy as np

from amcc.ir import Array
from amcc.passes.ragged import Ragged, ascending, merged

_MOST = 4


def tied_families(left: Ragged, right: Ragged, family: Array) -> tuple[Array, Array]:
    """What each atom of one equation is merged with, so that both sides agree: `(atoms, root)`, -1 if locked.

    One or two families of the left side are each tied to one of the right, whichever leaves most atoms free.

    Args:
        family: of each atom.
    """
    atoms, local = np.unique(np.concatenate([left.items, right.items]), return_inverse=True)
    sides = [_by_family(rows, family, at, len(atoms)) for rows, at in
             ((left, local[: len(left.items)]), (right, local[len(left.items) :]))]  # fmt: skip
    best, most = np.full(len(atoms), -1), 0
    pairs = list(itertools.product(list(sides[0])[:_MOST], list(sides[1])[:_MOST]))
    for (a, c), (b, d) in itertools.combinations_with_replacement(pairs, 2):
        if (a == b) != (c == d):
            continue
        root = _tied([(sides[0][a], sides[1][c]), (sides[0][b], sides[1][d])], len(atoms))
        if (free := len(ascending(root[root >= 0]))) > most:
            best, most = root, free
    return atoms, np.where(best >= 0, atoms[best], -1)


def _by_family(rows: Ragged, family: Array, local: Array, count: int) -> dict[int, Array]:
    """For each family its atom on every index, `count` where it has none; families that hold several are left out."""
    of = family[rows.items]
    found: dict[int, Array] = {}
    for number in ascending(of).tolist():
        own = of == number
        if len(ascending(rows.row[own])) == own.sum():
            found[number] = np.full(len(rows), count)
            found[number][rows.row[own]] = local[own]
    return found


def _tied(pairs: list[tuple[Array, Array]], count: int) -> Array:
    """Merges index by index; what meets nothing, and what is in no pair, is locked: one class with `count`."""
    a, b = (np.concatenate(x) for x in zip(*pairs, strict=True))
    idle = np.setdiff1d(np.arange(count), np.concatenate([a, b]))
    root = merged(count + 1, np.concatenate([a, idle]), np.concatenate([b, np.full(len(idle), count)]))
    return np.where(root == root[count], -1, root)[:count]
