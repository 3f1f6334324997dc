"""ONNX files into the IR."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amcc.errors import ModelError
from amcc.frontends.onnx_attributes import read_attribute
from amcc.frontends.onnx_checks import check_names, check_numbers, check_text
from amcc.frontends.onnx_file import read_model
from amcc.frontends.onnx_tensors import TensorReader
from amcc.ir import Array, Attribute, Graph, Node, Opaque, Shape, Value, frozen, topological, verify
from amcc.passes.inputs import bind_inputs
from amcc.passes.protos import read_type

if TYPE_CHECKING:
    import onnx


def from_onnx(path: str | Path, *, input_shapes: Mapping[str, Shape] | None = None) -> Graph:
    """Read an ONNX file.

    The shapes are those that the file states; `passes.shapes.infer` completes them. Constant nodes
    become parameters, model-local functions are inlined, operator sets before 7 are converted to 7.
    Parameters share the file's bytes where its encoding allows; external data is memory-mapped.

    Args:
        input_shapes: sizes for dynamic dimensions of inputs; see `passes.inputs.bind_inputs`. All
            but the leading one must get one.

    Raises:
        ModelError: the file cannot be read, is newer than the onnx package, or its graph is broken.
    """
    path = Path(path)
    model = read_model(path)
    try:
        check_text(model)
        graph = bind_inputs(_Builder(model.graph, TensorReader(path)).build(model), input_shapes or {})
    except ModelError as error:
        where = f"{path}: {error.where}" if error.where else str(path)
        raise ModelError(error.message, where=where, hint=error.hint) from None
    verify(graph, after="reading ONNX")
    return graph


def from_proto(model: onnx.ModelProto) -> Graph:
    """Read a model that is in memory, operator set 7 or later, without functions or external data.

    Raises:
        ModelError: its graph is broken.
    """
    graph = _Builder(model.graph, TensorReader(Path())).build(model)
    verify(graph, after="reading ONNX")
    return graph


# Where torch's exporter notes the submodules that a node is in, as the text of a list.
_SCOPES = "pkg.torch.onnx.name_scopes"


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
        check_names(graph)
        check_numbers(graph)
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
            source = _submodule(proto) or proto.name
            nodes.append(Node(name, proto.op_type, tuple(proto.input), outputs, attributes, domain, source))
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


def _submodule(proto: onnx.NodeProto) -> str:
    """The path of the PyTorch submodule that a node comes from, where torch's exporter noted it."""
    note = next((p.value for p in proto.metadata_props if p.key == _SCOPES), "")
    scopes = re.findall(r"'([^']*)'", note)
    return scopes[-2] if len(scopes) > 1 and not scopes[-2].startswith("_empty") else ""


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


_CONSTANT_TYPES: dict[str, type] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}


def _constant(attributes: Mapping[str, Attribute], where: str) -> Array:
    """The array of a Constant node, in any of its spellings."""
    if len(attributes) == 1:
        ((key, value),) = attributes.items()
        if key == "value" and isinstance(value, np.ndarray):
            return value
        if isinstance(value, Opaque) and key in ("value_floats", "value_strings"):
            return frozen(np.zeros(0, _CONSTANT_TYPES[key]))
        if key in _CONSTANT_TYPES:
            return frozen(np.array(value, _CONSTANT_TYPES[key]))
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
