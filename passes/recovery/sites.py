"""Where a network is repaired: its linear operators, front to back, and what each is fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.channels.model import Channels
from amcc.passes.recovery.affine import Tail, tail
from amcc.passes.recovery.linear import Cut, Linear, cut, linears
from amcc.passes.recovery.schedule import ancestors, front_to_back


@dataclass(frozen=True, slots=True)
class Site:
    """A linear operator of the original network.

    Attributes:
        target: the value that is fitted: what the affine nodes behind the operator give, or the sum that
            this goes into.
        other: what is added in that sum, "" when the target is none.
        limits: all that reads the target clips it to them.
    """

    linear: Linear
    target: str
    other: str
    limits: tuple[float, float]

    @property
    def name(self) -> str:
        """The node's name."""
        return self.linear.node.name


@dataclass(frozen=True, slots=True)
class Bound:
    """A site in a shrunk network.

    Attributes:
        linear: the operator there, and `stays` what the removal leaves of the original.
        tail: the affine nodes behind it.
    """

    site: Site
    linear: Linear
    stays: Cut
    tail: Tail

    @property
    def fits_offset(self) -> bool:
        """Whether an offset can be stored."""
        return bool(self.linear.bias or self.tail.holder)


def sites(graph: Graph) -> list[Site]:
    """Every linear operator with a weight of its own, in the order of repair.

    A sum is the target only of the branch that is repaired last: what it is added to is final by then.
    """
    found = linears(graph)
    repaired: set[str] = set()
    result = []
    for node in front_to_back(graph):
        if node.name not in found:
            continue
        linear = found[node.name]
        behind = tail(graph, linear)
        target, other = behind.end, behind.other
        if other and not ancestors(graph, other, found) <= repaired:
            target, other = linear.y, ""
        result.append(Site(linear, target, other, _limits(graph, target)))
        repaired.add(node.name)
    return result


def _limits(graph: Graph, value: str) -> tuple[float, float]:
    """What all readers of a value clip it to."""
    readers = graph.consumers.get(value, ())
    if value in graph.outputs or not readers:
        return -np.inf, np.inf
    lows, highs = zip(*(_clip(graph, reader, value) for reader in readers), strict=True)
    return min(lows), max(highs)


def _clip(graph: Graph, node: Node, value: str) -> tuple[float, float]:
    if node.op == "Relu":
        return 0.0, np.inf
    if node.op != "Clip" or node.inputs.count(value) != 1 or node.inputs[0] != value:
        return -np.inf, np.inf
    ends = []
    for number, (name, unlimited) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = graph.params.get(node.input(number))
        if node.input(number) and given is None:
            return -np.inf, np.inf
        ends.append(
            float(given.reshape(-1)[0]) if given is not None else cast(float, node.attributes.get(name, unlimited))
        )
    return ends[0], ends[1]


def bind(
    channels: Channels, shrunk: Graph, found: list[Site], kept: dict[tuple[str, int], Array]
) -> Mapping[str, Bound]:
    """The sites that can be repaired in a shrunk network, by name.

    Left out are those that are gone, those whose sum keeps other channels than their output, and those that lose
    positions as well as channels: their rows are no longer those of the original.
    """
    left = linears(shrunk)
    result = {}
    for site in found:
        if site.name not in left:
            continue
        axis = site.linear.y_axis
        own, whole = kept.get((site.linear.y, axis)), kept.get((site.target, axis))
        if not _equal(own, whole) or _loses_positions(channels.graph, site, kept):
            continue
        linear = left[site.name]
        behind = tail(shrunk, linear)
        if site.target != site.linear.y and (behind.end, behind.other) != (site.target, site.other):
            continue
        result[site.name] = Bound(site, linear, cut(channels, site.linear, kept), behind)
    return result


def _loses_positions(graph: Graph, site: Site, kept: Mapping[tuple[str, int], Array]) -> bool:
    """Whether heads, tokens or channels go from an axis along which the operator is repeated."""
    places = (
        (site.linear.x, site.linear.x_axis),
        (site.linear.y, site.linear.y_axis),
        (site.target, site.linear.y_axis),
    )
    return any((name, a) in kept for name, along in places for a in range(len(graph.shape(name))) if a != along)


def _equal(first: Array | None, second: Array | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)
