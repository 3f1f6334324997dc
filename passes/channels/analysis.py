"""From a graph to its groups of units.

Rules write down how operators relate cut sets (`Relation`), the equations are solved (`CutSets.solve`),
what is left free are units, and units with the same footprint - the same axes of the same tensors -
form a group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from amcc.errors import UsageError
from amcc.ir import Array, Graph
from amcc.passes.channels.cutsets import Solution
from amcc.passes.channels.ledger import write_ledger
from amcc.passes.channels.model import Approximation, Channels, Contraction, Group, Slice
from amcc.passes.channels.relation import Reason, Relation
from amcc.passes.channels.survivors import last_index
from amcc.passes.ragged import among, ascending, distinct
from amcc.passes.rules import UNKNOWN, rule_of
from amcc.passes.rules.rule import Place


def analyze(graph: Graph, *, locked: Collection[str] = (), exact: bool = False) -> Channels:
    """Find every group of units of a network.

    Args:
        graph: with every shape known (`amcc.passes.shapes.infer`).
        locked: names of parameters, nodes or values whose channels must all stay.
        exact: lock every axis whose units cannot go without changing what other channels hold.

    Raises:
        UsageError: a name in `locked` that the graph does not have.
    """
    relation = relate(graph, locked, exact=exact)
    solution = relation.cuts.solve()
    all_tables, held = _unit_tables(relation, solution), np.zeros(0, np.int64)
    while True:
        roots, tables = _in_use(graph, all_tables, held)
        order, sizes = _footprints(tables, len(roots))
        renumber = np.full(len(roots) + 1, len(order))
        renumber[order] = np.arange(len(order))
        axes = _renumbered(tables, renumber, len(order))
        stay = _singles(graph, axes, sizes)
        why = "alone of its kind, and one of each stays"
        if not stay and (last := last_index(axes, sizes)) is not None:
            place, index = last
            stay = [(unit, place) for unit in axes[place][index].tolist() if unit < len(order)]
            why = "the last index of an axis that units cut in no regular way"
        if not stay:
            break
        for unit, place in stay:
            held = np.append(held, roots[order[unit]])
            relation.hold(solution, held[-1:], place, why)
    groups = _groups(graph, axes, sizes)
    contractions = tuple(
        Contraction(node.name, operand, axis)
        for node in graph.nodes
        if all(graph.values[v].shape is not None for v in (*node.reads, *node.outputs) if v)
        for operand, axis in rule_of(node).contracts(graph, node)
        if (node.inputs[operand], axis) in axes
    )
    approximations = _approximations(relation, solution, roots, renumber, sizes)
    marked = {number for approximation in approximations for number in approximation.groups}
    groups = tuple(replace(group, inexact=group.index in marked) for group in groups)
    channels = Channels(graph, groups, (), axes, contractions, approximations)
    return write_ledger(channels, relation, solution)


def relate(graph: Graph, locked: Collection[str] = (), *, exact: bool = False) -> Relation:
    """Let every node's rule speak; inputs, outputs and what the user locks stay whole."""
    relation = Relation(graph, exact=exact)
    for name in graph.inputs:
        if graph.values[name].shape is not None:
            relation.axes[name] = [relation.fresh(dim) for dim in graph.shape(name)]
            _hold(relation, name, "graph input")
    for node in graph.nodes:
        relation.enter(node)
        rule = rule_of(node)
        used = (o for o in node.outputs if o in graph.consumers or o in graph.outputs)
        if rule is not UNKNOWN and any(graph.values[v].shape is None for v in (*node.reads, *used)):
            _carry_unranked(relation, node.reads, node.outputs)
        else:
            rule.relate(relation, node)
        relation.leave()
    for name in graph.outputs:
        _hold(relation, name, "graph output")
    _hold_locked(relation, locked)
    relation.finish()
    return relation


def _carry_unranked(relation: Relation, reads: Sequence[str], outputs: Sequence[str]) -> None:
    for value in reads:
        relation.lock_value(value, "a tensor of unknown rank is involved")
    for value in outputs:
        if value and (shape := relation.graph.values[value].shape) is not None:
            relation.set(value, [None] * len(shape))


