"""Cut sets and the equations between them.

An index of a tensor axis carries a *cut set*: the units whose removal drops it. A cut set is written
as one number: an atom (`> 0`), a compound of several atoms (`< 0`), or `NEVER` for an index that stays for
good. Operators make atoms (`fresh`), compounds (`union`) and equations (`equal`); `solve` finds units
that satisfy all of them (`amcc.passes.channels.solver`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from amcc.ir import Array
from amcc.passes.channels.solution import Solution
from amcc.passes.ragged import Growing, Ragged, distinct

NEVER = 0


@dataclass(frozen=True)
class Equation:
    """`left[i]` and `right[i]` are the same cut set, for every i; `tag` numbers who said so."""

    left: Array
    right: Array
    tag: int


@dataclass
class CutSets:
    """A growing system of cut sets and equations.

    Attributes:
        families: how many atoms each call of `fresh` made; the first family is `NEVER` alone.
        locks: cut sets that may not go, each with the tag of who said so.
    """

    families: list[int] = field(default_factory=lambda: [1])
    equations: list[Equation] = field(default_factory=list)
    locks: list[tuple[Array, int]] = field(default_factory=list)
    count: int = 1
    _compounds: Growing = field(default_factory=Growing)
    _unions: dict[tuple[object, ...], Array] = field(default_factory=dict)
    _said: set[tuple[int, int]] = field(default_factory=set)

    def fresh(self, n: int) -> Array:
        """`n` new atoms: one family."""
        self.families.append(n)
        self.count += n
        return np.arange(self.count - n, self.count)

    def never(self, n: int) -> Array:
        """`n` indices that stay for good."""
        return np.zeros(n, np.int64)

    def atoms(self, cuts: Array) -> Ragged:
        """The atoms of each cut set of an axis."""
        compound = cuts < 0
        if not np.count_nonzero(compound):
            atom = cuts > NEVER
            return Ragged.of_sizes(atom, cuts[atom])
        rows = self._compounds.rows.take(-1 - cuts[compound])
        sizes = (cuts > NEVER).astype(np.int64)
        sizes[compound] = rows.sizes
        items = cuts.repeat(sizes)
        items[compound.repeat(sizes)] = rows.items
        return Ragged.of_sizes(sizes, items)

    def union(self, *parts: Array) -> Array:
        """Index by index the union of cut sets; parts are broadcast against each other."""
        key = tuple(x for part in parts for x in (part.shape, part.tobytes()))
        if key not in self._unions:
            shape = np.broadcast(*parts).shape
            cells = np.empty((*shape, len(parts)), np.int64)
            for position, part in enumerate(parts):
                cells[..., position] = part
            self._unions[key] = self._numbered(self._united(cells.reshape(-1, len(parts)))).reshape(shape)
        return self._unions[key]

    def _united(self, cells: Array) -> Ragged:
        """The union of each row of cut sets."""
        n, k = cells.shape
        if np.count_nonzero(cells > NEVER) == cells.size:
            cells = np.sort(cells, axis=1)
            if not np.count_nonzero(cells[:, 1:] == cells[:, :-1]):  # unlike atoms, as of a grid of new ones
                return Ragged(np.arange(0, n * k + 1, k), cells.ravel())
        atoms = self.atoms(cells.ravel())
        return Ragged.of_sets(atoms.row // k, atoms.items, n)

    def _numbered(self, sets: Ragged) -> Array:
        """One number for each set of atoms."""
        table = sets.table(NEVER)
        numbers = table[:, 0].copy()
        several = np.flatnonzero(sets.sizes > 1)
        if len(several):
            first, inverse = distinct(table[several])
            numbers[several] = -1 - self._compounds.add(sets.take(several[first]))[inverse]
        return numbers

    def lines(self, axis: Array, shape: Sequence[int]) -> list[Array] | None:
        """The cut sets of each axis of a row-major split, if the axis is their product; None if it is not."""
        cells = self.atoms(axis)
        places = np.unravel_index(cells.row, tuple(shape))
        shared = [self._shared(place, cells.items, n, len(axis) // n) for place, n in zip(places, shape, strict=True)]
        spread = np.unravel_index(np.arange(len(axis)), tuple(shape))
        parts = [lines.take(place) for lines, place in zip(shared, spread, strict=True)]
        row, items = (np.concatenate([getattr(part, what) for part in parts]) for what in ("row", "items"))
        whole = Ragged.of_sets(row, items, len(axis))
        if not (np.array_equal(whole.starts, cells.starts) and np.array_equal(whole.items, cells.items)):
            return None
        return [self._numbered(lines) for lines in shared]

    def _shared(self, place: Array, items: Array, n: int, cells: int) -> Ragged:
        """For each of n places the atoms that all of its cells hold; an axis of length 1 holds none."""
        if n == 1:
            return Ragged.of_sizes(np.zeros(1, np.int64), np.zeros(0, np.int64))
        keys = np.sort(place * self.count + items, kind="stable")
        start = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        full = keys[start[np.diff(np.append(start, len(keys))) == cells]]
        return Ragged.of_sets(full // self.count, full % self.count, n)

    def equal(self, left: Array, right: Array, tag: int) -> None:
        """The two axes lose the same indices."""
        if left is not right and (id(left), id(right)) not in self._said:
            self._said.add((id(left), id(right)))  # the equation keeps both alive
            self.equations.append(Equation(left, right, tag))

    def lock(self, cuts: Array, tag: int) -> None:
        """None of these indices may go."""
        self.locks.append((cuts, tag))

    def solve(self) -> Solution:
        """The units that satisfy every equation and lock."""
        from amcc.passes.channels.solver import Solver

        return Solver(self).solve()


__all__ = ["NEVER", "CutSets", "Equation", "Solution"]
