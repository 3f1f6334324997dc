"""How many bytes of activations are alive at once, at the worst moment: exact, for one sample.

Counted is every tensor that a node makes, and every input of the graph: from the node that makes it (inputs: from the
beginning) up to its last reader, outputs of the graph up to the end. While a node runs, what it reads and what it
makes are both alive. Nodes run in the order in which they are emitted, one at a time; no tensor takes another's place,
and a reshape is a copy. Parameters are not activations; lengths that only run time knows count as 1. A runtime
that computes in place, or keeps a tensor in a layout of its own, may need less or more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.dims import per_sample
from amcc.passes.rules.rule import Monomial

if TYPE_CHECKING:
    from amcc.passes.channels.model import Channels


def peak_activations(graph: Graph) -> int:
    """Bytes of the tensors alive at the worst moment, for one sample, when nodes run in order."""
    size = {name: _bytes(graph, name) for name in graph.values if name not in graph.params}
    peak = now = 0
    for made, gone in _moments(graph):
        now += sum(size[name] for name in made)
        peak = max(peak, now)
        now -= sum(size[name] for name in gone)
    return peak


class Alive:
    """The peak under any plan, from the bytes of each tensor.

    Nodes that a cut puts in front of others, to compute shapes at run time, are taken to be there under every plan.

    Attributes:
        tensors: what the bytes of each kind of tensor are a product of.
    """

    def __init__(self, channels: Channels) -> None:
        graph, left = channels.graph, emitted(channels)
        kinds: dict[Monomial, int] = {}
        kind_of: dict[str, int] = {}
        for name in left.values:
            if name not in left.params:
                monomial = _monomial(channels, graph if name in graph.values else left, name)
                if monomial.coefficient:
                    kind_of[name] = kinds.setdefault(monomial, len(kinds))
        self.tensors = tuple(kinds)
        sets = list(_largest(left))
        alive = [[kind_of[name] for name in names if name in kind_of] for names in sets]
        alive = [kinds for kinds in alive if kinds] or [[]]
        self._starts = np.cumsum([0, *map(len, alive)])[:-1]
        self._kinds = np.array([kind for kinds in alive for kind in kinds], np.int64)

    def peak(self, sizes: Array) -> int:
        """Bytes alive at the worst moment; `sizes` are int64 [tensors], the bytes of each kind."""
        if not len(self._kinds):
            return 0
        return int(np.add.reduceat(sizes[self._kinds], self._starts).max())


def emitted(channels: Channels) -> Graph:
    """A graph with the nodes, in order, that a cut of every group leaves."""
    from amcc.passes.rewrite import shrink

    return shrink(channels, {group.index: np.arange(1, group.size) for group in channels.groups if group.size > 1})


def _monomial(channels: Channels, graph: Graph, name: str) -> Monomial:
    """The bytes of a tensor, with the lengths that no unit cuts multiplied out."""
    shape = graph.values[name].shape or ()
    cut = tuple((name, axis) for axis in range(len(shape)) if graph is channels.graph and (name, axis) in channels.axes)
    whole = math.prod(per_sample(shape[axis]) for _, axis in cut)
    return Monomial(_bytes(graph, name) // max(whole, 1), cut)


def _moments(graph: Graph) -> Iterator[tuple[list[str], list[str]]]:
    """For each node what is made for it to run, itself included, and what nobody reads after it; inputs come first."""
    last = {name: number for number, node in enumerate(graph.nodes) for name in node.reads}
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    made = [name for name in graph.inputs if name not in graph.params]
    counted = set(made)
    if not graph.nodes:
        yield made, []
    for number, node in enumerate(graph.nodes):
        outputs = [name for name in node.outputs if name]
        counted.update(outputs)
        new = made + outputs if number == 0 else outputs
        ends = {*node.reads, *outputs, *(made if number == 0 else ())}
        yield new, [name for name in ends if name in counted and last.get(name, -1) <= number]


def _largest(graph: Graph) -> Iterator[list[str]]:
    """The sets of tensors that are alive together and are not part of the set before or after."""
    now: dict[str, None] = {}
    grown = False
    for made, gone in _moments(graph):
        if made:
            now.update(dict.fromkeys(made))
            grown = True
        if gone:
            if grown:
                yield list(now)
            grown = False
            for name in gone:
                del now[name]
    if grown:
        yield list(now)


def _bytes(graph: Graph, name: str) -> int:
    value = graph.values[name]
    if value.shape is None or not value.dtype or value.dtype.endswith(")"):
        return 0
    import ml_dtypes  # noqa: F401  (registers bfloat16 and its kin with numpy)

    return math.prod(per_sample(dim) for dim in value.shape) * np.dtype(value.dtype).itemsize
