"""Shapes of all values, with shape arithmetic and other constants folded away.

One walk over the nodes interprets the graph abstractly: for every value its type, and its content
where that is known. Operators' own inference (onnx) gives types; known inputs are computed.
Dynamic dimensions are dealt with by probing: the walk carries two concrete sizes for every symbol
side by side. A dimension that comes out equal is static; one that scales with a symbol is that
symbol's multiple; anything else is `"?"`. A content that comes out equal is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Dim, Graph, Node, Shape, Value, frozen, verify
from amcc.passes import dims
from amcc.passes.evaluate import LAYOUT, evaluate, foldable
from amcc.passes.inputs import bind_inputs
from amcc.passes.protos import node_proto, read_type, schema, tensor_proto, type_proto

if TYPE_CHECKING:
    import onnx

# Elements of the largest result that is computed by anything but a layout operator.
_LARGEST_RESULT = 1 << 16
# Elements of the largest content that operators' own inference is shown (targets, axes, sizes).
_LARGEST_HINT = 1 << 10


def infer(graph: Graph, *, input_shapes: Mapping[str, Shape] | None = None, fold_params: bool = True) -> Graph:
    """The graph with every shape that can be known, constants folded and dead code removed.

    Args:
        input_shapes: sizes for dynamic dimensions of inputs; see `inputs.bind_inputs`.
        fold_params: also fold what is computed from float parameters; without it parameters keep
            the names and shapes they have.

    Raises:
        ModelError: an input's shape is unknown, or contradicted by `input_shapes`.
    """
    if input_shapes or any(_open(graph.values[name]) for name in graph.inputs):
        graph = bind_inputs(graph, input_shapes or {})
    walk = _Walk(graph, _probes(graph), fold_params)
    nodes = [node for node in map(walk.visit, graph.nodes) if node is not None]
    params = {**graph.params, **walk.folded}
    values = {name: walk.describe(value) for name, value in graph.values.items()}
    for name, array in params.items():
        values[name] = Value(name, array.dtype.name, array.shape)
    inferred = graph.replace(nodes=tuple(nodes), params=params, values=values).live()
    verify(inferred, after="shape inference")
    return inferred


def _open(value: Value) -> bool:
    return value.shape is None or "?" in value.shape


def _probes(graph: Graph) -> tuple[dict[str, int], ...]:
    """Two sizes for every symbol of the inputs; no symbol, one empty probe.

    Multiples of 240, so that a batch that holds folded windows or frames divides; with distinct
    prime factors, so that symbols are told apart.
    """
    symbols = dims.symbols(d for name in graph.inputs for d in graph.values[name].shape or ())
    if not symbols:
        return ({},)
    primes = [p for p in range(7, 12 * len(symbols) + 30) if all(p % q for q in range(2, p))]
    first = {symbol: 240 * primes[2 * i] for i, symbol in enumerate(symbols)}
    second = {symbol: 240 * primes[2 * i + 1] for i, symbol in enumerate(symbols)}
    return first, second


class _Walk:
    """What is known of every value in each probe."""

    def __init__(self, graph: Graph, probes: Sequence[Mapping[str, int]], fold_params: bool) -> None:
        from onnx import helper

        self.graph = graph
        self.probes = probes
        self.fold_params = fold_params
        self.opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
        self.constants: dict[str, Array] = dict(graph.params)
        self.varying: dict[str, tuple[Array, ...]] = {}
        self.folded: dict[str, Array] = {}
        self.alias: dict[str, str] = {}
        self.weights = {n for n, a in graph.params.items() if a.dtype.kind in "fV" and a.size > 1}
        self.types: dict[str, tuple[onnx.TypeProto, ...]] = {}
        self._hints: dict[int, onnx.TensorProto] = {}
        for name in graph.params:
            self.types[name] = (type_proto(graph.values[name].dtype, graph.values[name].shape),)
        for name in graph.inputs:
            self.types[name] = self._stated(graph.values[name])

    def visit(self, node: Node) -> Node | None:
        """Interpret one node; None when it is folded away."""
        if self.alias:
            node = node.replace(inputs=tuple(self.alias.get(i, i) for i in node.inputs))
        if self._forwards(node):
            self.alias[node.outputs[0]] = node.inputs[0]
            return None
        self._infer_types(node)
        if not self._compute(node):
            return node
        outputs = [o for o in node.outputs if o]
        if set(outputs) & set(self.graph.outputs) or not all(o in self.constants for o in outputs):
            return node
        self.folded.update((o, self.constants[o]) for o in outputs)
        return None

    def _forwards(self, node: Node) -> bool:
        """An Identity of a parameter: its readers read the parameter itself, which stays shared."""
        if node.op != "Identity" or node.domain or not self.fold_params:
            return False
        output = node.outputs[0]
        readers = self.graph.consumers.get(output, ())
        return (
            node.inputs[0] in self.constants
            and output not in self.graph.outputs
            and all(
                output in reader.inputs and output not in reader.reads[len(list(filter(None, reader.inputs))) :]
                for reader in readers
            )
        )

    # Types

    def _infer_types(self, node: Node) -> None:
        reads = list(dict.fromkeys(node.reads))
        given = [self.types[name] for name in reads]
        contents = [name for name in reads if name in self.varying]
        count = len(self.probes) if contents or any(len(t) > 1 for t in given) else 1
        inferred = [self._infer_once(node, reads, probe) for probe in range(count)]
        for output in filter(None, node.outputs):
            stated = self._stated(self.graph.values[output])
            types = [
                _completed(result.get(output), stated[min(probe, len(stated) - 1)])
                for probe, result in enumerate(inferred)
            ]
            if (
                count == 1
                and len(stated) > 1
                and any(t != types[0] for t in (_completed(inferred[0].get(output), s) for s in stated))
            ):
                types = [_completed(inferred[0].get(output), s) for s in stated]
            self.types[output] = tuple(types)

    def _infer_once(self, node: Node, reads: Sequence[str], probe: int) -> Mapping[str, onnx.TypeProto]:
        from onnx import shape_inference

        known = schema(node.op, node.domain, self.graph.opsets.get(node.domain, 1))
        if known is None:
            return {}
        types = {name: self._type(name, probe) for name in reads}
        if any(t.WhichOneof("value") is None for t in types.values()):
            return {}
        proto = node_proto(node, self.graph.opsets.get(node.domain, 1))
        data = {n: h for n in node.inputs if n and (h := self._hint(n, probe)) is not None}
        try:
            return shape_inference.infer_node_outputs(
                known, proto, types, data, opset_imports=self.opsets, ir_version=max(self.graph.ir_version, 4)
            )
        except Exception:  # a contradiction in the model, or a fault of the operator's inference: unknown
            return {}

    def _type(self, name: str, probe: int) -> onnx.TypeProto:
        types = self.types[name]
        return types[min(probe, len(types) - 1)]

    def _stated(self, value: Value) -> tuple[onnx.TypeProto, ...]:
        """What the graph already says of a value, in each probe."""
        if value.shape is None or dims.is_static(value.shape):
            return (type_proto(value.dtype, value.shape),)
        shapes = [[dims.evaluate(d, probe) for d in value.shape] for probe in self.probes]
        return tuple(type_proto(value.dtype, tuple("?" if d is None else d for d in shape)) for shape in shapes)

    def _hint(self, name: str, probe: int) -> onnx.TensorProto | None:
        array = self._content(name, probe)
        if array is None or array.size > _LARGEST_HINT:
            return None
        if id(array) not in self._hints:
            self._hints[id(array)] = tensor_proto(name, array)
        return self._hints[id(array)]

    # Contents

    def _content(self, name: str, probe: int) -> Array | None:
        if name in self.constants:
            return self.constants[name]
        return self.varying[name][probe] if name in self.varying else None

    def _compute(self, node: Node) -> bool:
        """Compute the outputs if their content is known; whether it is."""
        if not foldable(node):
            return False
        if node.op in ("Shape", "Size"):
            results = [self._measure(node, probe) for probe in range(len(self.probes))]
        elif self._computable(node):
            count = len(self.probes) if any(i in self.varying for i in node.inputs) else 1
            results = [self._run(node, probe) for probe in range(count)]
        else:
            return False
        complete = [r for r in results if r is not None]
        if len(complete) < len(results):
            return False
        tainted = any(i in self.weights for i in node.inputs)
        for index, output in enumerate(o for o in node.outputs if o):
            contents = tuple(result[index] for result in complete)
            if all(_same(contents[0], c) for c in contents[1:]):
                self.constants[output] = contents[0]
            else:
                self.varying[output] = contents
            self.types[output] = tuple(type_proto(c.dtype.name, c.shape) for c in contents)
            if tainted:
                self.weights.add(output)
        return True

    def _computable(self, node: Node) -> bool:
        inputs = [i for i in node.inputs if i]
        if not inputs or not all(i in self.constants or i in self.varying for i in inputs):
            return False
        if not self.fold_params and any(i in self.weights for i in inputs):
            return False
        if node.op in LAYOUT:
            data = node.inputs[0]
            shared = len(self.graph.consumers.get(data, ())) > 1 and data in self.graph.params
            return not (shared and self.constants[data].size > _LARGEST_RESULT)
        for output in filter(None, node.outputs):
            for inferred in self.types[output]:
                shape = read_type(inferred)[1]
                size = None if shape is None else dims.product(shape)
                if not isinstance(size, int) or size > _LARGEST_RESULT:
                    return False
        return True

    def _run(self, node: Node, probe: int) -> tuple[Array, ...] | None:
        inputs = [self._content(i, probe) if i else None for i in node.inputs]
        return evaluate(node, inputs, self.graph.opset)

    def _measure(self, node: Node, probe: int) -> tuple[Array, ...] | None:
        """The content of a Shape or Size node: known as soon as its input's shape is."""
        shape = read_type(self._type(node.inputs[0], probe))[1]
        if shape is None or not dims.is_static(shape):
            return None
        sizes = np.array(shape, np.int64)
        if node.op == "Size":
            return (frozen(np.array(sizes.prod(), np.int64)),)
        start, end = node.attributes.get("start", 0), node.attributes.get("end", len(shape))
        assert isinstance(start, int) and isinstance(end, int)
        return (frozen(sizes[start:end]),)

    # The result

    def describe(self, value: Value) -> Value:
        """The value with what the probes agree on."""
        types = self.types.get(value.name)
        if types is None:
            return value
        read = [read_type(t) for t in types]
        dtype = read[0][0] or value.dtype
        shapes = [shape for _, shape in read]
        ranks = {None if shape is None else len(shape) for shape in shapes}
        if len(ranks) > 1 or None in ranks:
            return Value(value.name, dtype, None)
        return Value(
            value.name, dtype, tuple(self._merge(sizes) for sizes in zip(*(s or () for s in shapes), strict=True))
        )

    def _merge(self, sizes: Sequence[Dim]) -> Dim:
        """One dimension from its size in each probe."""
        if not dims.is_static(sizes):
            return "?"
        if len(set(sizes)) == 1:
            return sizes[0]
        symbols = sorted(self.probes[0])
        for count in (1, 2):
            for chosen in combinations_with_replacement(symbols, count):
                factors = {
                    dims.quotient(size, dims.evaluate("*".join(chosen), probe) or 0)
                    for size, probe in zip(sizes, self.probes, strict=True)
                }
                if len(factors) == 1 and isinstance(factor := factors.pop(), int):
                    return dims.text(factor, chosen)
        return "?"


def _completed(inferred: onnx.TypeProto | None, stated: onnx.TypeProto) -> onnx.TypeProto:
    """The inferred type, with what only the file states filled in."""
    if inferred is None or inferred.WhichOneof("value") is None:
        return stated
    dtype, shape = read_type(inferred)
    known_dtype, known = read_type(stated)
    if known is None or (shape is not None and (len(shape) != len(known) or dims.is_static(shape))):
        return inferred if dtype else type_proto(known_dtype, shape)
    filled = (
        known
        if shape is None
        else tuple(
            d if isinstance(d, int) else k if isinstance(k, int) else "?" for d, k in zip(shape, known, strict=True)
        )
    )
    return type_proto(dtype or known_dtype, filled)


def _same(first: Array, second: Array) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))
