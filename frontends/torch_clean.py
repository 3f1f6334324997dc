"""What torch's exporter writes, without the noise: sequences, no-ops, made-up zeros, equal constants."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from amcc.ir import Array, Graph, Node, Value, frozen, verify
from amcc.passes.protos import element_type
from amcc.passes.shapes import infer

# Elements of the largest constants that are compared.
_LARGEST = 1 << 10


def clean(graph: Graph, state: Collection[str]) -> Graph:
    """The same network in as few nodes as its source had.

    Shapes are inferred, constants folded, split sequences become Split, nodes that change nothing
    disappear, a bias of zeros that no state dict holds is left out, equal constants become one.

    Args:
        state: parameters of the source's state dict: never folded, merged or left out.
    """
    graph = _inferred(graph, state)
    graph = _inferred(_without_noops(_without_sequences(graph), state), state)
    graph = _without_zero_biases(_with_spatial_sizes(_with_plain_gathers(graph)), state)
    graph = _with_equal_merged(graph, state).live()
    verify(graph, after="cleaning the capture")
    return graph


def _inferred(graph: Graph, state: Collection[str]) -> Graph:
    """Shape inference that takes the state for inputs, so that nothing is folded that a user may retrain."""
    held = {name: array for name, array in graph.params.items() if name in state}
    others = {name: array for name, array in graph.params.items() if name not in state}
    opened = infer(graph.replace(inputs=(*graph.inputs, *held), params=others))
    return opened.replace(inputs=graph.inputs, params={**held, **opened.params})


def substituted(graph: Graph, names: dict[str, str], nodes: Iterable[Node] | None = None) -> Graph:
    """The graph with values read under other names; a chain of names is followed to its end."""

    def final(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    replaced = tuple(n.replace(inputs=tuple(map(final, n.inputs))) for n in (graph.nodes if nodes is None else nodes))
    return graph.replace(nodes=replaced, outputs=tuple(map(final, graph.outputs)))


def _without_sequences(graph: Graph) -> Graph:
    """`SplitToSequence` whose parts are taken by constant indices, as `Split`."""
    nodes: list[Node] = []
    names: dict[str, str] = {}
    constants: dict[str, Array] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        if node.name in gone:
            continue
        takers = graph.consumers.get(node.outputs[0], ())
        indices = [graph.params.get(taker.input(1)) for taker in takers]
        sizes = _sizes(graph, node) if node.op == "SplitToSequence" else None
        if sizes is None or any(t.op != "SequenceAt" for t in takers) or any(i is None for i in indices):
            nodes.append(node)
            continue
        axis = int(str(node.attributes.get("axis", 0)))
        parts = tuple(f"{node.outputs[0]}_{i}" for i in range(len(sizes)))
        given = f"{node.name}_sizes"
        constants[given] = frozen(np.array(sizes, np.int64))
        split = Node(node.name, "Split", (node.inputs[0], given), parts, {"axis": axis}, source=node.source)
        nodes.append(split)
        drops = not node.input(1) and node.attributes.get("keepdims", 1) == 0
        for taker, index in zip(takers, indices, strict=True):
            assert index is not None
            part = parts[int(index.reshape(-1)[0])]
            gone.add(taker.name)
            if not drops:
                names[taker.outputs[0]] = part
                continue
            constants[f"{taker.name}_axis"] = frozen(np.array([axis], np.int64))
            nodes.append(taker.replace(op="Squeeze", inputs=(part, f"{taker.name}_axis")))
    return _with_constants(substituted(graph, names, nodes), constants) if gone else graph


def _with_constants(graph: Graph, constants: dict[str, Array]) -> Graph:
    made = {o for node in graph.nodes for o in node.outputs if o}
    values = {name: graph.values.get(name, Value(name, "", None)) for name in made}
    values.update((name, Value(name, array.dtype.name, array.shape)) for name, array in constants.items())
    return graph.replace(params={**graph.params, **constants}, values={**graph.values, **values})


def _sizes(graph: Graph, node: Node) -> list[int] | None:
    """How SplitToSequence cuts; None if it is not known before run time."""
    shape = graph.values[node.inputs[0]].shape
    dim = shape[int(str(node.attributes.get("axis", 0)))] if shape else "?"
    if not isinstance(dim, int):
        return None
    given = graph.params.get(node.input(1))
    if node.input(1) and given is None:
        return None
    if given is not None and given.ndim:
        return [int(size) for size in given]
    part = int(given) if given is not None else 1
    return [min(part, dim - start) for start in range(0, dim, part)]


# Operators that may return their input unchanged.
_MOVES = frozenset({"Cast", "CastLike", "Expand", "Pad", "Reshape", "Slice", "Tile", "Transpose"})


def _without_noops(graph: Graph, state: Collection[str]) -> Graph:
    names: dict[str, str] = {}
    nodes: list[Node] = []
    kept = set(graph.inputs) | set(graph.params)
    for node in graph.nodes:
        same = _unchanged(graph, node, state)
        if not same or (node.outputs[0] in graph.outputs and (same in kept or same in graph.outputs)):
            nodes.append(_as_cast(graph, node))
        else:
            names[node.outputs[0]] = same
            if node.outputs[0] in graph.outputs:
                kept.add(same)
    return substituted(graph, names, nodes)


def _as_cast(graph: Graph, node: Node) -> Node:
    """CastLike to a known type as Cast, which folds."""
    dtype = graph.values[node.inputs[1]].dtype if node.op == "CastLike" else ""
    return node.replace(op="Cast", inputs=node.inputs[:1], attributes={"to": element_type(dtype)}) if dtype else node


def _unchanged(graph: Graph, node: Node, state: Collection[str]) -> str:
    """The input that the node's only output equals, or "" if there is none."""
    if node.domain or len([o for o in node.outputs if o]) != 1:
        return ""
    data, output = graph.values.get(node.input(0)), graph.values[node.outputs[0]]
    if node.op == "Identity" or (node.op == "Concat" and len(node.inputs) == 1):
        return node.inputs[0]
    if node.op == "Dropout" and not node.input(2):
        return node.inputs[0]
    if node.op in ("Mul", "Div", "Add", "Sub"):
        return _neutral(graph, node, state)
    if node.op == "Expand" and _repeated(graph, node):
        return node.inputs[0]
    if node.op not in _MOVES or data is None or data.shape is None or "?" in data.shape:
        return ""
    if data.shape != output.shape or not data.dtype or data.dtype != output.dtype:
        return ""
    if node.op == "Transpose":
        same = node.attributes.get("perm", ()) == tuple(range(len(data.shape)))
    elif node.op == "Slice":
        steps = graph.params.get(node.input(4))
        same = not node.input(4) or (steps is not None and bool((steps > 0).all()))
    elif node.op == "Pad":
        pads = graph.params.get(node.input(1))
        same = pads is not None and not pads.any()
    else:
        same = True
    return node.inputs[0] if same else ""


