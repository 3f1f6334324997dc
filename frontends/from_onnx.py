"""ONNX files into the IR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amcc.errors import ModelError
from amcc.frontends.onnx_attributes import read_attribute
from amcc.frontends.onnx_file import read_model
from amcc.frontends.onnx_tensors import TensorReader
from amcc.ir import Array, Attribute, Graph, Node, Shape, Value, frozen, topological, verify
from amcc.passes.protos import read_type

if TYPE_CHECKING:
    import onnx


def from_onnx(path: str | Path, *, input_shapes: Mapping[str, Shape] | None = None) -> Graph:
    """Read an ONNX file.

    The shapes are those that the file states; `passes.shapes.infer` completes them. Constant nodes
    become parameters, model-local functions are inlined, operator sets before 7 are converted to 7.
    Parameters share the file's bytes where its encoding allows; external data is memory-mapped.

    Args:
        input_shapes: sizes for dynamic dimensions of inputs; see `bind_inputs`.

    Raises:
        ModelError: the file cannot be read, is newer than the onnx package, or its graph is broken.
    """
    path = Path(path)
    model = read_model(path)
    reader = TensorReader(path.parent)
    graph = _Builder(model.graph, reader).build(model)
    if input_shapes:
        from amcc.passes.inputs import bind_inputs

        graph = bind_inputs(graph, input_shapes)
    verify(graph, after="reading ONNX")
    return graph


class _Builder:
    """Collects one graph's parts."""

    def __init__(self, proto: onnx.GraphProto, reader: TensorReader) -> None:
        self.proto = proto
        self.reader = reader
        self.params: dict[str, Array] = {}
        self.values: dict[str, Value] = {}

    def build(self, model: onnx.ModelProto) -> Graph:
        self._initializers()
        inputs = tuple(i.name for i in self.proto.input if i.name not in self.params)
        nodes = tuple(topological(self._nodes(inputs)))
        outputs = tuple(o.name for o in self.proto.output)
        if not outputs:
            raise ModelError("the graph has no outputs")
        self._describe(nodes)
        graph = Graph(
            nodes=nodes,
            inputs=inputs,
            outputs=outputs,
            values=self.values,
            params=self.params,
            opsets=_opsets(model),
            name=self.proto.name or "graph",
            ir_version=max(model.ir_version, 3),
            metadata={p.key: p.value for p in model.metadata_props},
        )
        _check_names(graph)
        _check_numbers(graph)
        return graph

    def _initializers(self) -> None:
        for tensor in self.proto.initializer:
            if tensor.name in self.params:
                raise ModelError(f"two initializers are called '{tensor.name}'")
            self.params[tensor.name] = self.reader.read(tensor, tensor.name)
        for sparse in self.proto.sparse_initializer:
            self.params[sparse.values.name] = _dense(sparse, self.reader)

    def _nodes(self, inputs: tuple[str, ...]) -> list[Node]:
        nodes: list[Node] = []
        taken = {node.name for node in self.proto.node if node.name}
        used: set[str] = set()
        for index, proto in enumerate(self.proto.node):
            domain = "" if proto.domain == "ai.onnx" else proto.domain
            where = f"{proto.op_type} '{proto.name or index}'"
            attributes = {a.name: read_attribute(a, self.reader, where) for a in proto.attribute}
            if proto.op_type == "Constant" and not domain:
                self.params[proto.output[0]] = _constant(attributes, where)
                continue
            name = proto.name
            if not name or name in used:
                name = _unique(f"{proto.name or proto.op_type}_{index}", taken | used)
            used.add(name)
            outputs = tuple(proto.output)
            nodes.append(Node(name, proto.op_type, tuple(proto.input), outputs, attributes, domain, proto.name))
        return nodes

    def _describe(self, nodes: Iterable[Node]) -> None:
        """A `Value` for every tensor: what the file says of it, or nothing."""
        for info in (*self.proto.input, *self.proto.value_info, *self.proto.output):
            self.values.setdefault(info.name, Value(info.name, *read_type(info.type)))
        for name, array in self.params.items():
            self.values[name] = Value(name, array.dtype.name, array.shape)
        for node in nodes:
            for output in node.outputs:
                if output:
                    self.values.setdefault(output, Value(output, "", None))


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _constant(attributes: Mapping[str, Attribute], where: str) -> Array:
    """The array of a Constant node, in any of its spellings."""
    if len(attributes) == 1:
        ((key, value),) = attributes.items()
        if key == "value" and isinstance(value, np.ndarray):
            return value
        if key in ("value_float", "value_floats"):
            return frozen(np.array(value, np.float32))
        if key in ("value_int", "value_ints"):
            return frozen(np.array(value, np.int64))
        if key in ("value_string", "value_strings"):
            return frozen(np.array(value, object))
        if key == "sparse_value":
            raise ModelError("sparse constants are not supported", where=where, hint="store the constant densely")
    raise ModelError(f"a Constant needs exactly one value, this has {sorted(attributes)}", where=where)


def _dense(sparse: onnx.SparseTensorProto, reader: TensorReader) -> Array:
    """A sparse initializer as a dense array. Indices are flat `[n]` or by axis `[n, rank]`."""
    name = sparse.values.name
    values = reader.read(sparse.values, name)
    indices = reader.read(sparse.indices, f"{name} (indices)")
    shape = tuple(sparse.dims)
    dense = np.zeros(shape, values.dtype)
    try:
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        dense.reshape(-1)[flat] = values
    except (ValueError, IndexError) as error:
        raise ModelError(f"its sparse indices do not fit {list(shape)}: {error}", where=f"tensor '{name}'") from None
    return frozen(dense)


def _check_names(graph: Graph) -> None:
    """Every name is made exactly once, and before it is read."""
    made: dict[str, str] = dict.fromkeys(graph.inputs, "a graph input") | dict.fromkeys(graph.params, "a parameter")
    for node in graph.nodes:
        for output in filter(None, node.outputs):
            if output in made:
                raise ModelError(f"makes '{output}', already made by {made[output]}", where=node.label)
            made[output] = node.label
    for node in graph.nodes:
        for read in node.reads:
            if read not in made:
                raise ModelError(f"reads '{read}', which nothing in the graph makes", where=node.label)
    for output in graph.outputs:
        if output not in made:
            raise ModelError(f"nothing in the graph makes the output '{output}'")


# Operators whose float parameters are trained weights; elsewhere an infinity can be meant (masks, bounds).
_WEIGHTED = frozenset(
    "Conv ConvTranspose Gemm MatMul BatchNormalization InstanceNormalization LayerNormalization "
    "GroupNormalization RMSNormalization PRelu LSTM GRU RNN DeformConv Einsum".split()
)


def _check_numbers(graph: Graph) -> None:
    """No parameter holds a NaN, no weight an infinity."""
    for name, array in graph.params.items():
        if array.dtype.kind not in "fcV" or array.dtype.names:
            continue
        users = graph.consumers.get(name, ())
        weighed = next((n for n in users if n.op in _WEIGHTED), None)
        for start in range(0, array.size, _CHUNK):
            part = array.reshape(-1)[start : start + _CHUNK]
            if np.isfinite(part).all():
                continue
            fault = "NaN" if np.isnan(part).any() else "infinity" if weighed else ""
            if fault:
                reader = (weighed or users[0]).label if users else "nothing"
                raise ModelError(
                    f"parameter '{name}' {list(array.shape)}, read by {reader}, contains {fault}",
                    hint="training diverged or the export is broken; use a sound checkpoint",
                )


_CHUNK = 1 << 20
