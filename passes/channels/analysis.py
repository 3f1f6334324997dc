"""From a graph to its groups of units.

Rules write down how operators relate cut sets (`Relation`), the equations are solved (`CutSets.solve`),
what is left free are units, and units with the same footprint - the same axes of the same tensors -
form a group.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from amcc.errors import UsageError
from amcc.ir import Array, Graph
from amcc.passes.channels.ledger import write_ledger
from amcc.passes.channels.model import Approximation, Channels, Contraction, Group, Slice
from amcc.passes.channels.relation import Reason, Relation
from amcc.passes.channels.solution import Solution
from amcc.passes.channels.units import Units, find_units
from amcc.passes.ragged import runs
from amcc.passes.rules import UNKNOWN, rule_of


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
    units = find_units(graph, relation, solution)
    contractions = tuple(
        Contraction(node.name, operand, axis)
        for node in graph.nodes
        if not graph.unranked or graph.unranked.isdisjoint((*node.reads, *node.outputs))
        for operand, axis in rule_of(node).contracts(graph, node)
        if (node.inputs[operand], axis) in units.axes
    )
    approximations = _approximations(relation, solution, units)
    inexact = {number for approximation in approximations for number in approximation.groups}
    channels = Channels(graph, _groups(graph, units, inexact), (), units.axes, contractions, approximations)
    return write_ledger(channels, relation, solution)


def relate(graph: Graph, locked: Collection[str] = (), *, exact: bool = False) -> Relation:
    """Let every node's rule speak; inputs, outputs and what the user locks stay whole."""
    relation = Relation(graph, exact=exact)
    for name in graph.inputs:
        if graph.values[name].shape is not None:
            relation.axes[name] = [relation.fresh(dim) for dim in graph.shape(name)]
            _hold(relation, name, "graph input")
    unranked = {name for name in graph.unranked if name in graph.consumers or name in graph.outputs}
    for node in graph.nodes:
        rule = rule_of(node)
        relation.enter(node, rule)
        if rule is not UNKNOWN and unranked and not unranked.isdisjoint((*node.reads, *node.outputs)):
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


def _groups(graph: Graph, units: Units, inexact: Collection[int]) -> tuple[Group, ...]:
    starts = [0, *itertools.accumulate(units.sizes)]
    group_of = np.repeat(np.arange(len(units.sizes)), units.sizes)
    slices: list[list[Slice]] = [[] for _ in units.sizes]
    found: dict[int, list[tuple[int, Array, Array]]] = {}  # by table: group, indices, bounds of units
    for (value, axis), rows in units.axes.items():
        if value not in graph.params:
            continue
        if id(rows) not in found:
            found[id(rows)] = list(_by_group(rows, starts, group_of))
        for number, flat, bounds in found[id(rows)]:
            slices[number].append(Slice(value, axis, flat, bounds))
    names = _names([s[0] for s in slices])
    return tuple(
        Group(number, names[number], size, tuple(slices[number]), starts[number], inexact=number in inexact)
        for number, size in enumerate(units.sizes)
    )


def _by_group(rows: Array, starts: Sequence[int], group_of: Array) -> Iterator[tuple[int, Array, Array]]:
    """Each group on an axis, its units' indices, and where those of each unit begin and end."""
    index, column = np.nonzero(rows < starts[-1])
    unit = rows[index, column]
    by_unit = unit.argsort(kind="stable")
    index, unit = index[by_unit], unit[by_unit]
    group = group_of[unit]
    for start, end in itertools.pairwise(runs(group).tolist()):
        number = int(group[start])
        bounds = unit[start:end].searchsorted(np.arange(starts[number], starts[number + 1] + 1))
        yield number, index[start:end], bounds


def _approximations(relation: Relation, solution: Solution, units: Units) -> tuple[Approximation, ...]:
    """What rules called inexact, where units are free there."""
    if not relation.approximations:
        return ()
    axes = {id(cuts): cuts for cuts, _ in relation.approximations}
    tables = solution.tables(list(axes.values()))
    groups = {key: units.groups_of(table).tolist() for key, table in zip(axes, tables, strict=True)}
    found: dict[Reason, dict[int, None]] = {}
    for cuts, reason in relation.approximations:
        if groups[id(cuts)]:
            found.setdefault(reason, {}).update(dict.fromkeys(groups[id(cuts)]))
    return tuple(Approximation(r.value, r.axis, r.node, r.op, r.text, tuple(sorted(g))) for r, g in found.items())


def _names(firsts: Sequence[Slice]) -> list[str]:
    """A group is called by the first parameter it cuts; a second one there by its axis and a number too."""
    names: dict[str, None] = {}
    for piece in firsts:
        name, again = piece.param, 2
        while name in names:
            name, again = f"{piece.param}:{again}", again + 1
        names[name] = None
    return list(names)


__all__ = ["Reason", "analyze", "relate"]
