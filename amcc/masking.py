"""The masked original: the network as it was, with removed units made to count for nothing.

Operands that are summed over removed units are set to zero there. A node that computes something over an
axis of which units go (a normalisation's mean, a softmax) gathers the survivors first and spreads its
results afterwards; what stands at the removed indices then is nobody's business, every sum masks it.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.ir import Array, Graph, Node, Value, frozen
from amcc.passes.bodies import inner_bodies
from amcc.passes.channels import Channels, Removal
from amcc.passes.recovery.masked import NO_MASKS, Masks
from amcc.passes.rules import rule_of
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Place

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs


@dataclass
class _Edit:
    """One node as it is masked.

    Attributes:
        node: the original one, `masked` what stands in its place, between `before` and `after`.
        values: descriptions of the new values, and `params` the arrays of those that are constant.
    """

    node: Node
    masked: Node
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    params: dict[str, Array] = field(default_factory=dict)

    def name(self, what: str) -> str:
        """A new value's name."""
        return f"amcc/{self.node.name}/{what}/{len(self.values)}"

    def constant(self, what: str, array: Array) -> str:
        """A new constant."""
        name = self.name(what)
        self.params[name] = frozen(array)
        self.values[name] = Value(name, array.dtype.name, array.shape)
        return name

    def step(self, steps: list[Node], op: str, inputs: tuple[str, ...], output: Value, **attributes: int) -> str:
        """A new node among `steps`; gives its output's name."""
        self.values[output.name] = output
        steps.append(Node(f"{output.name}/{op}", op, inputs, (output.name,), attributes=attributes))
        return output.name


def masked_graph(channels: Channels, removal: Removal, zeros: Masks = NO_MASKS) -> Graph:
    """The original graph with masks put in; `zeros` as for `masked_file`."""
    graph = channels.graph
    edits = {edit.node.name: edit for edit in _edits(channels, removal, zeros)}
    nodes: list[Node] = []
    values, params = dict(graph.values), dict(graph.params)
    for node in graph.nodes:
        edit = edits.get(node.name)
        if edit is None:
            nodes.append(node)
            continue
        nodes += [*edit.before, edit.masked, *edit.after]
        values.update(edit.values)
        params.update(edit.params)
    return graph.replace(nodes=tuple(nodes), values=values, params=params)


