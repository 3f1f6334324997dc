"""One walk over the nodes that finds the type of every value, and its content where that is known.

An abstract interpretation: operators' own inference (onnx) gives types, nodes with known inputs are
computed. It is carried out for several probes side by side (`passes.probing`), so that what differs
between them is known to depend on a dynamic dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Graph, Node, Value, frozen
from amcc.passes import dims
from amcc.passes.evaluate import CHEAP, LAYOUT, evaluate, foldable
from amcc.passes.foreign import NONE, foreign_types
from amcc.passes.probing import Probe, agreed, at, constant_target
from amcc.passes.protos import is_float, node_proto, read_type, schema, tensor_proto, type_proto

if TYPE_CHECKING:
    import onnx

# Elements of the largest result that is computed: by operators that are fast at any size, by others.
_LARGEST_CHEAP = 1 << 26
_LARGEST_RESULT = 1 << 16
# Elements of the largest content that operators' own inference is shown (targets, axes, sizes).
_LARGEST_SHOWN = 1 << 10


class Interpreter:
    """What is known of every value, in each probe.

    Args:
        fold_params: whether what is computed from trained weights may be folded.

    Attributes:
        folded: the new parameters: outputs of nodes that were folded away, and targets of Reshapes.
        faulty: names of nodes that contradict themselves, as their own inference says.
    """

    def __init__(self, graph: Graph, probes: Sequence[Probe], *, fold_params: bool) -> None:
        from onnx import helper

        self.folded: dict[str, Array] = {}
        self.faulty: set[str] = set()
        self._graph = graph
        self._probes = probes
        self._fold_params = fold_params
        self._opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
        self._types: dict[str, tuple[onnx.TypeProto, ...]] = {}
        self._constants: dict[str, Array] = dict(graph.params)  # content that is the same in every probe
        self._varying: dict[str, tuple[Array, ...]] = {}  # content that is not
        self._weights = {name for name, array in graph.params.items() if is_float(array) and array.size > 1}
        self._aliases: dict[str, str] = {}
        self._shown: dict[tuple[str, int], onnx.TensorProto] = {}
        for name in (*graph.params, *graph.inputs):
            self._types[name] = self._stated(graph.values[name])

    def visit(self, node: Node) -> Node | None:
        """Interpret one node; None when it is folded away."""
        if self._aliases:
            node = node.replace(inputs=tuple(self._aliases.get(name, name) for name in node.inputs))
        if self._is_alias(node):
            self._aliases[node.outputs[0]] = node.inputs[0]
            return None
        self._infer(node)
        self._compute(node)
        outputs = [output for output in node.outputs if output]
        constant = all(output in self._constants for output in outputs)
        if not constant or not set(outputs).isdisjoint(self._graph.outputs):
            return self._with_constant_target(node)
        self.folded.update((output, self._constants[output]) for output in outputs)
        return None

    def contradictions(self) -> set[str]:
        """The faulty nodes that contradict themselves whatever size a dynamic dimension has."""
        return {node.name for node in self._graph.nodes if node.name in self.faulty and self._contradicts(node)}

    def describe(self, value: Value) -> Value:
        """The value with what the probes agree on."""
        if value.name not in self._types:
            return value
        dtypes, shapes = zip(*map(read_type, self._types[value.name]), strict=True)
        return Value(value.name, dtypes[0], agreed(shapes, self._probes))

    def _is_alias(self, node: Node) -> bool:
        """An Identity of a parameter: its readers can read the parameter, which stays one, not two."""
        if node.op != "Identity" or node.domain or not self._fold_params or node.inputs[0] not in self._constants:
            return False
        output = node.outputs[0]
        readers = self._graph.consumers.get(output, ())
        captured = any(output in reader.captures for reader in readers)
        return not captured and output not in self._graph.outputs

    def _with_constant_target(self, node: Node) -> Node:
        """A Reshape whose computed target a constant can spell, with that constant."""
        if node.op != "Reshape" or node.domain or node.input(1) not in self._varying:
            return node
        shapes = [read_type(t)[1] for t in self._types[node.inputs[0]]]
        target = constant_target(self._varying[node.inputs[1]], shapes)
        if target is None:
            return node
        name = f"{node.outputs[0]}.target"
        while name in self._graph.values or name in self.folded:
            name += "_"
        self.folded[name] = frozen(target)
        attributes = {key: value for key, value in node.attributes.items() if key != "allowzero"}
        return node.replace(inputs=(node.inputs[0], name), attributes=attributes)

    # Types

    def _stated(self, value: Value) -> tuple[onnx.TypeProto, ...]:
        """What the graph itself says of a value, in each probe."""
        if value.shape is None or dims.is_static(value.shape):
            return (type_proto(value.dtype, value.shape),) * len(self._probes)
        return tuple(type_proto(value.dtype, at(value.shape, probe)) for probe in self._probes)

    def _infer(self, node: Node) -> None:
        """Types of the node's outputs from those of its inputs; where that fails, what the graph says."""
        varies = any(n in self._varying or self._types[n][0] is not self._types[n][-1] for n in node.reads)
        attempts = [self._infer_once(node, probe) for probe in range(len(self._probes) if varies else 1)]
        fits = any(attempt is not None for attempt in attempts)
        inferred = [
            attempt if attempt is not None else self._infer_loosely(node, probe) if fits else {}
            for probe, attempt in enumerate(attempts)
        ]
        for output in filter(None, node.outputs):
            stated = self._stated(self._graph.values[output])
            first, *rest = (
                _completed(inferred[min(i, len(inferred) - 1)].get(output), s) for i, s in enumerate(stated)
            )
            self._types[output] = (first, *(first if other == first else other for other in rest))

    def _infer_once(self, node: Node, probe: int) -> Mapping[str, onnx.TypeProto] | None:
        """The types in one probe; None if they contradict each other."""
        from onnx import shape_inference

        version = self._graph.opsets.get(node.domain, 1)
        known = schema(node.op, node.domain, version)
        types = {name: self._types[name][probe] for name in node.reads}
        if any(t.WhichOneof("value") is None for t in types.values()):
            return {}
        if known is None or not known.has_type_and_shape_inference_function:
            return _infer_foreign(node, types)
        contents = {name: c for name in node.inputs if (c := self._show(name, probe)) is not None}
        try:
            return shape_inference.infer_node_outputs(
                known,
                node_proto(node, version),
                types,
                contents,
                opset_imports=self._opsets,
                ir_version=max(self._graph.ir_version, 4),
            )
        except Exception:  # the model contradicts itself, or the operator's inference has a fault: unknown
            self.faulty.add(node.name)
            return None

    def _infer_loosely(self, node: Node, probe: int) -> Mapping[str, onnx.TypeProto]:
        """The types in a probe whose sizes the network does not take, by what all probes say of the inputs."""
        found = self._infer_as_stated(node, self._probes[probe])
        return {} if found is None else found

    def _contradicts(self, node: Node) -> bool:
        """Whether inference fails on the shapes as the graph will state them."""
        return self._infer_as_stated(node, None) is None

    def _infer_as_stated(self, node: Node, probe: Probe | None) -> Mapping[str, onnx.TypeProto] | None:
        """The types by the shapes as the graph will state them, with the sizes of a probe; None if they contradict."""
        from onnx import shape_inference

        version = self._graph.opsets.get(node.domain, 1)
        known = schema(node.op, node.domain, version)
        if known is None:
            return {}
        described = {name: self.describe(Value(name, "", None)) for name in node.reads}
        types = {
            name: type_proto(
                value.dtype, value.shape if probe is None or value.shape is None else at(value.shape, probe)
            )
            for name, value in described.items()
        }
        contents = {
            name: c for name in node.inputs if name in self._constants and (c := self._show(name, 0)) is not None
        }
        proto = node_proto(node, version)
        try:
            return shape_inference.infer_node_outputs(known, proto, types, contents, opset_imports=self._opsets)
        except Exception:  # whatever onnx raises
            return None

    def _show(self, name: str, probe: int) -> onnx.TensorProto | None:
        """A small known content, for operators whose output shape depends on it."""
        array = self._content(name, probe)
        if array is None or array.size > _LARGEST_SHOWN:
            return None
        if (name, probe) not in self._shown:
            self._shown[name, probe] = tensor_proto(name, array)
        return self._shown[name, probe]

    # Contents

    def _content(self, name: str, probe: int) -> Array | None:
        if name in self._constants:
            return self._constants[name]
        return self._varying[name][probe] if name in self._varying else None

    def _compute(self, node: Node) -> None:
        """Compute the node's outputs if their content can be known."""
        results = self._results(node)
        if not results or any(result is None for result in results):
            return
        complete = [result for result in results if result is not None]
        weighs = not self._weights.isdisjoint(node.inputs)
        for index, output in enumerate(filter(None, node.outputs)):
            contents = tuple(result[index] for result in complete)
            if all(_same(contents[0], other) for other in contents[1:]):
                self._constants[output] = contents[0]
                self._types[output] = (type_proto(contents[0].dtype.name, contents[0].shape),) * len(self._probes)
            else:
                self._varying[output] = contents
                self._types[output] = tuple(type_proto(c.dtype.name, c.shape) for c in contents)
            if weighs:
                self._weights.add(output)

    def _results(self, node: Node) -> list[tuple[Array, ...] | None]:
        """The outputs in each probe, or once if they cannot differ; None where they cannot be known."""
        if node.op in ("Shape", "Size") and not node.domain:
            return [self._measure(node, probe) for probe in range(len(self._probes))]
        if self._chooses_nothing(node):
            contents = [self._content(node.inputs[1], probe) for probe in range(len(self._probes))]
            return [None if content is None else (content,) for content in contents]
        if not self._computable(node):
            return []
        count = len(self._probes) if any(name in self._varying for name in node.inputs) else 1
        opset = self._graph.opset
        return [evaluate(node, [self._content(i, p) if i else None for i in node.inputs], opset) for p in range(count)]

    def _chooses_nothing(self, node: Node) -> bool:
        """A choice of one number between twice the same."""
        if node.op != "Where" or node.domain or node.inputs[1] != node.inputs[2]:
            return False
        return all(read_type(stated)[1] in ((), (1,)) for stated in self._types[node.inputs[0]])

    def _measure(self, node: Node, probe: int) -> tuple[Array, ...] | None:
        """The content of a Shape or Size: known as soon as its input's shape is."""
        _, shape = read_type(self._types[node.inputs[0]][probe])
        if shape is None or not dims.is_static(shape):
            return None
        sizes = np.array(shape, np.int64)
        if node.op == "Size":
            return (frozen(np.array(sizes.prod(), np.int64)),)
        start, end = node.attributes.get("start", 0), node.attributes.get("end", len(shape))
        assert isinstance(start, int) and isinstance(end, int)
        return (frozen(sizes[start:end]),)

    def _computable(self, node: Node) -> bool:
        """Whether the inputs are known, and computing the outputs is allowed and worth it."""
        inputs = [name for name in node.inputs if name]
        if not inputs or not foldable(node) or not all(n in self._constants or n in self._varying for n in inputs):
            return False
        if not self._weights.isdisjoint(inputs) and not self._fold_params:
            return False
        if any(name in self._varying for name in inputs):  # shape arithmetic; large tensors of it are of no use
            return self._size(node) <= _LARGEST_RESULT
        data = self._constants[inputs[0]]
        if node.op in LAYOUT:
            shared = len(self._graph.consumers.get(inputs[0], ())) > 1 and inputs[0] in self._graph.params
            widens = node.op == "Cast" and not is_float(data)
            return data.size <= _LARGEST_RESULT or not (shared or widens)
        return self._size(node) <= (_LARGEST_CHEAP if node.op in CHEAP else _LARGEST_RESULT)

    def _size(self, node: Node) -> int:
        """Elements of the outputs, and of the inputs where the outputs' shapes are not known."""
        total = 0
        for types in (self._types[output] for output in node.outputs if output):
            for inferred in types:
                _, shape = read_type(inferred)
                elements = None if shape is None else dims.product(shape)
                if not isinstance(elements, int):
                    contents = [self._content(name, 0) for name in node.inputs if name]
                    elements = sum(c.size for c in contents if c is not None)
                total = max(total, elements)
        return total


def _infer_foreign(node: Node, types: Mapping[str, onnx.TypeProto]) -> Mapping[str, onnx.TypeProto]:
    """For operators that ONNX has no schema for, or whose schema says nothing of types."""
    try:
        found = foreign_types(node, [read_type(types[name]) if name else NONE for name in node.inputs])
    except Exception:  # the node contradicts itself: unknown
        return {}
    return {name: type_proto(*known) for name, known in zip(node.outputs, found, strict=False) if name and known[0]}


def _completed(inferred: onnx.TypeProto | None, stated: onnx.TypeProto) -> onnx.TypeProto:
    """The inferred type, with what only the graph states filled in."""
    if inferred is None or inferred.WhichOneof("value") is None:
        return stated
    if inferred.WhichOneof("value") != "tensor_type":
        return inferred
    dtype, shape = read_type(inferred)
    stated_dtype, stated_shape = read_type(stated)
    if shape is None:
        shape = stated_shape
    elif stated_shape is not None and len(stated_shape) == len(shape):
        shape = tuple(s if i == dims.UNKNOWN else i for i, s in zip(shape, stated_shape, strict=True))
    return type_proto(dtype or stated_dtype, shape)


def _same(first: Array, second: Array) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))
