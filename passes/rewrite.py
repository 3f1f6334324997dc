"""The cut itself: a plan applied to a graph, as pure slices of the original weights."""

from __future__ import annotations

import itertools

from amcc.errors import PlanError, VerificationError
from amcc.ir import Array, Graph, Node, Value, frozen, verify
from amcc.passes.channels.model import Channels, Removal
from amcc.passes.rules import rule_of
from amcc.passes.rules.respell import Respell, described


def shrink(channels: Channels, removal: Removal) -> Graph:
    """A new graph without the removed units.

    Every parameter slice goes, and every constant and attribute that spells a changed size is written
    anew. Parameters that no removed unit touches are shared with the original.

    Raises:
        PlanError: the plan names units that do not exist or leaves an axis with nothing.
        VerificationError: the result breaks a law of the IR; a fault of a rule.
    """
    graph = channels.graph
    kept = channels.kept(removal)
    for (name, axis), indices in kept.items():
        if not len(indices):
            raise PlanError(
                f"the plan leaves nothing of axis {axis} of '{name}'", hint="keep at least one unit of every group"
            )
    respell = Respell(graph, kept)
    nodes = tuple(itertools.chain.from_iterable(_respelled(respell, node) for node in graph.nodes))
    params = {name: _cut(array, name, kept) for name, array in graph.params.items()}
    values = {name: _resized(respell, value) for name, value in graph.values.items()}
    values.update(respell.values)
    for name, array in respell.constants.items():
        params[name] = array
        values[name] = described(name, array)
    result = graph.replace(nodes=nodes, params=params, values=values).live()
    verify(result, after="shrink")
    return result


def check_shapes(graph: Graph) -> None:
    """Compare the shapes that a rewrite predicted with those that inference finds for its result.

    Raises:
        VerificationError: names the first tensor that differs.
    """
    from amcc.passes.shapes import infer

    made = {name: Value(name, value.dtype, None) for name, value in graph.values.items() if name in graph.producers}
    found = infer(graph.replace(values={**graph.values, **made})).values
    for name, value in graph.values.items():
        other = found.get(name)
        if other is None or other.shape is None or value.shape is None:
            continue
        unlike = len(other.shape) != len(value.shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(value.shape, other.shape, strict=True)
        )
        if unlike:
            maker = graph.producers.get(name)
            raise VerificationError(
                f"'{name}' should have shape {list(value.shape)}, inference says {list(other.shape)}",
                where=maker.label if maker else "graph",
                hint="please report this model: a rule of amcc is wrong",
            )


def _respelled(respell: Respell, node: Node) -> tuple[Node, ...]:
    """The node for the shrunk shapes, behind what it needs."""
    if not any(respell.changes(v) for v in (*node.inputs, *node.outputs) if v):
        return (node,)
    before = len(respell.nodes)
    new = rule_of(node).respell(respell, node)
    return (*respell.nodes[before:], new)


def _cut(array: Array, name: str, kept: dict[tuple[str, int], Array]) -> Array:
    for axis in range(array.ndim):
        if (name, axis) in kept:
            array = array.take(kept[name, axis], axis)
    return frozen(array)


def _resized(respell: Respell, value: Value) -> Value:
    return Value(value.name, value.dtype, respell.shape(value.name)) if respell.changes(value.name) else value
