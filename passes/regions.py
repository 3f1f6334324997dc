"""Which nodes run by condition or in a loop: the way back from one graph to bodies.

A node belongs to a branch if nothing outside needs what it makes, and to the body of a loop if, besides, it reads
something that differs from step to step. So nothing runs that did not run before, and what is the same in every step is
computed once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from math import prod

from amcc.errors import ModelError
from amcc.ir import Graph, Node
from amcc.passes import dims
from amcc.passes.branches import DOMAIN, is_select
from amcc.passes.dims import per_sample
from amcc.passes.loops import is_begin, is_end, steps

Region = tuple[str, int]
"""The node that an If, Loop or Scan has become, and which of its bodies: 0, and 1 for an If's second."""

Place = tuple[Region, ...]
"""Where a node runs: regions from outside to inside."""


def has_regions(graph: Graph) -> bool:
    """Whether any node runs by condition or in a loop."""
    return any(node.domain == DOMAIN for node in graph.nodes)


def places(graph: Graph) -> dict[str, Place]:
    """Where each node runs, by name.

    Raises:
        ModelError: a value from within a loop is wanted outside.
    """
    within = _loops(graph)
    ends = frozenset(node.name for node in graph.nodes if is_end(node))
    found: dict[str, Place] = {}
    read: dict[str, Place] = dict.fromkeys(graph.outputs, ())
    for node in reversed(graph.nodes):
        if is_begin(node):
            place = found[_closing(graph, node).name]
        else:
            uses = [read[output] for output in node.outputs if output in read]
            place = _common(uses) if uses else ()
            loops = within[node.name]
            if not loops <= {owner for owner, _ in place}:
                raise ModelError("what a loop computes on the way is wanted outside", where=node.label)
            place = _outside(place, ends - loops)
        found[node.name] = place
        for number, name in enumerate(node.inputs):
            if name:
                _use(read, name, (*place, *_region(node, number)))
        for name in node.captures:
            _use(read, name, place)
    return found


def closed(graph: Graph) -> dict[str, str]:
    """The nodes that cannot be run at will, each with the outermost If or loop that it is part of.

    These are the bodies of loops, and branches with lengths that only run time knows, which may not fit the inputs
    unless the condition holds.
    """
    found: dict[str, str] | None = graph.findings.get("closed")
    if found is None:
        found = graph.findings["closed"] = _closed(graph) if has_regions(graph) else {}
    return found


def _closed(graph: Graph) -> dict[str, str]:
    where = places(graph)
    ends = {node.name for node in graph.nodes if is_end(node)}
    loose = {
        region
        for node in graph.nodes
        for region in where[node.name]
        if not all(_known(graph, name) for name in node.outputs if name)
    }
    owners = ends | {owner for owner, _ in loose}
    found: dict[str, str] = {}
    for node in graph.nodes:
        shut = [owner for owner, side in where[node.name] if owner in ends or (owner, side) in loose]
        own = _closing(graph, node).name if is_begin(node) else node.name
        shut += [own] if own in owners else []
        if shut:
            found[node.name] = shut[0]
    return found


def repeats(graph: Graph) -> dict[str, int]:
    """How often each node runs, by name; empty where there is no loop. A number that only run time knows is 1."""
    if not any(map(is_begin, graph.nodes)):
        return {}
    times = {_closing(graph, node).name: per_sample(steps(graph, node)) for node in graph.nodes if is_begin(node)}
    return {name: prod(times[loop] for loop in loops) for name, loops in _loops(graph).items()}


def _known(graph: Graph, name: str) -> bool:
    shape = graph.values[name].shape
    return shape is not None and dims.UNKNOWN not in shape


def _outside(place: Place, owners: frozenset[str]) -> Place:
    """The regions of a place up to the first that one of some nodes owns."""
    return tuple(takewhile(lambda region: region[0] not in owners, place))


def _region(node: Node, number: int) -> Place:
    """The region that an operand of a node is computed in."""
    if is_end(node):
        return ((node.name, 0),)
    if is_select(node) and number:
        return ((node.name, 0 if number <= len(node.outputs) else 1),)
    return ()


def _use(read: dict[str, Place], name: str, place: Place) -> None:
    read[name] = _common([read[name], place]) if name in read else place


def _common(paths: Iterable[Place]) -> Place:
    """What all paths begin with."""
    levels = zip(*paths, strict=False)
    return tuple(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))


def _closing(graph: Graph, begin: Node) -> Node:
    return next(node for node in graph.consumers[begin.outputs[0]] if is_end(node))


def _loops(graph: Graph) -> dict[str, frozenset[str]]:
    """By node the loops, named by what closes them, whose steps it depends on."""
    within: dict[str, frozenset[str]] = {}
    for node in graph.nodes:
        before = (graph.producers.get(name) for name in node.reads)
        loops = frozenset().union(*(_inside(graph, maker, within) for maker in before if maker is not None))
        within[node.name] = loops - {node.name} if is_end(node) else loops
    return within


def _inside(graph: Graph, maker: Node, within: dict[str, frozenset[str]]) -> frozenset[str]:
    """The loops whose steps differ in what a node makes."""
    loops = within[maker.name]
    return loops | {_closing(graph, maker).name} if is_begin(maker) else loops
