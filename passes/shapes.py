"""Shapes of all values, with shape arithmetic and other constants folded away."""

from __future__ import annotations

from collections.abc import Mapping

from amcc.ir import Graph, Node, Shape, Value, verify
from amcc.passes.branches import without_known_branches
from amcc.passes.flatten import Findings, flattened, is_body_unread
from amcc.passes.inputs import bind_inputs
from amcc.passes.interpret import Interpreter
from amcc.passes.probing import probes
from amcc.passes.protos import optional_outputs
from amcc.passes.sequences import without_sequences


def infer(graph: Graph, *, input_shapes: Mapping[str, Shape] | None = None, fold_params: bool = True) -> Graph:
    """The graph with every shape that can be known, constants folded and dead code removed.

    Sequences of tensors are spelled without them, an If of a known condition as its branch, other bodies as
    `passes.flatten` says. Only the leading dimension of an input may stay dynamic unasked. A shape that cannot be
    known stays what the graph says it is, or None. A node that becomes a constant leaves a parameter of its output's
    name; an Identity of a parameter leaves the parameter.

    Args:
        input_shapes: sizes for dynamic dimensions of inputs; see `passes.inputs.bind_inputs`.
        fold_params: also fold what is computed from trained weights; without it they keep their
            names and shapes.

    Raises:
        ModelError: an input's shape is unknown, or contradicted by `input_shapes`.
    """
    if input_shapes or any(_open(graph.values[name]) for name in graph.inputs):
        graph = bind_inputs(graph, input_shapes or {})
    inferred, _ = _interpreted(graph, fold_params)
    while (spelled := without_known_branches(inferred)) is not inferred:
        inferred, _ = _interpreted(spelled, fold_params)
    inferred = _flattened(inferred, fold_params)
    if (spelled := without_sequences(inferred)) is not inferred:
        inferred, _ = _interpreted(spelled, fold_params)
    verify(inferred, after="shape inference")
    return inferred


def _flattened(graph: Graph, fold_params: bool) -> Graph:
    """The graph with bodies as nodes among the others, as far as they can be read and fit the inputs."""
    findings = Findings()
    while True:
        flat, faulty = graph, set[str]()
        while any(map(is_body_unread, flat.nodes)):
            flat, faulty = _interpreted(flattened(flat, findings), fold_params)
            while (spelled := without_known_branches(flat)) is not flat:
                flat, faulty = _interpreted(spelled, fold_params)
        if not findings.learn(flat, faulty):
            return flat


def _interpreted(graph: Graph, fold_params: bool) -> tuple[Graph, set[str]]:
    """The graph as one walk leaves it, and the names of nodes that contradict themselves."""
    interpreter = Interpreter(graph, probes(graph), fold_params=fold_params)
    nodes = tuple(node for node in map(interpreter.visit, graph.nodes) if node is not None)
    params = {**graph.params, **interpreter.folded}
    values = {name: interpreter.describe(value) for name, value in graph.values.items()}
    values.update((name, Value(name, array.dtype.name, array.shape)) for name, array in params.items())
    found = _without_unread(graph.replace(nodes=nodes, params=params, values=values)).live()
    return found, interpreter.contradictions()


def _open(value: Value) -> bool:
    return value.shape is None or "?" in value.shape


def _without_unread(graph: Graph) -> Graph:
    """Optional outputs that nothing reads (a Dropout's mask) left out."""
    read = {*graph.outputs, *graph.consumers}

    def trimmed(node: Node) -> Node:
        if all(output in read for output in node.outputs) or node.attributes.get("training_mode", 0):
            return node
        optional = optional_outputs(node.op, node.domain, graph.opsets.get(node.domain, 1))
        outputs = ["" if i in optional and o not in read else o for i, o in enumerate(node.outputs)]
        while outputs and not outputs[-1]:
            outputs.pop()
        return node.replace(outputs=tuple(outputs))

    return graph.replace(nodes=tuple(map(trimmed, graph.nodes)))
