"""How often a Loop runs, where its condition counts and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.bodies import Inlined
from amcc.passes.evaluate import evaluate, foldable

_LONGEST = 1 << 10  # steps that are counted out
_MOST = 1 << 31  # steps beyond which a limit is none


def known_trips(
    graph: Graph, node: Node, parts: Inlined, entered: Sequence[str], go: str, states: Sequence[tuple[str, str]]
) -> int | None:
    """The number of steps that a Loop takes; None where only run time knows.

    Args:
        entered: names in the body of iteration, condition and states.
        go: the body's condition.
        states: for each its value before the loop, and behind a step.
    """
    constants = {**graph.params, **parts.params}
    limit, condition = constants.get(node.input(0)), constants.get(node.input(1))
    if (node.input(0) and limit is None) or (node.input(1) and condition is None):
        return None
    most = np.iinfo(np.int64).max if limit is None else int(limit.reshape(-1)[0])
    if most <= 0 or (condition is not None and not condition.any()):
        return 0
    iteration, held, *inside = entered
    if go == held or (go in constants and constants[go].any()):
        return most if most <= _MOST else None
    carried = {held: go, **{name: behind for name, (_, behind) in zip(inside, states, strict=True)}}
    steps = _needed(parts.nodes, go, carried)
    start = {name: constants[before] for name, (before, _) in zip(inside, states, strict=True) if before in constants}
    return _counted(steps, constants, {**start, held: np.array(True)}, iteration, carried, go, most, graph.opset)


def _needed(nodes: Sequence[Node], go: str, carried: Mapping[str, str]) -> list[Node]:
    """The nodes of a body that its condition depends on, in this step or earlier ones."""
    makers = {output: node for node in nodes for output in node.outputs if output}
    needed: dict[str, None] = {go: None}
    pending = [go]
    while pending:
        name = pending.pop()
        reads = makers[name].reads if name in makers else (carried[name],) if name in carried else ()
        fresh = [read for read in reads if read not in needed]
        needed.update(dict.fromkeys(fresh))
        pending += fresh
    return [node for node in nodes if not needed.keys().isdisjoint(node.outputs)]


def _counted(
    steps: Sequence[Node],
    constants: Mapping[str, Array],
    start: Mapping[str, Array],
    iteration: str,
    carried: Mapping[str, str],
    go: str,
    most: int,
    opset: int,
) -> int | None:
    """Run the condition alone."""
    own = dict(start)
    if not all(foldable(node) for node in steps):
        return None
    for done in range(1, min(most, _LONGEST) + 1):
        own[iteration] = np.array(done - 1, np.int64)
        known: dict[str, Array] = dict(own)
        for node in steps:
            inputs = [known[i] if i in known else constants.get(i) for i in node.inputs]
            if any(i and array is None for i, array in zip(node.inputs, inputs, strict=True)):
                return None
            results = evaluate(node, inputs, opset)
            if results is None:
                return None
            known.update(zip(filter(None, node.outputs), results, strict=True))
        if go not in known:
            return None
        if done == most or not known[go].any():
            return done
        found = {name: known.get(behind, constants.get(behind)) for name, behind in carried.items()}
        own = {name: value for name, value in found.items() if value is not None}
    return None