def _hold(relation: Relation, name: str, why: str) -> None:
    for axis, cuts in enumerate(relation.axes.get(name, ())):
        relation.lock(cuts, (name, axis), why)


def _hold_locked(relation: Relation, locked: Collection[str]) -> None:
    graph = relation.graph
    nodes = {node.name: node for node in graph.nodes}
    for name in sorted(locked):
        if name in graph.values:
            places = [name]
        elif name in nodes:
            params = [i for i in nodes[name].inputs if i in graph.params]
            places = [*params, *(o for o in nodes[name].outputs if o)]
        else:
            import difflib

            close = difflib.get_close_matches(name, [*nodes, *graph.values], 3)
            hint = f"did you mean {', '.join(close)}?" if close else "amcc inspect lists all names"
            raise UsageError(f"there is no node, parameter or value '{name}' to lock", hint=hint)
        for place in places:
            _hold(relation, place, "locked by the user")


# -- units -------------------------------------------------------------------------------------------


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


def _groups(graph: Graph, axes: Mapping[Place, Array], sizes: Sequence[int]) -> tuple[Group, ...]:
    starts = np.cumsum([0, *sizes])
    slices: list[list[Slice]] = [[] for _ in sizes]
    found: dict[int, list[tuple[int, Array, Array]]] = {}  # by table: group, indices, bounds of units
    for (value, axis), rows in axes.items():
        if value not in graph.params:
            continue
        if id(rows) not in found:
            found[id(rows)] = list(_by_group(rows, starts))
        for number, flat, bounds in found[id(rows)]:
            slices[number].append(Slice(value, axis, flat, bounds))
    names = _names([s[0] for s in slices])
    return tuple(
        Group(number, names[number], size, tuple(slices[number]), int(starts[number]))
        for number, size in enumerate(sizes)
    )


def _by_group(rows: Array, starts: Array) -> Iterator[tuple[int, Array, Array]]:
    """Each group on an axis, its units' indices, and where those of each unit begin and end."""
    index, column = np.nonzero(rows < starts[-1])
    unit = rows[index, column]
    by_unit = np.argsort(unit, kind="stable")
    index, unit = index[by_unit], unit[by_unit]
    for number in np.unique(np.searchsorted(starts, unit, side="right") - 1).tolist():
        bounds = np.searchsorted(unit, np.arange(starts[number], starts[number + 1] + 1))
        yield number, index[bounds[0] : bounds[-1]], bounds - bounds[0]


def _approximations(
    relation: Relation, solution: Solution, roots: Array, renumber: Array, sizes: Sequence[int]
) -> tuple[Approximation, ...]:
    """What rules called inexact, where units are free there."""
    group_of = np.searchsorted(np.cumsum([0, *sizes]), renumber[: len(roots)], side="right") - 1
    known: dict[int, tuple[int, ...]] = {}
    found: dict[Reason, dict[int, None]] = {}
    for cuts, reason in relation.approximations:
        if id(cuts) not in known:
            units = np.unique(solution.table(cuts))
            units = units[np.isin(units, roots, assume_unique=True)]
            known[id(cuts)] = tuple(np.unique(group_of[np.searchsorted(roots, units)]).tolist())
        if known[id(cuts)]:
            found.setdefault(reason, {}).update(dict.fromkeys(known[id(cuts)]))
    return tuple(Approximation(r.value, r.axis, r.node, r.op, r.text, tuple(sorted(g))) for r, g in found.items())


def _names(firsts: Sequence[Slice]) -> list[str]:
    """A group is called by the first parameter it cuts; a second one there by its axis and a number too."""
    names: list[str] = []
    for piece in firsts:
        name, again = piece.param, 2
        while name in names:
            name, again = f"{piece.param}:{again}", again + 1
        names.append(name)
    return names


__all__ = ["Reason", "analyze", "relate"]
