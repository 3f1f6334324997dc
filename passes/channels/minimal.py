"""Irregular equations: the smallest sets of atoms that may go together.

A set of atoms may go if both sides of every pair lose the same indices. Such sets are closed under union, so
the smallest ones generate all of them: these are the units. Starting from one atom, every index that
dies on one side only must die on the other; where several atoms could do that, the search branches, the one
that kills least beside first. Sets are bits of Python's integers: over pairs for what dies, over atoms
for what goes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from amcc.passes.ragged import Ragged

# Atoms of a system of which all smallest sets are wanted, and the steps of the search from each.
_SMALL = 64
_STEPS = 1000


def minimal_units(left: Ragged, right: Ragged, count: int, guards: Sequence[Ragged]) -> Ragged:
    """For each of `count` atoms the units that it is in; none if it may not go.

    Args:
        left: the atoms on the left of each pair, numbered from 0, and `right`, on the right.
        guards: axes of which something must stay; row i holds the atoms that index i goes with.
    """
    system = _System(left, right, count, guards)
    units = system.units()
    atoms = [list(_bits(unit)) for unit in units]
    row = np.array([atom for members in atoms for atom in members], np.int64)
    unit = np.repeat(np.arange(len(units)), [len(members) for members in atoms])
    return Ragged.of_sets(row, unit, count)


class _System:
    def __init__(self, left: Ragged, right: Ragged, count: int, guards: Sequence[Ragged]) -> None:
        self._count = count
        self._dies = [_columns(rows, count) for rows in (left, right)]
        self._pairs = [_lists(Ragged.of_sets(rows.items, rows.row, count)) for rows in (left, right)]
        self._sides = [_lists(rows) for rows in (left, right)]
        self._guarded = _columns(Ragged.joined(guards), count) if guards else [0] * count
        ends = list(itertools.accumulate(map(len, guards), initial=0))
        self._known: dict[int, tuple[int, int, int, int]] = {}  # what an atom goes with, and what dies
        self._never = 0  # atoms that cannot go
        self._guards = [(1 << end) - (1 << start) for start, end in itertools.pairwise(ends)]

    def units(self) -> list[int]:
        """Sets that may go, the smallest that there are for each atom; in a large system not quite the smallest."""
        found: set[int] = set()
        small = self._count <= _SMALL
        for atom in range(self._count):
            some = False
            for members in itertools.islice(self._from(atom), None if small else 1):
                found.add(self._shrunk(members, atom) if small else members)
                some = True
                if not small:
                    self._known[atom] = (members, *self._killed(_bits(members)))
            if not some:
                self._never |= 1 << atom
        chosen: list[int] = []
        covered = 0
        for unit in sorted(found, key=lambda unit: (unit.bit_count(), unit)):
            if unit & ~covered:
                chosen.append(unit)
                covered |= unit
        return sorted(chosen, key=lambda unit: (unit & -unit, unit.bit_count(), unit))

    def _from(self, atom: int) -> Iterator[int]:
        """Sets with one atom that may go, those that kill little first."""
        stack = [(1 << atom, *self._killed((atom,)), self._never)]
        small = self._count <= _SMALL
        for step in range(_STEPS):
            if not stack:
                return
            members, left, right, guarded, banned = stack.pop()
            if (small or left == right or step % 64 == 63) and any(guarded & guard == guard for guard in self._guards):
                continue
            if left == right:
                yield members
                continue
            branches = []
            for choice in self._choices(left, right, banned):
                more = self._known.get(choice)
                if more is None or more[0] & banned:
                    more = (1 << choice, *self._killed((choice,)))
                branches.append((members | more[0], left | more[1], right | more[2], guarded | more[3], banned))
                banned |= 1 << choice
            stack.extend(reversed(branches))

    def _choices(self, left: int, right: int, banned: int) -> list[int]:
        """The atoms that could kill the other side of the first pair of which one side is dead; the best one first."""
        unlike = left ^ right
        lowest = unlike & -unlike
        side = 1 if left & lowest else 0
        alive = ~(left | right)
        ranked = []
        for atom in self._sides[side][lowest.bit_length() - 1]:
            if not banned >> atom & 1:
                dies = (self._dies[0][atom], self._dies[1][atom])
                more = ((dies[0] | dies[1]) & alive).bit_count()
                mends = (dies[0] & right & ~left).bit_count() + (dies[1] & left & ~right).bit_count()
                ranked.append((more / mends, more, atom))
        return [atom for _, _, atom in sorted(ranked)]

    def _shrunk(self, members: int, atom: int) -> int:
        """A smallest set within one that may go, still with this atom."""
        left = set(_bits(members))
        counts = [Counter(p for a in left for p in pairs[a]) for pairs in self._pairs]
        for other in sorted(left, reverse=True):
            if other in left:
                left -= self._without(other, atom, left, counts)
        return sum(1 << a for a in left)

    def _without(self, atom: int, wanted: int, members: set[int], counts: list[Counter[int]]) -> set[int]:
        """What cannot go if an atom stays; nothing if that is the wanted one. `counts` is kept up to date."""
        gone, pending, lost = {atom}, [atom], []
        while pending and wanted not in gone:
            a = pending.pop()
            for side, pairs in enumerate(self._pairs):
                for pair in pairs[a]:
                    counts[side][pair] -= 1
                    lost.append((side, pair))
                    if not counts[side][pair] and counts[1 - side][pair]:
                        more = [b for b in self._sides[1 - side][pair] if b in members and b not in gone]
                        gone.update(more)
                        pending += more
        if wanted not in gone:
            return gone
        for side, pair in lost:
            counts[side][pair] += 1
        return set()

    def _killed(self, atoms: Iterable[int]) -> tuple[int, int, int]:
        """The pairs whose left and right sides die, and the guarded indices."""
        left = right = guarded = 0
        for atom in atoms:
            left |= self._dies[0][atom]
            right |= self._dies[1][atom]
            guarded |= self._guarded[atom]
        return left, right, guarded


def _lists(rows: Ragged) -> list[list[int]]:
    return [rows.items[a:b].tolist() for a, b in itertools.pairwise(rows.starts.tolist())]


def _columns(rows: Ragged, count: int) -> list[int]:
    """For each atom the rows that hold it, as bits."""
    held = np.zeros((count, len(rows)), bool)
    held[rows.items, rows.row] = True
    return [int.from_bytes(line.tobytes(), "little") for line in np.packbits(held, axis=1, bitorder="little")]


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