_BROADCAST = frozenset({"Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mul", "Or", "Sub", "Where"})


def _repeated(graph: Graph, node: Node) -> bool:
    """Whether all readers of an expanded tensor broadcast it themselves, to the same shape."""
    shape = graph.values[node.outputs[0]].shape

    def fits(name: str) -> bool:
        return name != node.outputs[0] and graph.values[name].shape == shape

    readers = graph.consumers.get(node.outputs[0], ())
    known = shape is not None and "?" not in shape and node.outputs[0] not in graph.outputs
    return known and all(reader.op in _BROADCAST and any(map(fits, reader.inputs)) for reader in readers)


def _neutral(graph: Graph, node: Node, state: Collection[str]) -> str:
    """The other operand, where one is a constant number that does nothing."""
    nothing = 1 if node.op in ("Mul", "Div") else 0
    for constant, other in ((node.inputs[1], node.inputs[0]), node.inputs[:2]):
        array = graph.params.get(constant)
        if array is None or constant in state or array.size != 1 or other in graph.params:
            continue
        if constant == node.inputs[0] and node.op in ("Div", "Sub"):
            continue
        shape = graph.values[other].shape
        if shape is not None and array.ndim <= len(shape) and bool((array == nothing).all()):
            return other
    return ""


def _with_plain_gathers(graph: Graph) -> Graph:
    """GatherND by constant indices into the leading axis, which is how lists of channels arrive, as Gather."""
    constants: dict[str, Array] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        index = graph.params.get(node.input(1)) if node.op == "GatherND" else None
        if index is not None and index.shape[-1] == 1 and not node.attributes.get("batch_dims", 0):
            constants[f"{node.name}_index"] = frozen(index[..., 0])
            node = node.replace(op="Gather", inputs=(node.inputs[0], f"{node.name}_index"), attributes={"axis": 0})
        nodes.append(node)
    return _with_constants(graph.replace(nodes=tuple(nodes)), constants)


def _with_spatial_sizes(graph: Graph) -> Graph:
    """Resize to a computed size of which only batch and channels are dynamic: the others, by their axes."""
    constants: dict[str, Array] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        sizes, shape = node.input(3) if node.op == "Resize" else "", graph.values[node.outputs[0]].shape
        spatial = [dim for dim in (shape or ())[2:] if isinstance(dim, int)]
        if sizes and sizes not in graph.params and shape and len(spatial) == len(shape) - 2 > 0:
            target = f"{node.name}_sizes"
            constants[target] = frozen(np.array(spatial, np.int64))
            axes = tuple(range(2, len(shape)))
            inputs = (*node.inputs[:3], target)
            node = node.replace(inputs=inputs, attributes={**node.attributes, "axes": axes})
        nodes.append(node)
    return _with_constants(graph.replace(nodes=tuple(nodes)), constants)


def _without_zero_biases(graph: Graph, state: Collection[str]) -> Graph:
    def bare(node: Node) -> Node:
        bias = graph.params.get(node.input(2)) if node.op in ("Conv", "ConvTranspose", "Gemm") else None
        if bias is None or node.inputs[2] in state or bias.any():
            return node
        return node.replace(inputs=node.inputs[:2])

    return graph.replace(nodes=tuple(map(bare, graph.nodes)))


def _with_equal_merged(graph: Graph, state: Collection[str]) -> Graph:
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    names: dict[str, str] = {}
    for name, array in graph.params.items():
        if name not in state and array.size <= _LARGEST and array.dtype.kind in "iufb":
            met = first.setdefault((array.dtype.name, array.shape, array.tobytes()), name)
            if met != name:
                names[name] = met
    return substituted(graph, names)
