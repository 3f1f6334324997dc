"""What a network costs, before and after a cut, in exact integers.

MACs are multiply-accumulates of convolutions and matrix products, one MAC one FLOP as AMC counts them
(He et al. 2018, section 3.2), for one sample: of both sides of a condition, and of every step of a loop, as far as
the number of steps is known. `params` counts the elements of trained parameters, floats or
quantised, and `size` their bytes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from amcc.budget import Costs
from amcc.ir import Array, Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.integers import is_weight, stored_bits
from amcc.passes.ragged import Ragged, ascending, distinct, ranked, runs
from amcc.passes.regions import repeats
from amcc.passes.rules import rule_of
from amcc.passes.rules.rule import Monomial, Place

if TYPE_CHECKING:
    from amcc.passes.channels.model import Channels, Removal


def node_macs(graph: Graph) -> dict[str, int]:
    """MACs of each node for one sample, by node name."""
    return {node.name: sum(_value(graph, m) for m in monomials) for node, monomials in _macs(graph)}


def parameter_count(graph: Graph) -> int:
    """Elements of all trained parameters."""
    return sum(array.size for name, array in graph.params.items() if is_weight(graph, name))


def weight_bytes(graph: Graph) -> int:
    """Bytes of all trained parameters."""
    return sum(-(-a.size * stored_bits(a) // 8) for name, a in graph.params.items() if is_weight(graph, name))


def peak_activations(graph: Graph) -> int:
    """Bytes of the tensors alive at the worst moment, for one sample, when nodes run in order."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.reads}
    last.update((name, len(graph.nodes)) for name in graph.outputs)
    alive = {name: _bytes(graph, name) for name in graph.inputs}
    peak = sum(alive.values())
    for i, node in enumerate(graph.nodes):
        alive.update((name, _bytes(graph, name)) for name in node.outputs if name)
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > i}
    return peak


def _bytes(graph: Graph, name: str) -> int:
    value = graph.values[name]
    if value.shape is None or not value.dtype:
        return 0
    import ml_dtypes  # noqa: F401  (registers bfloat16 and its kin with numpy)

    return int(np.prod([per_sample(d) for d in value.shape], dtype=np.int64)) * np.dtype(value.dtype).itemsize


def _macs(graph: Graph) -> list[tuple[Node, tuple[Monomial, ...]]]:
    unknown = graph.unranked
    known = [n for n in graph.nodes if not unknown or unknown.isdisjoint((*n.reads, *n.outputs[:1]))]
    found = [(node, monomials) for node in known if (monomials := rule_of(node).macs(graph, node))]
    times = repeats(graph)
    if not times:
        return found
    return [(n, tuple(Monomial(m.coefficient * times[n.name], m.axes) for m in each)) for n, each in found]


def _value(graph: Graph, monomial: Monomial) -> int:
    total = monomial.coefficient
    for name, axis in monomial.axes:
        total *= per_sample(graph.shape(name)[axis])
    return total


