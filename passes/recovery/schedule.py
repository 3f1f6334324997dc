"""In which order a network is repaired, and which values must be alive in between."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from amcc.ir import Graph, Node
from amcc.passes.regions import closed


def front_to_back(graph: Graph) -> list[Node]:
    """The nodes in a topological order that finishes shallow branches before deep ones.

    Of two branches that meet in a sum the deep one comes last: it has the most weights to make up for
    what the other leaves.
    """
    depth = _depths(graph)
    done: set[str] = set()
    order: list[Node] = []
    roots = [graph.producers[name] for name in graph.outputs if name in graph.producers]
    stack = [(node, False) for node in reversed([*roots, *graph.nodes])]
    while stack:
        node, ready = stack.pop()
        if node.name in done:
            continue
        if ready:
            done.add(node.name)
            order.append(node)
            continue
        stack.append((node, True))
        before = {graph.producers[name].name: graph.producers[name] for name in node.reads if name in graph.producers}
        deepest_first = sorted(before.values(), key=lambda n: -depth[n.name])
        stack.extend((n, False) for n in deepest_first if n.name not in done)
    return _in_one_piece(graph, order)


def _in_one_piece(graph: Graph, order: list[Node]) -> list[Node]:
    """The same order with what cannot be run at will, a loop say, in one piece: nothing is repaired within it."""
    shut = closed(graph)
    pieces: dict[str, list[Node]] = {}
    for node in order:
        if node.name in shut:
            pieces.setdefault(shut[node.name], []).append(node)
    return [n for node in order for n in (pieces.get(node.name, ()) if node.name in shut else (node,))]


def _depths(graph: Graph) -> dict[str, int]:
    """The longest way to each node, in nodes that do arithmetic with weights."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        before = [depth[graph.producers[name].name] for name in node.reads if name in graph.producers]
        own = any(name in graph.params and graph.params[name].ndim > 1 for name in node.inputs)
        depth[node.name] = max(before, default=0) + int(own)
    return depth


def frontiers(graph: Graph, order: Sequence[Node], stops: Sequence[int]) -> list[frozenset[str]]:
    """For each stop, the values made before node `order[stop]` that it or a later node reads."""
    last_read: dict[str, int] = {}
    for position, node in enumerate(order):
        for name in node.reads:
            last_read[name] = position
    born = {name: -1 for name in graph.inputs}
    born.update((name, position) for position, node in enumerate(order) for name in node.outputs)
    return [
        frozenset(name for name, last in last_read.items() if last >= stop and name in born and born[name] < stop)
        for stop in stops
    ]


def ancestors(graph: Graph, name: str, among: Collection[str]) -> set[str]:
    """The nodes, by name, of some that a value depends on."""
    found: set[str] = set()
    seen: set[str] = set()
    todo: list[str] = [name]
    while todo:
        producer = graph.producers.get(todo.pop())
        if producer is None or producer.name in seen:
            continue
        seen.add(producer.name)
        if producer.name in among:
            found.add(producer.name)
        todo.extend(producer.reads)
    return found
