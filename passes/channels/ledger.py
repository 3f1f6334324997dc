"""The ledger: every lock once, with what it freezes and the MACs that it keeps out of reach.

A lock is charged for what is left of the network when a single unit of each group stays: for the
multiply-accumulates there that an index frozen by it takes part in. Two locks can hold the same one, so that charges
do not add up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from amcc.ir import Array
from amcc.passes.channels.cutsets import Solution
from amcc.passes.channels.model import Channels, Lock, Obstacle
from amcc.passes.channels.relation import Reason, Relation
from amcc.passes.cost import CostModel
from amcc.passes.rules.rule import Place

Frozen = Mapping[Place, int]
"""How many indices of each axis are frozen."""


def write_ledger(channels: Channels, relation: Relation, solution: Solution) -> Channels:
    """The analysis with its ledger, and each group with the MACs that it holds."""
    model = CostModel(channels)
    rest = _Rest(channels, model)
    by_reason: dict[Reason, list[Frozen]] = {}
    for tag, part in sorted(_frozen(channels, relation, solution, rest.places).items()):
        by_reason.setdefault(relation.reasons[tag], []).append(part)
    ledger: list[Lock] = []
    by_cause: dict[tuple[str, str], list[Frozen]] = {}
    params = channels.graph.params
    for reason, parts in by_reason.items():
        whole = _sum(parts)
        if frozen := tuple(place for place in whole if place[0] in params):
            lock = Lock(reason.value, reason.axis, reason.node, reason.op, reason.text, frozen, rest.macs(whole))
            ledger.append(lock)
            by_cause.setdefault((lock.op, lock.reason), []).append(whole)
    obstacles = []
    for (op, text), parts in by_cause.items():
        whole = _sum(parts)
        axes = sum(value in params for value, _ in whole)
        obstacles.append(Obstacle(op, text, len(parts), axes, rest.macs(whole)))
    obstacles.sort(key=lambda obstacle: -obstacle.macs)
    groups = tuple(
        dataclasses.replace(group, macs=macs) for group, macs in zip(channels.groups, model.by_group(), strict=True)
    )
    return dataclasses.replace(channels, groups=groups, ledger=tuple(ledger), obstacles=tuple(obstacles))


def _frozen(
    channels: Channels, relation: Relation, solution: Solution, places: Iterable[Place]
) -> dict[int, dict[Place, int]]:
    """By the tag of a lock what it freezes of parameters, and of the other axes that MACs are proportional to."""
    graph = relation.graph
    params = ((name, axis) for name in relation.axes if name in graph.params for axis in range(relation.rank(name)))
    free: dict[int, bool] = {}  # by table of units, whether every index can go
    held: dict[Place, Array] = {}
    for value, axis in dict.fromkeys((*params, *places)):
        table = channels.axes.get((value, axis))
        if table is not None and id(table) not in free:
            free[id(table)] = bool((table[:, 0] < channels.units).all())
        cuts = relation.axes[value][axis] if value in relation.axes else None
        if cuts is not None and (table is None or not free[id(table)]):
            held[value, axis] = cuts
    found: dict[int, dict[Place, int]] = {}
    for place, counts in zip(held, solution.frozen(list(held.values())), strict=True):
        for tag, count in counts.items():
            found.setdefault(tag, {})[place] = count
    return found


def _sum(parts: Iterable[Frozen]) -> dict[Place, int]:
    total: dict[Place, int] = {}
    for part in parts:
        for place, count in part.items():
            total[place] = total.get(place, 0) + count
    return total


class _Rest:
    """The network that is left when a single unit of each group stays.

    Attributes:
        places: the axes that MACs are proportional to.
    """

    def __init__(self, channels: Channels, model: CostModel) -> None:
        self._length = model.lengths({group.index: np.arange(1, group.size) for group in channels.groups})
        self._monomials = model.monomials
        self._holders: dict[Place, list[int]] = {}
        for number, monomial in enumerate(self._monomials):
            for place in dict.fromkeys(monomial.axes):
                self._holders.setdefault(place, []).append(number)
        self.places = tuple(self._holders)

    def macs(self, frozen: Frozen) -> int:
        """The MACs that a frozen index takes part in."""
        touched = {number for place in frozen for number in self._holders.get(place, ())}
        total = 0
        for monomial in (self._monomials[number] for number in touched):
            whole = free = monomial.coefficient
            for place in monomial.axes:
                length = self._length[place]
                whole *= length
                free *= max(length - frozen.get(place, 0), 0)
            total += whole - free
        return total
