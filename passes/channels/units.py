"""From a solution to units in groups: units with the same footprint, the same axes of the same tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.channels.relation import Relation
from amcc.passes.channels.solution import Solution
from amcc.passes.channels.survivors import last_index
from amcc.passes.ragged import among, ascending, distinct
from amcc.passes.rules.rule import Place


@dataclass(frozen=True)
class Units:
    """The units of a network, numbered group by group.

    Attributes:
        sizes: how many units each group has; groups in the order in which they first appear.
        axes: see `Channels.axes`.
        found: `[n]` numbers of the solution, ascending, and `numbers`, those of the same units here.
    """

    sizes: tuple[int, ...]
    axes: Mapping[Place, Array]
    found: Array
    numbers: Array

    def groups_of(self, units: Array) -> Array:
        """The groups of some units of the solution, ascending; units that are no choice are in none."""
        units = ascending(units.ravel())
        numbers = self.numbers[np.searchsorted(self.found, units[among(units, self.found)])]
        return ascending(np.searchsorted(np.cumsum(self.sizes), numbers, side="right"))


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
            return Units(tuple(sizes), axes, found, numbers[:-1])
        for unit, place in stay:
            held = np.append(held, found[order[unit]])
            relation.hold(solution, held[-1:], place, why)


def _unit_tables(relation: Relation, solution: Solution) -> dict[Place, Array]:
    """For each labelled axis `[n, k]` the free atoms of each index, -1 filling; equal axes share an array."""
    tables: dict[Place, Array] = {}
    by_cuts: dict[bytes, Array] = {}
    by_units: dict[tuple[tuple[int, ...], bytes], Array] = {}
    for value, axes in relation.axes.items():
        for axis, cuts in enumerate(axes):
            if cuts is None:
                continue
            key = cuts.tobytes()
            if key not in by_cuts:
                table = solution.table(cuts)
                by_cuts[key] = by_units.setdefault((table.shape, table.tobytes()), table)
            if by_cuts[key].size and (by_cuts[key] >= 0).any():
                tables[value, axis] = by_cuts[key]
    return tables


def _in_use(graph: Graph, tables: Mapping[Place, Array], held: Array) -> tuple[Array, dict[Place, Array]]:
    """Units that cut a parameter and are not held, numbered densely; one that cuts none is no choice, and stays."""
    cutting = {id(t): t.ravel() for (value, _), t in tables.items() if value in graph.params}
    roots = ascending(np.concatenate([held[:0], *cutting.values()]))
    roots = roots[(roots >= 0) & ~among(roots, ascending(held))]
    dense: dict[int, Array] = {}
    result: dict[Place, Array] = {}
    for place, table in tables.items():
        if id(table) not in dense:
            found = np.searchsorted(roots, table)
            known = (
                (found < len(roots)) & (roots[np.minimum(found, len(roots) - 1)] == table) if len(roots) else table < -1
            )
            dense[id(table)] = np.where(known, found, len(roots))
        if (dense[id(table)] < len(roots)).any():
            result[place] = dense[id(table)]
    return roots, result


def _footprints(tables: Mapping[Place, Array], count: int) -> tuple[Array, list[int]]:
    """Units sorted by group, groups by where they first appear; and the size of each group.

    A footprint is hashed: every axis adds a random number, times how many of its indices the unit cuts.
    """
    random = np.random.Generator(np.random.PCG64(0))
    signature = np.zeros((count + 1, 2), np.uint64)
    first = np.full(count + 1, len(tables))
    seen: set[int] = set()
    for position, table in enumerate(tables.values()):
        if id(table) in seen:
            continue
        seen.add(id(table))
        units, times = _counted(table, count)
        signature[units] += random.integers(1, 2**63, 2, np.uint64) * times[:, None].astype(np.uint64)
        first[units] = np.minimum(first[units], position)
    signature, first = signature[:count], first[:count]
    _, group = distinct(np.stack([np.unique(half, return_inverse=True)[1] for half in signature.T], 1))
    group = _told_apart(group, tables)
    start = np.full(group.max(initial=-1) + 1, len(tables))
    np.minimum.at(start, group, first)
    lowest = np.full(len(start), count)
    np.minimum.at(lowest, group, np.arange(count))
    order = np.lexsort((np.arange(count), lowest[group], start[group]))
    _, at, sizes = np.unique(group[order], return_index=True, return_counts=True)
    return order, sizes[np.argsort(at)].tolist()


def _counted(table: Array, count: int) -> tuple[Array, Array]:
    """The units of an axis, and on how many of its indices each is."""
    if count > 8 * table.size:
        return np.unique(table, return_counts=True)
    times = np.bincount(table.ravel())
    units = np.flatnonzero(times)
    return units, times[units]


def _told_apart(group: Array, tables: Mapping[Place, Array]) -> Array:
    """Units that meet in an index, rows and columns of a square grid, are of two groups: each must keep one."""
    column = np.zeros(len(group), np.int64)
    for table in {id(table): table for table in tables.values() if table.shape[1] > 1}.values():
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
    return np.asarray(np.unique(np.stack([group, column], 1), axis=0, return_inverse=True)[1]).ravel()


def _singles(graph: Graph, axes: Mapping[Place, Array], sizes: Sequence[int]) -> list[tuple[int, Place]]:
    """The units of groups that have no other, each with the first parameter axis that it cuts."""
    alone = np.append(np.repeat(np.asarray(sizes, np.int64) == 1, sizes), False)
    found: dict[int, Place] = {}
    for place, rows in axes.items() if alone.any() else ():
        if place[0] in graph.params:
            for unit in np.unique(rows[alone[rows]]).tolist():
                found.setdefault(unit, place)
    return sorted(found.items())


def _renumbered(tables: Mapping[Place, Array], renumber: Array, count: int) -> dict[Place, Array]:
    renamed: dict[int, Array] = {}
    axes: dict[Place, Array] = {}
    for place, table in tables.items():
        if id(table) not in renamed:
            rows = np.sort(renumber[table], axis=1)
            rows = rows[:, : max(1, int((rows < count).sum(axis=1).max(initial=0)))]
            rows.flags.writeable = False
            renamed[id(table)] = rows
        axes[place] = renamed[id(table)]
    return axes
