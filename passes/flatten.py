"""Control flow as nodes of the one graph, so that every pass sees all of a network.

An If becomes a choice (`passes.branches`), a Loop or Scan two nodes around those of its body (`passes.loops`).
`passes.regions` finds the way back. A body that cannot be read, or does not fit the inputs, is carried as it is, and
says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amcc.ir import Graph, Node, Opaque
from amcc.passes.bodies import Names, Why, carried, replaced
from amcc.passes.branches import as_select
from amcc.passes.loops import as_region, changing, is_end

_WAYS = {"If": as_select, "Loop": as_region, "Scan": as_region}


@dataclass(frozen=True)
class Flat:
    """A graph with the bodies of some nodes as nodes of its own.

    Attributes:
        origin: by name of a new node that of the one whose body it was in.
    """

    graph: Graph
    origin: Mapping[str, str]

    def misfits(self, inferred: Graph, faulty: set[str]) -> dict[str, Why]:
        """The nodes whose bodies do not fit, and why.

        Args:
            inferred: the graph with all shapes, and the names of nodes that contradict themselves.
        """
        found = {self.origin[name]: "a body does not fit the inputs" for name in faulty if name in self.origin}
        for node in inferred.nodes:
            if is_end(node) and node.name in self.origin and changing(inferred, node):
                found.setdefault(node.name, "a state changes its shape from step to step")
        return found


def is_body_unread(node: Node) -> bool:
    """Whether a node has bodies that nobody has tried to read."""
    return node.op in _WAYS and not node.domain and any(isinstance(a, Opaque) and not a.why for a in _bodies(node))


def flattened(graph: Graph) -> Flat:
    """The graph with the outermost bodies as nodes; what cannot be read says why."""
    spelled = {}
    origin: dict[str, str] = {}
    whys: dict[str, Why] = {}
    names = Names(graph)
    for node in graph.nodes:
        if not is_body_unread(node):
            continue
        found = _WAYS[node.op](graph, node, names)
        if isinstance(found, str):
            whys[node.name] = found
            continue
        spelled[node.name] = found
        origin.update((new.name, node.name) for new in found[0])
    return Flat(replaced(carrying(graph, whys), spelled), origin)


def carrying(graph: Graph, whys: Mapping[str, Why]) -> Graph:
    """The graph with the bodies of some nodes left as they are."""
    return graph.replace(nodes=tuple(carried(n, whys[n.name]) if n.name in whys else n for n in graph.nodes))


def _bodies(node: Node) -> list[object]:
    return [node.attributes[name] for name in ("then_branch", "else_branch", "body") if name in node.attributes]