class CostModel:
    """Costs of any plan of one network, without building it.

    An axis of `n` indices that groups a, b, ... cut in a full grid has length `constant + sum of
    multiplicity * keep[a] * keep[b]`; costs are sums of products of such lengths. Where an axis is no
    such grid, its length depends on which units stay, so removal orders are needed (`orders`).

    Attributes:
        full: `[groups]` int64, the keep that removes nothing.
        monomials: what the MACs of all nodes are sums of.
    """

    def __init__(self, channels: Channels, orders: Sequence[Array] | None = None) -> None:
        self.channels = channels
        self.full = np.array([group.size for group in channels.groups], np.int64)
        self._orders = orders if orders is not None else [np.arange(g.size)[::-1] for g in channels.groups]
        graph = channels.graph
        nodes = _macs(graph)
        self._nodes = [node.name for node, _ in nodes]
        macs = [(i, m) for i, (_, monomials) in enumerate(nodes) for m in monomials]
        self.monomials = tuple(m for _, m in macs)
        params = [(n, a) for n, a in graph.params.items() if is_weight(graph, n)]
        monomials = [m for _, m in macs] + [Monomial(1, tuple((n, x) for x in range(a.ndim))) for n, a in params]
        self._lengths = _Lengths(channels, [place for m in monomials for place in m.axes])
        self._terms = self._lengths.compile(monomials)
        self._owner = np.array([i for i, _ in macs], np.int64)
        self._bits = np.array([stored_bits(a) for _, a in params], np.int64)

    @property
    def regular(self) -> bool:
        """Whether costs follow from how many units stay alone, whichever they are."""
        return not self._lengths.irregular

    def costs(self, keep: Sequence[int] | Array) -> Costs:
        """All costs of leaving `keep[g]` units of each group."""
        values = self._evaluate(self._lengths.of_keep(np.asarray(keep, np.int64), self._removal(keep)))
        return self._sum(values)

    def of_removal(self, removal: Removal) -> Costs:
        """All costs of a plan, from its exact units."""
        return self._sum(self._evaluate(self._lengths.of_removal(removal)))

    def macs(self, keep: Sequence[int] | Array) -> int:
        """MACs of leaving `keep[g]` units of each group."""
        return self.costs(keep).flops

    def params(self, keep: Sequence[int] | Array) -> int:
        """Parameters of leaving `keep[g]` units of each group."""
        return self.costs(keep).params

    def size(self, keep: Sequence[int] | Array) -> int:
        """Bytes of weights of leaving `keep[g]` units of each group."""
        return self.costs(keep).size

    def node_macs(self, removal: Removal) -> dict[str, int]:
        """MACs of each node under a plan, by node name."""
        values = self._evaluate(self._lengths.of_removal(removal))[: len(self._owner)]
        totals = np.zeros(len(self._nodes), np.int64)
        np.add.at(totals, self._owner, values)
        return dict(zip(self._nodes, totals.tolist(), strict=True))

    def lengths(self, removal: Removal) -> dict[Place, int]:
        """How long a plan leaves every axis that costs are proportional to."""
        return self._lengths.by_place(self._lengths.of_removal(removal))

    def by_group(self) -> list[int]:
        """For each group the MACs that go when a single unit of it stays and all other groups are whole."""
        coefficient, places = (part[: len(self._owner)] for part in self._terms)
        lengths = self._lengths.of_keep(self.full, self._removal(self.full))
        values = coefficient * lengths[places].prod(axis=1)
        group, slot, lost = self._lengths.shortened(self.full, self._orders)
        order = np.argsort(places.ravel(), kind="stable")
        bounds = np.searchsorted(places.ravel()[order], np.arange(len(lengths) + 1))
        readers = Ragged(bounds, order // places.shape[1]).take(slot)  # for each axis that gets shorter, the monomials
        owner, touched = np.divmod(ascending(group[readers.row] * len(values) + readers.items), len(values))
        known, asked = group * len(lengths) + slot, owner[:, None] * len(lengths) + places[touched]
        at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        left = lengths[places[touched]] - np.where(known[at] == asked, lost[at], 0)
        found = np.zeros(len(self.full), np.int64)
        np.add.at(found, owner, values[touched] - coefficient[touched] * left.prod(axis=1))
        return found.tolist()

    @cached_property
    def original(self) -> Costs:
        """Costs of the network as it is."""
        return self.of_removal({})

    def _removal(self, keep: Sequence[int] | Array) -> Removal | None:
        return self.channels.removal(keep, self._orders) if self._lengths.irregular else None

    def _evaluate(self, lengths: Array) -> Array:
        coefficient, places = self._terms
        result: Array = coefficient * lengths[places].prod(axis=1)
        return result

    def _sum(self, values: Array) -> Costs:
        macs, params = values[: len(self._owner)], values[len(self._owner) :]
        return Costs(int(macs.sum()), int(params.sum()), int((-(-params * self._bits // 8)).sum()))


class _Lengths:
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
