"""From a solution to units in groups: units with the same footprint, the same axes of the same tensors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.channels.relation import Relation
from amcc.passes.channels.solution import Solution
from amcc.passes.channels.survivors import last_index
from amcc.passes.ragged import ascending, distinct, ranked, runs, scattered
from amcc.passes.rules.rule import Place


@dataclass(frozen=True)
class Units:
    """The units of a network, numbered group by group.

    Attributes:
        sizes: how many units each group has; groups in the order in which they first appear.
        axes: see `Channels.axes`.
        group_of: by number of the solution, the group of a unit; -1 for what is none, and for all that is beyond.
    """

    sizes: tuple[int, ...]
    axes: Mapping[Place, Array]
    group_of: Array

    def groups_of(self, units: Array) -> Array:
        """The groups of some units of the solution, ascending; units that are no choice are in none."""
        groups = ascending(self.group_of[np.minimum(units.ravel(), len(self.group_of) - 1)])
        return groups[groups >= 0]


def find_units(graph: Graph, relation: Relation, solution: Solution) -> Units:
    """What may go, without the units that stay lest nothing be left of a group or of an axis."""
    tables, held = _unit_tables(relation, solution), np.zeros(0, np.int64)
    while True:
        found, used = _in_use(graph, tables, held)
        order, sizes = _footprints(used, len(found))
        numbers = np.full(len(found) + 1, len(order))
        numbers[order] = np.arange(len(order))
        axes = _renumbered(used, numbers, len(order))
        stay = _singles(graph, axes, sizes)
        why = "alone of its kind, and one of each stays"
        if not stay and (last := last_index(axes, sizes)) is not None:
            place, index = last
            stay = [(unit, place) for unit in axes[place][index].tolist() if unit < len(order)]
            why = "the last index of an axis that units cut in no regular way"
        if not stay:
            group_of = np.full(int(found.max(initial=-1)) + 2, -1)
            group_of[found[order]] = np.repeat(np.arange(len(sizes)), sizes)
            return Units(tuple(sizes), axes, group_of)
        for unit, place in stay:
            held = np.append(held, found[order[unit]])
            relation.hold(solution, held[-1:], place, why)


@dataclass(frozen=True)
class _Tables:
    """For each axis which units its indices go with; all axes end to end, for numpy to take in one step.

    Attributes:
        of: the number of each axis' table; equal axes share one. Tables are numbered as axes first have them.
        shapes: `(n, k)` of each table.
        cells: `[sum of n * k]` units, row by row.
    """

    of: Mapping[Place, int]
    shapes: tuple[tuple[int, ...], ...]
    cells: Array

    @cached_property
    def sizes(self) -> list[int]:
        """How many cells each table has."""
        return [n * k for n, k in self.shapes]

    def split(self, cells: Array) -> list[Array]:
        """Numbers by cell as `[n, k]` tables."""
        ends = itertools.accumulate(self.sizes, initial=0)
        return [cells[a:b].reshape(shape) for (a, b), shape in zip(itertools.pairwise(ends), self.shapes, strict=True)]


def _unit_tables(relation: Relation, solution: Solution) -> _Tables:
    """The free atoms of each labelled axis, -1 filling."""
    by_cuts: dict[bytes, Array] = {}
    axes: dict[Place, Array] = {}
    for value, every in relation.axes.items():
        for axis, cuts in enumerate(every):
            if cuts is not None:
                axes[value, axis] = by_cuts.setdefault(cuts.tobytes(), cuts)
    known: dict[tuple[tuple[int, ...], bytes], int] = {}
    tables: list[Array] = []
    number: dict[int, int] = {}
    for cuts, table in zip(by_cuts.values(), solution.tables(list(by_cuts.values())), strict=True):
        number[id(cuts)] = known.setdefault((table.shape, table.tobytes()), len(tables))
        if len(known) > len(tables):
            tables.append(table)
    of = {place: number[id(cuts)] for place, cuts in axes.items()}
    cells = np.concatenate([np.zeros(0, np.int64), *(table.ravel() for table in tables)])
    return _Tables(of, tuple(table.shape for table in tables), cells)


def _in_use(graph: Graph, tables: _Tables, held: Array) -> tuple[Array, _Tables]:
    """Units that cut a parameter and are not held, numbered densely; one that cuts none is no choice, and stays."""
    cutting = np.zeros(len(tables.shapes), bool)
    cutting[[number for (value, _), number in tables.of.items() if value in graph.params]] = True
    chosen = np.zeros(int(tables.cells.max(initial=-1)) + 2, bool)
    chosen[tables.cells[np.repeat(cutting, tables.sizes)]] = True
    chosen[held] = chosen[-1] = False  # the last one is the filler's
    units = np.flatnonzero(chosen)
    numbers = np.full(len(chosen), len(units))
    numbers[units] = np.arange(len(units))
    cells = numbers[tables.cells]
    free = [bool(np.count_nonzero(table < len(units))) for table in tables.split(cells)]
    used = {place: number for place, number in tables.of.items() if free[number]}
    return units, _Tables(used, tables.shapes, cells)


def _footprints(tables: _Tables, count: int) -> tuple[Array, list[int]]:
    """Units sorted by group, groups by where they first appear; and the size of each group.

    A footprint is hashed: every axis adds a number of its own, times how many of its indices the unit cuts.
    """
    table = np.repeat(np.arange(len(tables.shapes)), tables.sizes)
    first = np.full(count + 1, len(tables.shapes))
    np.minimum.at(first, tables.cells, table)
    first = first[:count]
    halves = []
    for summand in scattered(2 * len(tables.shapes)).reshape(2, -1):
        signature = np.zeros(count + 1, np.uint64)
        np.add.at(signature, tables.cells, summand[table])
        halves.append(ranked(signature[:count])[1])
    _, group = distinct(np.stack(halves, 1))
    lowest, group = ranked(_told_apart(group, tables))
    order = np.lexsort((np.arange(count), lowest[group], first))
    return order, np.diff(runs(group[order])).tolist()


def _told_apart(group: Array, tables: _Tables) -> Array:
    """Units that meet in an index, rows and columns of a square grid, are of two groups: each must keep one."""
    column = np.zeros(len(group), np.int64)
    for table in tables.split(tables.cells):
        if table.shape[1] == 1:
            continue
        inside = table < len(group)
        groups = np.where(inside, np.append(group, -1)[np.minimum(table, len(group))], -1 - np.arange(table.shape[1]))
        ordered = np.sort(groups, axis=1)
        if not (ordered[:, 1:] == ordered[:, :-1]).any():
            continue
        meeting = (groups[:, :, None] == groups[:, None, :]).sum(axis=2) > 1
        row, position = np.nonzero(meeting)
        np.maximum.at(column, table[row, position], position)
    if not column.any():
        return group
    return distinct(np.stack([group, column], 1))[1]


def _singles(graph: Graph, axes: Mapping[Place, Array], sizes: Sequence[int]) -> list[tuple[int, Place]]:
    """The units of groups that have no other, each with the first parameter axis that it cuts."""
    alone = np.append(np.repeat(np.asarray(sizes, np.int64) == 1, sizes), False)
    found: dict[int, Place] = {}
    for place, rows in axes.items() if alone.any() else ():
        if place[0] in graph.params:
            for unit in np.unique(rows[alone[rows]]).tolist():
                found.setdefault(unit, place)
    return sorted(found.items())


def _renumbered(tables: _Tables, numbers: Array, count: int) -> dict[Place, Array]:
    renamed = tables.split(numbers[tables.cells])
    for position, table in enumerate(renamed):
        if table.shape[1] > 1:
            table = np.sort(table, axis=1)
            renamed[position] = table[:, : max(1, int((table < count).sum(axis=1).max(initial=0)))]
        renamed[position].flags.writeable = False
    return {place: renamed[number] for place, number in tables.of.items()}