def _shadows(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> bool:
    """Whether a body gives a name a meaning of its own that it has outside as well."""
    own = {tensor.name for tensor in graph.initializer} | {name for node in graph.node for name in node.output if name}
    own |= {value.name for value in graph.input}
    if not outer.isdisjoint(own):
        return True
    visible = outer | own
    bodies = (body for node in graph.node for attribute in node.attribute for body in inner_bodies(attribute))
    return any(_shadows(body, visible) for body in bodies)


def masked_file(
    path: Path,
    channels: Channels,
    removal: Removal,
    watched: Sequence[str] = (),
    zeros: Masks = NO_MASKS,
) -> onnx.ModelProto | None:
    """The user's file with masks put in; None if that cannot be done.

    It may hold other nodes than the graph (functions, old opsets), or bodies with names that mean something else
    outside of them (ONNX Runtime's optimiser writes such files).

    Args:
        watched: values to give back as well, as far as they are not made in a body.
        zeros: masks of parameters, false where they are read as zeros.
    """
    import onnx_graphsurgeon as gs

    from amcc.frontends.onnx_file import read_model

    model = read_model(path)
    if _shadows(model.graph):
        return None
    surgeon = gs.import_onnx(model)
    makers = _makers(surgeon)
    for edit in _edits(channels, removal, zeros):
        made = makers.get(next(filter(None, edit.node.outputs)))
        if made is None or made.node.op != edit.node.op:
            return None
        target = made.node
        known: ChainMap[str, gs.Tensor] = ChainMap({}, made.visible)
        for name, tensor in zip(edit.node.inputs, target.inputs, strict=False):
            if name not in known and _holds(tensor, channels.graph.params.get(name)):
                known[name] = tensor
        for name, value in edit.values.items():
            known[name] = (
                gs.Constant(name, edit.params[name])
                if name in edit.params
                else gs.Variable(name, dtype=np.dtype(value.dtype))
            )
        steps = (*edit.before, *edit.after)
        if not all(name in known for step in steps for name in (*step.inputs, *step.outputs)):
            return None
        for tensors, names in ((target.inputs, edit.masked.inputs), (target.outputs, edit.masked.outputs)):
            tensors.extend(gs.Variable.empty() for _ in range(len(names) - len(tensors)))
            while len(tensors) > len(names):
                tensors.pop()
            for position, name in enumerate(names):
                if name in edit.values or not name:
                    tensors[position] = known[name] if name else gs.Variable.empty()
        _set_attributes(target.attrs, edit)
        for step in steps:
            inputs, outputs = [known[n] for n in step.inputs], [known[n] for n in step.outputs]
            added = gs.Node(step.op, step.name, dict(step.attributes), inputs, outputs, domain=step.domain or None)
            made.graph.nodes.append(added)
    tensors, given = surgeon.tensors(), {output.name for output in surgeon.outputs}
    for name in watched:
        if name in makers and makers[name].graph is not surgeon:
            continue
        if name not in tensors:
            return None
        if name not in given:
            tensors[name].dtype = np.dtype(channels.graph.values[name].dtype)
            surgeon.outputs.append(tensors[name])
    surgeon.toposort()
    if not all(_exportable(made.node) for made in makers.values()):
        return None
    masked: onnx.ModelProto = gs.export_onnx(surgeon, do_type_check=False)
    return masked


@dataclass(frozen=True)
class _Made:
    """A node of the file, the graph or body that holds it, and the tensors that can be read there."""

    node: gs.Node
    graph: gs.Graph
    visible: dict[str, gs.Tensor]


def _makers(graph: gs.Graph, outer: dict[str, gs.Tensor] | None = None) -> dict[str, _Made]:
    """What makes each tensor, those of bodies included unless another has the same name."""
    import onnx_graphsurgeon as gs

    visible = {**(outer or {}), **graph.tensors()}
    found = {output.name: _Made(node, graph, visible) for node in graph.nodes for output in node.outputs}
    inner = [_makers(b, visible) for node in graph.nodes for b in node.attrs.values() if isinstance(b, gs.Graph)]
    names = Counter(name for makers in (found, *inner) for name in makers)
    return {name: made for makers in (found, *inner) for name, made in makers.items() if names[name] == 1}


def _holds(tensor: gs.Tensor, array: Array | None) -> bool:
    """Whether a tensor of the file is a constant that the graph has under another name."""
    import onnx_graphsurgeon as gs

    return array is not None and isinstance(tensor, gs.Constant) and np.array_equal(tensor.values, array)


def _exportable(node: gs.Node) -> bool:
    """Spell a constant empty list as a tensor; False where graph-surgeon cannot write a node's empty list."""
    import onnx_graphsurgeon as gs

    for name, value in list(node.attrs.items()):
        if not (isinstance(value, list) and not value):
            continue
        if name not in ("value_ints", "value_floats"):
            return False
        dtype = np.int64 if name == "value_ints" else np.float32
        node.attrs = {"value": gs.Constant(f"{node.name}/value", np.zeros(0, dtype))}
    return True


def _set_attributes(attributes: dict[str, Any], edit: _Edit) -> None:
    """Spell the file's node as the edit does."""
    old, new = edit.node.attributes, edit.masked.attributes
    changed = {name: value for name, value in new.items() if value is not old.get(name)}
    attributes.update({name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()})
    for name in old.keys() - new.keys():
        attributes.pop(name, None)


# -- edits -------------------------------------------------------------------------------------------


def _edits(channels: Channels, removal: Removal, zeros: Masks) -> Iterator[_Edit]:
    kept, graph = channels.kept(removal), channels.graph
    respell = Respell(graph, kept)
    masks: dict[str, list[tuple[int, int]]] = {}
    for place in channels.contractions:
        masks.setdefault(place.node, []).append((place.input, place.axis))
    gone = {group for group, units in removal.items() if len(units)}
    restricted = {a.node for a in channels.approximations if gone.intersection(a.groups)}
    for node in graph.nodes:
        if node.name in restricted:
            yield _restricted(respell, node)
        elif node.name in masks and (edit := _summing(respell, node, masks[node.name])) is not None:
            yield edit
        elif zeros and not zeros.keys().isdisjoint(node.inputs):
            yield _weighing(graph, node, zeros)


def _summing(respell: Respell, node: Node, places: Sequence[tuple[int, int]]) -> _Edit | None:
    """The node with its operands zero where they are summed over removed indices."""
    edit = _Edit(node, node)
    inputs = list(node.inputs)
    for operand, axis in places:
        value = respell.graph.values[node.inputs[operand]]
        if (value.name, axis) not in respell.cut:
            continue
        shape = respell.graph.shape(value.name)
        alive = np.zeros(int(shape[axis]), bool)
        alive[respell.cut[value.name, axis]] = True
        line = alive.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        maker = respell.graph.producers.get(inputs[operand])
        if maker is not None and _is_dequantized(respell.graph, maker):
            inputs[operand] = _dequantized(edit, respell.graph, maker, line)
            continue
        zero = node.input(rule_of(node).zeros.get(operand, len(inputs)))
        inputs[operand] = _zeroed(edit, respell.graph, value, inputs[operand], line, zero)
    edit.masked = node.replace(inputs=tuple(inputs))
    return edit if edit.before else None


def _weighing(graph: Graph, node: Node, zeros: Masks) -> _Edit:
    """The node with its parameters zero where their masks say so."""
    edit = _Edit(node, node)
    inputs = (
        _zeroed(edit, graph, graph.values[name], name, zeros[name], "") if name in zeros else name
        for name in node.inputs
    )
    edit.masked = node.replace(inputs=tuple(inputs))
    return edit


def _zeroed(edit: _Edit, graph: Graph, value: Value, name: str, alive: Array, zero: str) -> str:
    """What is alive of a tensor, and zeros: `zero` names what stands for it among integers.

    A choice, where there is one, drops infinities as well.
    """
    masked = Value(edit.name("masked"), value.dtype, value.shape)
    dtype = np.dtype(value.dtype)
    if graph.opset < 9:
        return edit.step(edit.before, "Mul", (name, edit.constant("mask", alive.astype(dtype))), masked)
    mask = edit.constant("mask", alive)
    return edit.step(edit.before, "Where", (mask, name, zero or edit.constant("zero", np.zeros((), dtype))), masked)


# Integers that ONNX Runtime's Where takes.
_CHOSEN = ("int8", "uint8", "int32")


def _is_dequantized(graph: Graph, maker: Node) -> bool:
    """Whether a tensor is made of integers with one zero point, all the same."""
    points = maker.input(2)
    return (
        maker.op == "DequantizeLinear"
        and graph.opset >= 9
        and graph.values[maker.inputs[0]].dtype in _CHOSEN
        and (not points or (points in graph.params and graph.params[points].size == 1))
    )


def _dequantized(edit: _Edit, graph: Graph, maker: Node, alive: Array) -> str:
    """The tensor with zeros put in as integers, so that the runtime computes with integers as it would without."""
    value = graph.values[maker.inputs[0]]
    whole = _zeroed(edit, graph, value, value.name, alive, maker.input(2))
    result = Value(edit.name("dequantized"), graph.values[maker.outputs[0]].dtype, value.shape)
    edit.values[result.name] = result
    inputs = (whole, *maker.inputs[1:])
    edit.before.append(maker.replace(name=f"{result.name}/again", inputs=inputs, outputs=(result.name,)))
    return result.name


def _restricted(respell: Respell, node: Node) -> _Edit:
    """The node over the survivors of every axis: gathered before, spread to where they were after."""
    own = Respell(respell.graph, respell.cut)
    spelled = rule_of(node).respell(own, node)
    edit = _Edit(node, spelled)
    for name, array in own.constants.items():
        edit.params[name] = array
        edit.values[name] = Value(name, array.dtype.name, array.shape)
    edit.values.update(own.values)
    steps = (*own.nodes, spelled)
    reads = dict.fromkeys(name for step in steps for name in step.reads if name not in edit.values)
    gathered = {name: _gathered(edit, respell, name) for name in reads}
    for step in own.nodes:
        edit.before.append(step.replace(inputs=tuple(gathered.get(name, name) for name in step.inputs)))
    outputs = [_spread(edit, respell, name) if name else name for name in spelled.outputs]
    edit.masked = spelled.replace(
        inputs=tuple(gathered.get(name, name) for name in spelled.inputs),
        outputs=tuple(outputs),
    )
    return edit


def _cuts(respell: Respell, value: str) -> list[tuple[int, Array]]:
    """The cut axes of known length; one merged with a batch stays whole, no node computes over it."""
    axes: Mapping[Place, Array] = respell.cut
    shape = respell.graph.values[value].shape or ()
    return [(a, axes[value, a]) for a, dim in enumerate(shape) if isinstance(dim, int) and (value, a) in axes]


def _gathered(edit: _Edit, respell: Respell, value: str) -> str:
    described, name = respell.graph.values[value], value
    shape = list(described.shape or ())
    for axis, indices in _cuts(respell, value):
        rows = edit.constant("survivors", indices.astype(np.int64))
        shape[axis] = len(indices)
        part = Value(edit.name("part"), described.dtype, tuple(shape))
        name = edit.step(edit.before, "Gather", (name, rows), part, axis=axis)
    return name


def _spread(edit: _Edit, respell: Respell, value: str) -> str:
    """What the node now makes of this output; the old name stands for it spread out."""
    cuts = _cuts(respell, value)
    if not cuts:
        return value
    described = respell.graph.values[value]
    shape = list(described.shape or ())
    for axis, indices in cuts:
        shape[axis] = len(indices)
    made = Value(edit.name("made"), described.dtype, tuple(shape))
    edit.values[made.name] = made
    name = made.name
    for number, (axis, indices) in enumerate(cuts, start=1):
        size = respell.graph.shape(value)[axis]
        assert isinstance(size, int)
        back = np.zeros(size, np.int64)
        back[indices] = np.arange(len(indices))
        shape[axis] = size
        whole = described if number == len(cuts) else Value(edit.name("spread"), described.dtype, tuple(shape))
        name = edit.step(edit.after, "Gather", (name, edit.constant("places", back)), whole, axis=axis)
    edit.values.pop(value)
    return made.name


__all__ = ["masked_file", "masked_graph"]
