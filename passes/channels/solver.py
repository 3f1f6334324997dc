"""Solves equations between cut sets.

A *unit* is a set of atoms that may go together: whatever units go, both sides of every equation
lose the same indices. The steps, each on all equations at once and each legal by itself:

1. equations between atoms merge them (union-find);
2. an atom that equals a compound is replaced by it;
3. compounds on both sides are matched atom by atom through equal supports, the indices that hold the
   atom (`matching.py`);
4. products of unlike factors are split into their common factors (`factors.py`);
5. what is irregular is solved by searching for the smallest sets of atoms that may go together
   (`minimal.py`), and where that is too large, by tying families of atoms to each other (`families.py`).

Atoms that are in no unit are locked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array
from amcc.passes.channels.factors import common_factors
from amcc.passes.channels.families import tied_families
from amcc.passes.channels.matching import equal_supports
from amcc.passes.channels.minimal import minimal_units
from amcc.passes.channels.solution import FREE, Solution
from amcc.passes.ragged import Growing, Ragged, among, ascending, distinct, merged

if TYPE_CHECKING:
    from amcc.passes.channels.cutsets import CutSets

# Atoms times pairs of systems that are searched at once, and of the largest that is searched at all.
SMALL = 1 << 12
LARGEST = 1 << 26


@dataclass(frozen=True)
class _Systems:
    """The open pairs by what shares atoms: `label` of each atom, `of_pair` of each pair."""

    left: Ragged
    right: Ragged
    atoms: Array
    label: Array
    of_pair: Array


class Solver:
    """One system on its way to a solution.

    The open pairs are the equations, index by index, that are not satisfied yet: of equation
    `_of[i]`, whose sides hold the atoms `_left` and `_right` of row i. Atoms there stand for themselves.
    """

    def __init__(self, cuts: CutSets) -> None:
        self._cuts = cuts
        self._equation_tags = np.array([e.tag for e in cuts.equations], np.int64)
        left, right, of = self._pairs()
        plain = (left > 0) & (right > 0)
        self._root = merged(cuts.count, left[plain], right[plain])
        self._tags = np.full(cuts.count, FREE, np.int64)
        self._tags[0] = -1
        held = (left == 0) | (right == 0)
        self._hold(
            np.concatenate([np.where(left[held] == 0, right[held], left[held]), *(part for part, _ in cuts.locks)]),
            np.concatenate([self._equation_tags[of[held]], *(np.full(len(part), tag) for part, tag in cuts.locks)]),
        )
        self._family = np.repeat(np.arange(len(cuts.families)), cuts.families)
        rest = ~plain & ~held
        left, right, of = _distinct_pairs(left[rest], right[rest], of[rest])
        self._of, self._left, self._right = of, self._rows(left), self._rows(right)
        self._changes: list[tuple[Array, Ragged]] = []
        self._at = np.full(cuts.count, -1, np.int64)

    def _pairs(self) -> tuple[Array, Array, Array]:
        equations, empty = self._cuts.equations, np.zeros(0, np.int64)
        left = np.concatenate([empty, *(equation.left for equation in equations)])
        right = np.concatenate([empty, *(equation.right for equation in equations)])
        of = np.repeat(np.arange(len(equations)), [len(equation.left) for equation in equations])
        differ = left != right
        return left[differ], right[differ], of[differ]

    def _hold(self, cuts: Array, tags: Array) -> None:
        """Lock all atoms of some cut sets; the first to lock an atom counts."""
        atoms = self._cuts.atoms(cuts)
        np.minimum.at(self._tags, self._root[atoms.items], np.repeat(tags, atoms.sizes))

    def _rows(self, cuts: Array) -> Ragged:
        atoms = self._cuts.atoms(cuts)
        return Ragged.of_sets(atoms.row, self._root[atoms.items], len(cuts))

    def solve(self) -> Solution:
        """Carry out all steps; called once."""
        while len(self._of):
            if self._propagate():
                continue
            done = self._search(SMALL) or self._match() or self._factor() or self._search(LARGEST)
            if not done:
                self._tie()
        return self._solution()

    # -- steps 1 and 2: what follows at once -------------------------------------------------------

    def _propagate(self) -> bool:
        """Lock, merge and replace what must be; whether that left something to look at again."""
        left, right = (rows.where(self._tags[rows.items] == FREE) for rows in (self._left, self._right))
        only_left, only_right = _apart(left, right)
        shared = left.sizes > only_left.sizes
        a, b = only_left.sizes, only_right.sizes
        if (solved := (a == 0) & (b == 0)).any():
            self._keep(~solved)
            return True
        if (dead := ~shared & ((a == 0) | (b == 0))).any():
            self._lock_other_side(np.flatnonzero(dead))
        elif (single := ~shared & (a == 1) & (b == 1)).any():
            self._merge(only_left.take(np.flatnonzero(single)).items, only_right.take(np.flatnonzero(single)).items)
        elif (one := ~shared & ((a == 1) | (b == 1))).any():
            pairs = np.flatnonzero(one)
            alone = np.where(a[pairs] == 1, 0, 1)
            sides = Ragged.joined([left, right])
            at = pairs + alone * len(left)
            other = pairs + (1 - alone) * len(left)
            full = Ragged.joined([self._left, self._right])
            self._replace(sides.take(at).items, full.take(other))
        else:
            return False
        return True

    def _keep(self, pairs: Array) -> None:
        rows = np.flatnonzero(pairs)
        self._of, self._left, self._right = self._of[rows], self._left.take(rows), self._right.take(rows)

    def _lock_other_side(self, pairs: Array) -> None:
        """One side stays for good, so the other does: because of the lock that reaches it, or of the equation."""
        both = Ragged.joined([self._left.take(pairs), self._right.take(pairs)])
        tags = self._tags[both.items]
        cause = np.full(2 * len(pairs), FREE)
        np.minimum.at(cause, both.row[tags >= 0], tags[tags >= 0])
        cause = cause.reshape(2, -1).min(axis=0)
        cause = np.where(cause == FREE, self._equation_tags[self._of[pairs]], cause)
        free = tags == FREE
        np.minimum.at(self._tags, both.items[free], np.tile(cause, 2)[both.row[free]])

    def _merge(self, a: Array, b: Array) -> None:
        atoms, where = np.unique(np.concatenate([a, b]), return_inverse=True)
        root = atoms[merged(len(atoms), *where.reshape(2, -1))]
        moved = root != atoms
        self._change(atoms[moved], Ragged.of_sizes(np.ones(int(moved.sum()), np.int64), root[moved]))

    def _replace(self, atoms: Array, by: Ragged) -> None:
        """Replace each atom by the first row it equals; rows that hold atoms to be replaced themselves wait."""
        atoms, first = np.unique(atoms, return_index=True)
        by = by.take(first)
        self._at[atoms] = np.arange(len(atoms))
        waits = by.any(self._at[by.items] >= 0)
        if waits.all():  # cycles: the first of each goes
            linked = self._at[by.items]
            cycle = merged(len(atoms), by.row[linked >= 0], linked[linked >= 0])
            waits = np.ones(len(atoms), bool)
            waits[np.lexsort((first, cycle))[np.unique(np.sort(cycle), return_index=True)[1]]] = False
        self._at[atoms] = -1
        go = np.flatnonzero(~waits)
        self._change(atoms[go], by.take(go))

    def _change(self, atoms: Array, by: Ragged) -> None:
        """From now on these atoms stand for rows of others."""
        self._changes.append((atoms, by))
        self._at[atoms] = np.arange(len(atoms))
        self._left, self._right = (rows.replaced(self._at, by) for rows in (self._left, self._right))
        self._at[atoms] = -1

    # -- steps 3 to 5: compounds on both sides -------------------------------------------------------

    def _free_rows(self) -> tuple[Ragged, Ragged]:
        left, right = (rows.where(self._tags[rows.items] == FREE) for rows in (self._left, self._right))
        return left, right

    def _match(self) -> bool:
        left, right = self._free_rows()
        a, b = equal_supports(self._of, *_apart(left, right))
        if len(a):
            self._merge(a, b)
        return bool(len(a))

    def _factor(self) -> bool:
        """Split products of unlike factors, equation by equation as long as they share no atom."""
        image, taken, done = self._solution(), np.zeros(len(self._tags), bool), False
        for number in ascending(self._of).tolist():
            equation = self._cuts.equations[number]
            left, right = image.units(equation.left), image.units(equation.right)
            if taken[left.items].any() or taken[right.items].any():
                continue
            if (factors := common_factors(left, right)) is not None:
                new = self._new_atoms(factors.count)
                taken = np.concatenate([taken, np.ones(factors.count, bool)])
                taken[factors.atoms] = done = True
                self._change(factors.atoms, Ragged(factors.digits.starts, new[factors.digits.items]))
        return done

    def _new_atoms(self, count: int) -> Array:
        first = len(self._tags)
        self._tags = np.concatenate([self._tags, np.full(count, FREE)])
        self._at = np.concatenate([self._at, np.full(count, -1)])
        self._family = np.concatenate([self._family, np.full(count, self._family.max() + 1)])
        return np.arange(first, first + count)

    def _systems(self) -> _Systems:
        left, right = self._free_rows()
        both = Ragged.joined([left, right])
        atoms, local = np.unique(both.items, return_inverse=True)
        first = local[left.starts[:-1]]
        label = merged(len(atoms), np.tile(first, 2)[both.row], local)
        return _Systems(left, right, atoms, label, label[first])

    def _search(self, limit: int) -> bool:
        """Solve for good what shares no atoms with the rest and is not larger than a limit; whether there was any."""
        systems = self._systems()
        members, pairs = np.bincount(systems.label), np.bincount(systems.of_pair)
        chosen = np.flatnonzero((members > 0) & (members * pairs <= limit))
        if not len(chosen):
            return False
        guards = self._guards(systems.atoms, systems.label)
        known: dict[tuple[bytes, ...], Ragged] = {}  # layers are alike
        atoms, images, first = [], [], len(self._tags)
        for system in chosen.tolist():
            mine, own = systems.atoms[systems.label == system], np.flatnonzero(systems.of_pair == system)
            left, right = systems.left.take(own), systems.right.take(own)
            held = [_only(guard, mine) for guard in guards.get(system, ())]
            sides = [_only(left, mine), _only(right, mine)]
            key = tuple(part.tobytes() for rows in (*sides, *held) for part in (rows.starts, rows.items))
            if key not in known:
                known[key] = minimal_units(sides[0], sides[1], len(mine), held)
            units = known[key]
            free = np.flatnonzero(units.sizes)
            self._lock_idle(mine[units.sizes == 0], own, left, right)
            atoms.append(mine[free])
            images.append(Ragged(units.starts, units.items + first).take(free))
            first += int(units.items.max(initial=-1)) + 1
        self._new_atoms(first - len(self._tags))
        self._change(np.concatenate(atoms), Ragged.joined(images))
        return True

    def _guards(self, atoms: Array, label: Array) -> dict[int, list[Ragged]]:
        """By system, the axes that its units alone could empty: of equations, and whole families."""
        image = self._solution()
        label_of = np.full(len(self._tags), -1)
        label_of[atoms] = label
        axes = [self._cuts.equations[n].left for n in ascending(self._of).tolist()]
        starts = np.concatenate([[0], np.cumsum(self._cuts.families)])
        touched = ascending(self._family[: self._cuts.count][image.holds(label_of >= 0)])
        axes += [np.arange(starts[f], starts[f + 1]) for f in touched.tolist()]
        found: dict[int, dict[bytes, Ragged]] = {}
        for axis in axes:
            rows = image.units(axis)
            rows = rows.take(distinct(rows.table(0))[0])
            labels = label_of[rows.items]
            for system in ascending(labels[: rows.sizes[0]]).tolist():
                if system >= 0 and rows.any(labels == system).all():
                    found.setdefault(system, {})[rows.table(0).tobytes()] = rows
        return {system: list(guards.values()) for system, guards in found.items()}

    def _lock_idle(self, atoms: Array, pairs: Array, left: Ragged, right: Ragged) -> None:
        """Lock atoms that are in no unit, because of the first equation that holds them."""
        both = Ragged.joined([left, right])
        idle = among(both.items, atoms)
        tags = np.tile(self._equation_tags[self._of[pairs]], 2)
        np.minimum.at(self._tags, both.items[idle], tags[both.row[idle]])

    def _tie(self) -> None:
        """The first equation of what is too large to search."""
        left, right = self._free_rows()
        own = np.flatnonzero(self._of == self._of.min())
        left, right = left.take(own), right.take(own)
        atoms, root = tied_families(left, right, self._family)
        self._lock_idle(atoms[root < 0], own, left, right)
        self._merge(atoms[root >= 0], root[root >= 0])

    # -- the result ----------------------------------------------------------------------------------

    def _solution(self) -> Solution:
        """What the changes so far come to."""
        at, images = np.full(len(self._tags), -1), Growing()
        for atoms, by in reversed(self._changes):
            at[atoms] = images.add(by.replaced(at, images.rows))
        return Solution(self._cuts, self._root, at, images.rows, self._tags)


def _apart(left: Ragged, right: Ragged) -> tuple[Ragged, Ragged]:
    """The rows of both sides without what the other side's hold too."""
    span = int(max(left.items.max(initial=0), right.items.max(initial=0))) + 1
    ours, theirs = (rows.row * span + rows.items for rows in (left, right))
    return left.where(~among(ours, theirs)), right.where(~among(theirs, ours))


def _only(rows: Ragged, atoms: Array) -> Ragged:
    """The rows with only these atoms, numbered by their place among them."""
    rows = rows.where(among(rows.items, atoms))
    return Ragged(rows.starts, np.searchsorted(atoms, rows.items))


def _distinct_pairs(left: Array, right: Array, of: Array) -> tuple[Array, Array, Array]:
    if not len(of):
        return left, right, of
    low = int(min(left.min(initial=0), right.min(initial=0)))
    first, _ = distinct(np.stack([of, left - low, right - low], 1))
    return left[first], right[first], of[first]
