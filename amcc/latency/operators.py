"""What a network's time is a sum of: operators, and the lengths of axes that each one's time follows.

An operator without multiply-accumulates that leaves shapes as they are (an activation, an addition) counts as part of
the one in front, for runtimes join them: which of them a runtime joined does not matter then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.channels import Channels
from amcc.passes.cost import node_macs
from amcc.passes.lengths import Lengths
from amcc.passes.rules import rule_of
from amcc.passes.rules.rule import Monomial, Place


@dataclass(frozen=True)
class Operator:
    """One operator with what is joined to it.

    Attributes:
        value: the first output of its node.
        terms: products of axes, one of each length; () is the constant. Its time is taken to be a sum of them.
        groups: those that cut one of these axes.
    """

    value: str
    node: Node
    terms: tuple[tuple[Place, ...], ...]
    groups: frozenset[int]


class Operators:
    """The operators of a network.

    Attributes:
        listed: in topological order.
        owner: for each value the number of the operator that makes it.
        bounds: `[operators + 1]` where the terms of each begin.
    """

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        graph = channels.graph
        self.owner, makers = _owners(graph)
        self.listed = tuple(_operator(channels, node) for node in makers)
        self.bounds = np.cumsum([0, *(len(operator.terms) for operator in self.listed)])
        products = [Monomial(1, axes) for operator in self.listed for axes in operator.terms]
        self._lengths = Lengths(channels, [place for product in products for place in product.axes])
        self._terms = self._lengths.compile(products)
        self.whole = np.maximum(self._products(self._lengths.of_removal({})), 1)
        self._names = {node.name: self.owner[node.outputs[0]] for node in graph.nodes if node.outputs[0]}

    def shares(self, removal: dict[int, Array]) -> Array:
        """`[terms]` each term under a plan, as a share of what it is in the whole network."""
        return np.asarray(self._products(self._lengths.of_removal(removal)) / self.whole)

    def running(self, name: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> int | None:
        """The operator that a runtime's node is part of, by the names that survive its fusions; None if none does."""
        plain = name.removesuffix("_nchwc")
        for value in (*outputs, plain):
            if value in self.owner:
                return self.owner[value]
        if plain in self._names:
            return self._names[plain]
        return next((self.owner[value] for value in inputs if value in self.owner), None)

    def _products(self, lengths: Array) -> Array:
        return np.asarray(lengths[self._terms[1]].prod(axis=1))


def _owners(graph: Graph) -> tuple[dict[str, int], list[Node]]:
    """For each value the number of its operator, and the nodes that begin them."""
    macs, shapes = node_macs(graph), {name: value.shape for name, value in graph.values.items()}
    owner: dict[str, int] = {}
    makers: list[Node] = []
    for node in graph.nodes:
        outputs = [name for name in node.outputs if name]
        joins = [
            owner[name]
            for name in node.inputs
            if name in owner and outputs and shapes[name] is not None and shapes[name] == shapes[outputs[0]]
        ]
        if joins and not macs.get(node.name):
            number = max(joins, key=lambda one: (macs.get(makers[one].name, 0), one))
        else:
            number = len(makers)
            makers.append(node)
        owner.update(dict.fromkeys(outputs, number))
    return owner, makers


def _operator(channels: Channels, node: Node) -> Operator:
    graph = channels.graph
    value = next(filter(None, node.outputs))
    places: list[Place] = [(value, axis) for axis in range(graph.values[value].rank or 0)]
    if graph.unranked.isdisjoint(node.reads):
        places += [(node.inputs[number], axis) for number, axis in rule_of(node).contracts(graph, node)]
    tables = {id(channels.axes[place]): place for place in reversed(places) if place in channels.axes}
    cut = tuple(reversed(tables.values()))
    terms: list[tuple[Place, ...]] = [(), *((place,) for place in cut)]
    if len(cut) > 1:
        terms.append(cut)
    groups = {int(number) for place in cut for number in np.unique(channels.group_of[channels.axes[place]])}
    return Operator(value, node, tuple(terms), frozenset(groups - {-1}))
