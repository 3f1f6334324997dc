"""Control flow as nodes of the one graph, so that every pass sees all of a network.

An If becomes a choice (`passes.branches`), a Loop or Scan two nodes around those of its body (`passes.loops`).
`passes.regions` finds the way back. A body that cannot be read, or does not fit the inputs, is carried as it is, and
says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amcc.ir import Graph, Node, Opaque
from amcc.passes.bodies import Inlined, Names, Why, carried, replaced
from amcc.passes.branches import MISFIT, as_select, is_select
from amcc.passes.loops import as_region, changing, is_end
from amcc.passes.regions import has_regions, places

_BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}


@dataclass
class Findings:
    """What is known of the nodes with bodies, by name, from trying.

    Attributes:
        whys: what cannot be read, or does not fit.
        branches: the branches of an If that do not fit, and `loose` the states' axes in a Loop whose length differs
            from step to step.
    """

    whys: dict[str, Why] = field(default_factory=dict)
    branches: dict[str, frozenset[int]] = field(default_factory=dict)
    loose: dict[str, frozenset[int]] = field(default_factory=dict)

    def learn(self, graph: Graph, faulty: set[str]) -> bool:
        """Note what does not fit; whether that is news.

        Args:
            graph: flat, with all shapes.
            faulty: names of nodes that contradict themselves.
        """
        if not has_regions(graph):
            return False
        before = len(self.whys), sum(map(len, (*self.branches.values(), *self.loose.values())))
        where, selects = places(graph), {node.name for node in graph.nodes if is_select(node)}
        for name in faulty:
            for owner, side in where.get(name, ())[-1:]:
                if owner in selects:
                    self.branches[owner] = self.branches.get(owner, frozenset()) | {side}
                else:
                    self.whys[owner] = MISFIT
        for node in graph.nodes:
            if is_end(node) and (loose := changing(graph, node)) != frozenset():
                if loose is None:
                    self.whys[node.name] = "a state changes its rank or type from step to step"
                else:
                    self.loose[node.name] = self.loose.get(node.name, frozenset()) | loose
        return before != (len(self.whys), sum(map(len, (*self.branches.values(), *self.loose.values()))))


def is_body_unread(node: Node) -> bool:
    """Whether a node has bodies that nobody has tried to read."""
    return not node.domain and any(
        isinstance(body := node.attributes.get(name), Opaque) and not body.why for name in _BODIES.get(node.op, ())
    )


def flattened(graph: Graph, findings: Findings) -> Graph:
    """The graph with the outermost bodies as nodes; what cannot be read is added to the findings, and says why."""
    spelled: dict[str, tuple[list[Node], Inlined]] = {}
    names = Names(graph)
    for node in graph.nodes:
        if not is_body_unread(node) or node.name in findings.whys:
            continue
        if node.op == "If":
            found = as_select(graph, node, names, findings.branches.get(node.name, frozenset()))
        else:
            found = as_region(graph, node, names, findings.loose.get(node.name, frozenset()))
        if isinstance(found, str):
            findings.whys[node.name] = found
        else:
            spelled[node.name] = found
    return replaced(_carrying(graph, findings.whys), spelled)


def _carrying(graph: Graph, whys: Mapping[str, Why]) -> Graph:
    """The graph with the bodies of some nodes left as they are."""
    return graph.replace(nodes=tuple(carried(n, whys[n.name]) if n.name in whys else n for n in graph.nodes))
