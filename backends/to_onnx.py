"""The IR into ONNX."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from amcc import __version__
from amcc.backends.bodies import described, node_protos
from amcc.errors import OutputError
from amcc.ir import Array, Graph
from amcc.passes.protos import element_type, tensor_proto
from amcc.passes.wire import is_plain, write_array, write_model

if TYPE_CHECKING:
    import onnx

# Protocol buffers end at 2 GB; beyond this many bytes of weights they go beside the file.
_LARGEST_EMBEDDED = 1_800_000_000
# Bytes of the smallest tensor that is written on its own; shape inference wants small ones inside.
_SMALLEST_APART = 1024
# Offsets are multiples of a page for tensors of at least a page, so that runtimes can map them.
_PAGE = 4096

TensorWriter = Callable[[str, Array], "onnx.TensorProto"]


def to_onnx(graph: Graph, *, value_info: bool = True) -> onnx.ModelProto:
    """The graph as an ONNX model with its weights inside.

    Operator sets, IR version, metadata and all names stay; dynamic dimensions keep their symbols.

    Args:
        value_info: also write the shapes of intermediate values.
    """
    return build_model(graph, tensor_proto, value_info=value_info)


def build_model(graph: Graph, write_tensor: TensorWriter, *, value_info: bool = True) -> onnx.ModelProto:
    """The graph as an ONNX model whose initializers `write_tensor` makes."""
    from onnx import GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto

    proto = GraphProto(name=graph.name or "graph")
    proto.node.extend(node_protos(graph))
    proto.initializer.extend(write_tensor(name, array) for name, array in graph.params.items())
    proto.input.extend(described(graph.values[name]) for name in graph.inputs)
    if graph.ir_version < 4:  # every initializer was an input then
        proto.input.extend(described(graph.values[name]) for name in graph.params)
    proto.output.extend(described(graph.values[name]) for name in graph.outputs)
    if value_info:
        ends = {*graph.inputs, *graph.outputs, *graph.params}
        inner = (graph.values[o] for node in proto.node for o in node.output if o and o not in ends)
        proto.value_info.extend(described(value) for value in inner if value.dtype and value.shape is not None)
    return ModelProto(
        ir_version=graph.ir_version,
        opset_import=[OperatorSetIdProto(domain=d, version=v) for d, v in graph.opsets.items()],
        producer_name="amcc",
        producer_version=__version__,
        graph=proto,
        metadata_props=[StringStringEntryProto(key=k, value=v) for k, v in graph.metadata.items()],
    )


def write_onnx(graph: Graph, path: str | Path, *, external: bool | None = None) -> None:
    """Write the graph as an ONNX file; nothing half-written is ever under its name.

    The same graph gives the same bytes. Large weights are written straight from their arrays.

    Args:
        external: put the weights into `<file name>.data` beside the file; by default only when they
            are too large for one file.

    Raises:
        OutputError: the files cannot be written.
    """
    path = Path(path)
    if external is None:
        external = sum(array.nbytes for array in graph.params.values()) > _LARGEST_EMBEDDED
    layout = _Layout(f"{path.name}.data" if external else "")
    model = build_model(graph, layout.place)
    try:
        if external:
            _replace(path.with_name(layout.location), layout.write)
        _replace(path, lambda file: write_model(file, model, layout.inside))
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(path)) from None


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name first, then put it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Layout:
    """Where each large tensor's bytes go: into the model file, or the data file `location` beside it."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.inside: dict[str, Array] = {}
        self.beside: list[tuple[int, Array]] = []
        self.end = 0

    def place(self, name: str, array: Array) -> onnx.TensorProto:
        from onnx import StringStringEntryProto, TensorProto

        if array.nbytes < _SMALLEST_APART or not is_plain(array):
            return tensor_proto(name, array)
        tensor = TensorProto(name=name, dims=array.shape, data_type=element_type(array.dtype.name))
        if not self.location:
            self.inside[name] = array
            return tensor
        alignment = _PAGE if array.nbytes >= _PAGE else 64
        offset = -(-self.end // alignment) * alignment
        self.end = offset + array.nbytes
        self.beside.append((offset, array))
        entries = {"location": self.location, "offset": str(offset), "length": str(array.nbytes)}
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.extend(StringStringEntryProto(key=k, value=v) for k, v in entries.items())
        return tensor

    def write(self, file: BinaryIO) -> None:
        """The data file, one tensor at a time."""
        for offset, array in self.beside:
            file.write(b"\0" * (offset - file.tell()))
            write_array(file, array)
