"""Compounds on both sides of an equation, matched through equal supports."""

from __future__ import annotations

import numpy as np

from amcc.ir import Array
from amcc.passes.ragged import Ragged, ascending, merged, scattered


def equal_supports(of: Array, left: Ragged, right: Ragged) -> tuple[Array, Array]:
    """Atoms to be merged: one on the left, one on the right of the same indices of an equation.

    Where the matches of one equation merge atoms that another one with matches holds apart, these two and all that
    share atoms with them wait, but for the first.

    Args:
        of: the equation of each pair.
        left: the atoms of each pair that only its left side has, and `right`, only its right side.
    """
    equation, atom, twin = _twins(of, left, right)
    if not len(atom):
        return atom, twin
    atoms = ascending(np.concatenate([left.items, right.items]))
    a, b = np.searchsorted(atoms, atom), np.searchsorted(atoms, twin)
    root = merged(len(atoms), a, b)
    owner = np.concatenate([of[left.row], of[right.row]])
    held = np.searchsorted(atoms, np.concatenate([left.items, right.items]))
    count = int(of.max()) + 1
    matches = np.bincount(equation, minlength=count)
    torn = (matches > 0) & (_count(owner, held, len(atoms)) - matches != _count(owner, root[held], len(atoms)))
    if torn.any():
        near = np.zeros(len(atoms), bool)
        near[held[torn[owner]]] = True
        waits = np.bincount(owner[near[held]], minlength=count) > 0
        together = merged(count + len(atoms), owner, count + held)[equation]
        first = np.full(count, count)
        np.minimum.at(first, together[waits[equation]], equation[waits[equation]])
        go = ~waits[equation] | (equation == first[together])
        atom, twin = atom[go], twin[go]
    return atom, twin


def _count(owner: Array, items: Array, span: int) -> Array:
    """How many unlike items each owner has."""
    keys = ascending(owner * span + items)
    return np.bincount(keys // span, minlength=int(owner.max()) + 1)


def _twins(of: Array, left: Ragged, right: Ragged) -> tuple[Array, Array, Array]:
    """For each match its equation and the two atoms; of several with one support the first goes with the first."""
    random = scattered(len(of))
    pair = np.concatenate([left.row, right.row])
    atom = np.concatenate([left.items, right.items])
    side = np.repeat([0, 1], [len(left.items), len(right.items)])
    order = np.lexsort((side, atom, of[pair]))
    pair, atom, side = pair[order], atom[order], side[order]
    new = np.ones(len(pair), bool)
    new[1:] = (np.diff(of[pair]) != 0) | (np.diff(atom) != 0) | (np.diff(side) != 0)
    start = np.flatnonzero(new)
    support = np.add.reduceat(random[pair], start) if len(start) else random[:0]
    equation, atom, side = of[pair[start]], atom[start], side[start]
    alone = np.ones(len(atom), bool)  # an atom on both sides of an equation has no twin
    both = (np.diff(equation) == 0) & (np.diff(atom) == 0)
    alone[1:] &= ~both
    alone[:-1] &= ~both
    equation, atom, side, support = equation[alone], atom[alone], side[alone], support[alone]
    order = np.lexsort((atom, side, support, equation))
    equation, atom, side, support = equation[order], atom[order], side[order], support[order]
    new = np.ones(len(atom), bool)
    new[1:] = (np.diff(equation) != 0) | (np.diff(support) != 0) | (np.diff(side) != 0)
    start = np.flatnonzero(new)
    rank = np.arange(len(atom)) - np.repeat(start, np.diff([*start, len(atom)]))
    order = np.lexsort((side, rank, support, equation))
    equation, atom, side, support, rank = (x[order] for x in (equation, atom, side, support, rank))
    found = np.flatnonzero(
        (np.diff(equation) == 0) & (np.diff(support) == 0) & (np.diff(rank) == 0) & (np.diff(side) == 1)
    )
    return equation[found], atom[found], atom[found + 1]
