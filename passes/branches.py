"""If in the one graph: as the branch that runs where the condition is known, else as a choice between both.

`amcc.Select(condition, then..., else...)` gives the first half of its operands where the condition holds, else the
second. It runs nothing that the If did not run: what one side alone needs is put back into a branch when the graph
is written (`passes.regions`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from amcc.ir import Graph, Node, Opaque
from amcc.passes.bodies import Inlined, Names, Why, body_of, replaced, unreadable
from amcc.passes.protos import read_type

DOMAIN = "amcc"
"""Of operators that stand for control flow within amcc, and in no file."""

SELECT = "Select"
WHOLE = "Branch"
"""A branch that does not fit the inputs, as one node: it is carried as it is."""

MISFIT = "it does not fit the inputs"
THEN, ELSE = "then_branch", "else_branch"


def is_select(node: Node) -> bool:
    """Whether a node stands for an If."""
    return node.op == SELECT and node.domain == DOMAIN


def operands(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a Select chooses from: where the condition holds, and where not."""
    count = len(node.outputs)
    return node.inputs[1 : 1 + count], node.inputs[1 + count :]


def without_known_branches(graph: Graph) -> Graph:
    """The graph with every If of a constant condition replaced by the nodes of its branch; itself if there is none."""
    known = [n for n in graph.nodes if (n.op == "If" or is_select(n)) and n.inputs[0] in graph.params]
    if not known:
        return graph
    spelled: dict[str, tuple[list[Node], Inlined]] = {}
    names = Names(graph)
    for node in known:
        condition = bool(graph.params[node.inputs[0]].reshape(-1)[:1].any())
        parts = Inlined(names, node.name)
        if is_select(node):
            results = operands(node)[0 if condition else 1]
        else:
            body = body_of(node, THEN if condition else ELSE)
            if unreadable(body):
                continue
            results = parts.add(body, source=node.source)
        spelled[node.name] = (_called(node, parts, results), parts)
    return replaced(graph, spelled) if spelled else graph


def _called(node: Node, parts: Inlined, results: tuple[str, ...]) -> list[Node]:
    """The nodes of a branch with its results under the names of the If's outputs."""
    made = {name for inner in parts.nodes for name in inner.outputs}
    names: dict[str, str] = {}
    copies: list[Node] = []
    for outer, result in zip(node.outputs, results, strict=True):
        if outer and result in made and result not in names:
            names[result] = outer
        elif outer:
            copies.append(Node(f"{node.name}/{outer}", "Identity", (result,), (outer,), source=node.source))
    if any(name in inner.captures for inner in parts.nodes for name in names):
        copies += [Node(f"{node.name}/{o}", "Identity", (r,), (o,), source=node.source) for r, o in names.items()]
        return [*parts.nodes, *copies]

    def call(value: str) -> str:
        return names.get(value, value)

    called = [
        inner.replace(inputs=tuple(map(call, inner.inputs)), outputs=tuple(map(call, inner.outputs)))
        for inner in parts.nodes
    ]
    return called + [copy.replace(inputs=tuple(map(call, copy.inputs))) for copy in copies]


def as_select(graph: Graph, node: Node, names: Names, whole: Collection[int]) -> tuple[list[Node], Inlined] | Why:
    """An If as the nodes of both branches and a choice between their results, or why not.

    Args:
        whole: the branches that do not fit the inputs.
    """
    bodies = body_of(node, THEN), body_of(node, ELSE)
    if len(whole) == len(bodies):
        return MISFIT
    if why := next(filter(None, map(unreadable, bodies)), None):
        return why
    parts = Inlined(names, node.name)
    results = [
        _carried(node, parts, side) if side in whole else parts.add(body, source=node.source)
        for side, body in enumerate(bodies)
    ]
    wanted = [number for number, output in enumerate(node.outputs) if output]
    if any(not branch[number] for branch in results for number in wanted):
        return "a branch leaves a result out"
    chosen = [branch[number] for branch in results for number in wanted]
    outputs = tuple(node.outputs[number] for number in wanted)
    select = Node(node.name, SELECT, (node.inputs[0], *chosen), outputs, domain=DOMAIN, source=node.source)
    return [*parts.nodes, select], parts


def _carried(node: Node, parts: Inlined, side: int) -> tuple[str, ...]:
    """A branch as one node; gives the names of its results."""
    name = (THEN, ELSE)[side]
    called, body = f"{node.name}/{name}", node.attributes[name]
    assert isinstance(body, Opaque)
    described = [read_type(result.type) for result in body_of(node, name).output]
    results = tuple(parts.value(f"{called}/{k}", dtype, None) for k, (dtype, _) in enumerate(described))
    attributes = {"body": dataclasses.replace(body, why=MISFIT)}
    parts.nodes.append(Node(called, WHOLE, (), results, attributes, DOMAIN, node.source))
    return results
