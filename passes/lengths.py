"""How long axes are under a plan, without building it.

An axis of `n` indices that groups a, b, ... cut in a full grid has length `constant + sum of
multiplicity * keep[a] * keep[b]`. Where an axis is no such grid, its length depends on which units stay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array
from amcc.passes.dims import per_sample
from amcc.passes.ragged import ascending, distinct, ranked, runs
from amcc.passes.rules.rule import Monomial, Place

if TYPE_CHECKING:
    from amcc.passes.channels.model import Channels, Removal


class Lengths:
    """Lengths of the axes that costs are made of, for any plan."""

    def __init__(self, channels: Channels, places: Sequence[Place]) -> None:
        self._channels = channels
        graph = channels.graph
        self._slot: dict[Place, int] = {}
        tables: list[Array | int] = []  # what each slot's length follows from
        by_table: dict[int, int] = {}
        by_size: dict[int, int] = {}
        for place in dict.fromkeys(places):
            table = channels.axes.get(place)
            size = per_sample(graph.shape(place[0])[place[1]])
            known, key = (by_size, size) if table is None else (by_table, id(table))
            if key not in known:
                known[key] = len(tables)
                tables.append(size if table is None else table)
            self._slot[place] = known[key]
        self._constant = np.zeros(len(tables) + 1, np.int64)
        self._constant[-1] = 1
        self._tables = [t for t in tables if not isinstance(t, int)]
        self._table_slots = [i for i, t in enumerate(tables) if not isinstance(t, int)]
        self.irregular: dict[int, Array] = {}
        terms: list[tuple[int, int, tuple[int, ...]]] = []  # slot, times, groups whose keeps are multiplied
        for slot, entry in enumerate(tables):
            if isinstance(entry, int):
                self._constant[slot] = entry
            elif (found := self._polynomial(entry)) is None:
                self.irregular[slot] = entry
            else:
                terms += [(slot, times, members) for times, members in found]
        width = max((len(members) for _, _, members in terms), default=1)
        self._slots = np.array([slot for slot, _, _ in terms], np.int64)
        self._times = np.array([times for _, times, _ in terms], np.int64)
        self._members = np.full((len(terms), width), len(channels.groups))  # filled up with a keep of 1
        for row, (_, _, members) in enumerate(terms):
            self._members[row, : len(members)] = members

    def _polynomial(self, table: Array) -> list[tuple[int, tuple[int, ...]]] | None:
        """The terms of an axis that is a sum of full grids of groups: times, and groups; None if it is none."""
        if table.shape[1] == 1 and (line := self._line(table[:, 0])) is not None:
            return line
        groups = self._channels.group_of[table]
        terms: list[tuple[int, tuple[int, ...]]] = []
        first, which = distinct(groups + 1)
        for number, kind in enumerate(groups[first].tolist()):
            members = tuple(g for g in kind if g >= 0)
            times = np.bincount(distinct(table[which == number])[1])
            full = math.prod(self._channels.groups[g].size for g in members)
            if len(set(members)) < len(members) or len(times) != full or (times != times[0]).any():
                return None
            terms.append((int(times[0]), members))
        return terms

    def _line(self, units: Array) -> list[tuple[int, tuple[int, ...]]] | None:
        """The common case, without a grid: every unit of a group holds equally many indices."""
        units = np.sort(units)
        bounds = runs(units)
        counts, groups = np.diff(bounds), self._channels.group_of[units[bounds[:-1]]]
        terms: list[tuple[int, tuple[int, ...]]] = []
        for start, end in itertools.pairwise(runs(groups).tolist()):
            number, each = int(groups[start]), counts[start:end]
            if (each != each[0]).any() or (number >= 0 and end - start < self._channels.groups[number].size):
                return None
            terms.append((int(each[0]), (number,) if number >= 0 else ()))
        return terms

    def compile(self, monomials: Sequence[Monomial]) -> tuple[Array, Array]:
        """`[m]` coefficients and `[m, r]` slots of lengths, the slot of 1 filling."""
        width = max((len(m.axes) for m in monomials), default=1)
        places = np.full((len(monomials), width), len(self._constant) - 1)
        for row, monomial in enumerate(monomials):
            places[row, : len(monomial.axes)] = [self._slot[place] for place in monomial.axes]
        return np.array([m.coefficient for m in monomials], np.int64), places

    def of_keep(self, keep: Array, removal: Removal | None) -> Array:
        """Lengths by slot when `keep[g]` units of each group stay."""
        lengths = self._constant.copy()
        np.add.at(lengths, self._slots, self._times * np.append(keep, 1)[self._members].prod(axis=1))
        if removal is not None:
            alive = self._channels.alive(removal)
            for slot, table in self.irregular.items():
                lengths[slot] = int(alive[table].all(axis=1).sum())
        return lengths

    def shortened(self, full: Array, orders: Sequence[Array]) -> tuple[Array, Array, Array]:
        """What each group shortens when all of its units but the last one to go do: groups, slots, and by how much.

        Both ascend: groups, and the slots of each.
        """
        sizes = np.append(full, 1)
        term, column = np.nonzero(self._members < len(full))
        group = self._members[term, column]
        whole = (self._times * sizes[self._members].prod(axis=1))[term]
        gone = whole // sizes[group] * (sizes[group] - 1)
        count = len(self._constant)
        odd: list[tuple[int, int]] = []
        for slot, table in self.irregular.items():
            for number in ascending(self._channels.group_of[table].ravel()).tolist():
                if number >= 0:
                    alive = self._channels.alive({number: orders[number][:-1]})
                    odd.append((number * count + slot, int((~alive[table].all(axis=1)).sum())))
        pairs = np.array(odd, np.int64).reshape(-1, 2)
        keys = np.concatenate([group * count + self._slots[term], pairs[:, 0]])
        first, which = ranked(keys)
        lost = np.zeros(len(first), np.int64)
        np.add.at(lost, which, np.concatenate([gone, pairs[:, 1]]))
        return *np.divmod(keys[first], count), lost

    def by_place(self, lengths: Array) -> dict[Place, int]:
        """Lengths by slot as those of each axis."""
        listed = lengths.tolist()
        return {place: listed[slot] for place, slot in self._slot.items()}

    def of_removal(self, removal: Mapping[int, Array]) -> Array:
        """Lengths by slot, counted index by index."""
        alive = self._channels.alive(removal)
        lengths = self._constant.copy()
        for slot, table in zip(self._table_slots, self._tables, strict=True):
            lengths[slot] = int(alive[table].all(axis=1).sum())
        return lengths
