"""Sequences of tensors spelled without them: SplitToSequence becomes Split, ConcatFromSequence Concat.

Exporters write chunk, unbind and lists as sequence operators. Where the length of a sequence and the positions
read are known, its tensors take their places; other uses are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from amcc.ir import Array, Graph, Node, Value, frozen


def without_sequences(graph: Graph) -> Graph:
    """The graph with every sequence that is known spelled out; the same graph if there is none."""
    if not any(node.op in _WRITERS for node in graph.nodes):
        return graph
    writer = _Writer(graph)
    nodes = tuple(new for node in graph.nodes for new in writer.spelled(node))
    if not writer.changed:
        return graph
    return graph.replace(
        nodes=nodes, values={**graph.values, **writer.values}, params={**graph.params, **writer.params}
    ).live()


@dataclass
class _Writer:
    """The tensors of every sequence that is known so far, and what was added to spell it.

    A node that makes a sequence stays beside its tensors; it goes as dead code if nothing reads it.
    """

    graph: Graph
    known: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    params: dict[str, Array] = field(default_factory=dict)
    changed: bool = False

    def spelled(self, node: Node) -> Iterator[Node]:
        """What stands for a node."""
        write = _WRITERS.get(node.op) if node.domain in ("", "ai.onnx") else None
        new = write(self, node) if write is not None else None
        if new is None:
            yield node
            return
        self.changed = self.changed or bool(new)
        if node.outputs[0] in self.known:
            yield node
        yield from new

    def constant(self, name: str, entries: list[int], *, scalar: bool = False) -> str:
        """A new constant of integers."""
        array = np.array(entries[0] if scalar else entries, np.int64)
        self.params[name] = frozen(array)
        self.values[name] = Value(name, "int64", array.shape)
        return name

    def position(self, node: Node, index: int, default: int) -> int | None:
        """A constant position, or the default if it is left out."""
        if not node.input(index):
            return default
        array = self.graph.params.get(node.input(index))
        return None if array is None else int(array.reshape(-1)[0])

    def axis_step(self, node: Node, op: str, x: str, y: str, axis: int) -> Node:
        """Squeeze or Unsqueeze of one axis."""
        name = f"{y}/{op}"
        if self.graph.opset < 13:
            return Node(name, op, (x,), (y,), attributes={"axes": (axis,)}, source=node.source)
        return Node(name, op, (x, self.constant(f"{y}/axes", [axis])), (y,), source=node.source)


def _split(writer: _Writer, node: Node) -> list[Node] | None:
    graph, x, name = writer.graph, node.inputs[0], node.outputs[0]
    shape = graph.values[x].shape
    axis = node.attributes.get("axis", 0)
    assert isinstance(axis, int)
    size = shape[axis] if shape else None
    if shape is None or not isinstance(size, int):
        return None
    chunks = _chunks(graph, node, size)
    if chunks is None:
        return None
    squeezed = not node.input(1) and not node.attributes.get("keepdims", 1)
    parts = [f"{name}/{number}" for number in range(len(chunks))]
    wholes = [f"{part}/whole" for part in parts] if squeezed else parts
    dtype = graph.values[x].dtype
    writer.values.update((v, Value(v, dtype, None)) for v in (*parts, *wholes))
    attributes: dict[str, int | tuple[int, ...]] = {"axis": axis}
    inputs: tuple[str, ...] = (x,)
    if graph.opset < 13:
        attributes["split"] = tuple(chunks)
    else:
        inputs = (x, writer.constant(f"{name}/split", chunks))
    nodes = [Node(f"{name}/Split", "Split", inputs, tuple(wholes), attributes=attributes, source=node.source)]
    if squeezed:
        nodes += [writer.axis_step(node, "Squeeze", w, p, axis) for w, p in zip(wholes, parts, strict=True)]
    writer.known[name] = parts
    return nodes


def _chunks(graph: Graph, node: Node, size: int) -> list[int] | None:
    """The lengths of the parts; the last one may be shorter."""
    if not node.input(1):
        return [1] * size
    array = graph.params.get(node.input(1))
    if array is None:
        return None
    if array.ndim:
        return [int(n) for n in array]
    each = int(array)
    return [min(each, size - start) for start in range(0, size, each)]


def _construct(writer: _Writer, node: Node) -> list[Node]:
    writer.known[node.outputs[0]] = list(node.inputs)
    return []


def _insert(writer: _Writer, node: Node) -> list[Node] | None:
    before = writer.known.get(node.inputs[0])
    position = writer.position(node, 2, len(before or ()))
    if before is None or position is None:
        return None
    after = list(before)
    after.insert(position, node.inputs[1])
    writer.known[node.outputs[0]] = after
    return []


def _erase(writer: _Writer, node: Node) -> list[Node] | None:
    before, position = writer.known.get(node.inputs[0]), writer.position(node, 1, -1)
    if not before or position is None:
        return None
    after = list(before)
    del after[position]
    writer.known[node.outputs[0]] = after
    return []


def _at(writer: _Writer, node: Node) -> list[Node] | None:
    parts, position = writer.known.get(node.inputs[0]), writer.position(node, 1, 0)
    if parts is None or position is None:
        return None
    return [node.replace(op="Identity", inputs=(parts[position],), attributes={})]


def _length(writer: _Writer, node: Node) -> list[Node] | None:
    parts = writer.known.get(node.inputs[0])
    if parts is None:
        return None
    name = writer.constant(f"{node.outputs[0]}/length", [len(parts)], scalar=True)
    return [node.replace(op="Identity", inputs=(name,), attributes={})]


def _concat(writer: _Writer, node: Node) -> list[Node] | None:
    parts = writer.known.get(node.inputs[0])
    if not parts:
        return None
    axis, nodes = node.attributes["axis"], []
    assert isinstance(axis, int)
    if node.attributes.get("new_axis", 0):
        raised = [f"{node.outputs[0]}/{number}" for number in range(len(parts))]
        for part, name in zip(parts, raised, strict=True):
            writer.values[name] = Value(name, writer.graph.values.get(part, Value(part, "", None)).dtype, None)
            nodes.append(writer.axis_step(node, "Unsqueeze", part, name, axis))
        parts = raised
    return [*nodes, node.replace(op="Concat", inputs=tuple(parts), attributes={"axis": axis})]


_WRITERS: Mapping[str, Callable[[_Writer, Node], list[Node] | None]] = {
    "SplitToSequence": _split,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
}
