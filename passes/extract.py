"""A part of a graph as a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from amcc.errors import VerificationError
from amcc.ir import Graph, verify


def sub_graph(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """The nodes between some values and others; arrays are shared.

    Args:
        inputs: values that are fed; those that no output needs are left out.
        outputs: values that are given back; one that is fed is passed through.

    Raises:
        VerificationError: a value does not exist, or an output needs a graph input that is not fed.
    """
    if unknown := [name for name in (*inputs, *outputs) if name not in graph.values]:
        raise VerificationError(f"the graph has no value '{unknown[0]}'")
    fed = dict.fromkeys(name for name in inputs if name not in graph.params)
    needed = {name for name in outputs if name not in fed}
    used = {name for name in outputs if name in fed}
    kept = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        kept.append(node)
        needed.update(name for name in node.reads if name not in fed)
        used.update(name for name in node.reads if name in fed)
    if missing := [name for name in graph.inputs if name in needed]:
        raise VerificationError(f"'{missing[0]}' is needed for '{outputs[0]}' and is not fed")
    values = dict(graph.values)

    def renamed(output: str) -> str:
        """A node with one output fed and another needed makes the fed one under another name."""
        if output not in fed:
            return output
        name = f"{output}.made"
        while name in values:
            name += "_"
        values[name] = replace(values[output], name=name)
        return name

    nodes = tuple(node.replace(outputs=tuple(map(renamed, node.outputs))) for node in reversed(kept))
    part = graph.replace(
        nodes=nodes,
        inputs=tuple(name for name in fed if name in used),
        outputs=tuple(dict.fromkeys(outputs)),
        values=values,
    ).live()
    verify(part, after="extraction")
    return part
