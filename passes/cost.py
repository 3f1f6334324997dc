"""What a network costs, before and after a cut, in exact integers.

MACs are multiply-accumulates of convolutions and matrix products, one MAC one FLOP as AMC counts them
(He et al. 2018, section 3.2), for one sample: of both sides of a condition, and of every step of a loop, as far as
the number of steps is known. `params` counts the elements of trained parameters, floats or
quantised, and `size` their bytes. Memory is `amcc.passes.memory`'s,
latency what a device was measured to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from amcc.budget import Costs
from amcc.ir import Array, Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.integers import is_weight, stored_bits
from amcc.passes.lengths import Lengths
from amcc.passes.memory import Alive, peak_activations
from amcc.passes.ragged import Ragged, ascending
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


ONE = 1 << 20
"""One nanosecond in the coefficients of a `Pace`."""


@dataclass(frozen=True)
class Pace:
    """What a device takes: `whole` nanoseconds, less `scale` times what the terms lose under a plan.

    Attributes:
        terms: with coefficients in 2^-20 ns, none negative.
        whole: nanoseconds of the network as it is.
        scale: in 2^-20, not negative.
    """

    terms: tuple[Monomial, ...]
    whole: int
    scale: int = ONE


class CostModel:
    """Costs of any plan of one network, without building it.

    Costs are sums of products of lengths of axes (`amcc.passes.lengths`). Where some of these depend on which units
    stay, removal orders are needed (`orders`).

    Args:
        memory: also count the peak of activations, which is 0 otherwise.
        pace: also give the latency, which is 0 otherwise.

    Attributes:
        full: `[groups]` int64, the keep that removes nothing.
        monomials: what the MACs of all nodes are sums of.
    """

    def __init__(
        self,
        channels: Channels,
        orders: Sequence[Array] | None = None,
        *,
        memory: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.channels = channels
        self.full = np.array([group.size for group in channels.groups], np.int64)
        self._orders = orders if orders is not None else [np.arange(g.size)[::-1] for g in channels.groups]
        graph = channels.graph
        nodes = _macs(graph)
        self._nodes = [node.name for node, _ in nodes]
        macs = [(i, m) for i, (_, monomials) in enumerate(nodes) for m in monomials]
        self.monomials = tuple(m for _, m in macs)
        params = [(n, a) for n, a in graph.params.items() if is_weight(graph, n)]
        counted = [Monomial(1, tuple((n, x) for x in range(a.ndim))) for n, a in params]
        self._alive = Alive(channels) if memory else None
        alive = self._alive.tensors if self._alive is not None else ()
        self._pace = pace
        monomials = [*self.monomials, *counted, *alive, *(pace.terms if pace is not None else ())]
        self._ends = len(macs), len(macs) + len(params), len(macs) + len(params) + len(alive)
        self._lengths = Lengths(channels, [place for m in monomials for place in m.axes])
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
        """All costs of a plan, from its exact units; memory from the very graph that it leaves."""
        found = self._sum(self._evaluate(self._lengths.of_removal(removal)))
        if self._alive is None:
            return found
        from amcc.passes.rewrite import shrink

        return replace(found, memory=peak_activations(shrink(self.channels, removal)))

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
        macs, params, alive = self._ends
        counts = values[macs:params]
        size = int((-(-counts * self._bits // 8)).sum())
        memory = 0 if self._alive is None else self._alive.peak(values[params:alive])
        latency = 0 if self._pace is None else self._latency(self._pace, int(values[alive:].sum()))
        return Costs(int(values[:macs].sum()), int(counts.sum()), size, memory, latency)

    def _latency(self, pace: Pace, total: int) -> int:
        saved = pace.scale * (self._paced - total) // ONE**2
        return max(1, pace.whole - saved)

    @cached_property
    def _paced(self) -> int:
        """What the terms of the pace come to in the whole network."""
        return int(self._evaluate(self._lengths.of_removal({}))[self._ends[2] :].sum())
