"""Run a graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.backends.draws import settle
from amcc.backends.precision import as_float32, wants_float32
from amcc.backends.to_onnx import build_model
from amcc.errors import DataError, ModelError, RunError
from amcc.ir import Array, Graph, Opaque
from amcc.passes.batching import batching
from amcc.passes.protos import element_type, form, tensor_proto

if TYPE_CHECKING:
    import onnx
    import onnxruntime

# Bytes up to which a tensor is put into the model itself; larger ones are lent to the runtime uncopied.
_LARGEST_EMBEDDED = 1024
# An IR version that every runtime of the last years accepts; later ones add nothing that is used here.
_COMMON_IR = 10
# The runtime's option that leaves quantised operators as they are written.
LITERAL = "session.disable_quant_qdq"
# How many operator sets the runtime may be behind the onnx package.
_LATE = 6


class Session:
    """A graph made ready to run.

    Weights are lent to ONNX Runtime, not copied. A graph whose batch is fixed runs any number of
    samples, and pads the last run; inputs that are shared go into every run (`amcc.passes.batching`).
    Random operators draw the same numbers in every session (`amcc.backends.draws`).

    Args:
        outputs: names of the values to give back, intermediate ones included; by default the graph's.
        threads: for one operator; 0 takes every core.
        literal: quantised operators as they are written; the runtime's fusions of them round otherwise.

    Attributes:
        precision: `"float32"` when the runtime lacks the graph's own precision and a float32 copy
            runs instead, else the graph's own.

    Raises:
        ModelError: ONNX Runtime refuses the graph.
    """

    def __init__(
        self, graph: Graph, *, outputs: Sequence[str] | None = None, threads: int = 0, literal: bool = False
    ) -> None:
        self._batching = batching(graph)
        if outputs is not None:
            if unknown := [name for name in outputs if name not in graph.values]:
                raise ModelError(f"the graph has no value '{unknown[0]}'")
            graph = graph.replace(outputs=tuple(dict.fromkeys(outputs))).live()
        self.outputs = graph.outputs
        self.precision = _float_type(graph)
        self._threads = threads
        self._literal = literal
        if wants_float32(graph):
            self._open_as_float32(graph)
            return
        try:
            self._open(graph)
        except NotImplementedError as error:
            if self.precision == "float32":
                raise ModelError(f"ONNX Runtime cannot run the model: {error}") from None
            self._open_as_float32(graph)

    def _open_as_float32(self, graph: Graph) -> None:
        self.precision = "float32"
        try:
            self._open(as_float32(graph))
        except NotImplementedError as error:
            raise ModelError(f"ONNX Runtime cannot run the model: {error}") from None

    def _open(self, graph: Graph) -> None:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unimplemented

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads
        if self._literal:
            options.add_session_config_entry(LITERAL, "1")
        self._passed = {name for name in graph.outputs if name in graph.inputs}
        self._constants = {name: graph.params[name] for name in graph.outputs if name in graph.params}
        self._inputs = {name: graph.values[name] for name in graph.inputs}
        self._made = [o for o in graph.outputs if o not in self._passed and o not in self._constants]
        if not self._made:
            return
        lent = _Lent()
        ir_version = min(max(graph.ir_version, 4), _COMMON_IR)
        runs = graph.replace(outputs=tuple(self._made), ir_version=ir_version).live()
        model = build_model(runs, lent.place, value_info=False)
        settle(model)
        options.add_external_initializers(list(lent.values), list(lent.values.values()))
        self._lent = lent
        for version in _stamps(runs):
            for opset in model.opset_import:
                opset.version = opset.version if opset.domain else version
            try:
                self._session = onnxruntime.InferenceSession(
                    model.SerializeToString(), options, providers=["CPUExecutionProvider"]
                )
                return
            except Unimplemented as error:
                raise NotImplementedError(_message(error)) from None
            except Exception as error:  # the runtime's exceptions have no common base but this
                failure = ModelError(f"ONNX Runtime refuses the model: {_message(error)}")
                if "opset" not in str(error).lower():
                    break
        raise failure from None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs, by name. Floats are cast to the precision that runs.

        Raises:
            DataError: an input is missing or has the wrong shape or type.
            RunError: an operator fails; names it.
        """
        inputs = {name: self._checked(name, feeds) for name in self._inputs}
        if not self._batching.size:
            return self._run(inputs)
        count = self._batching.count(inputs)
        if count == self._batching.size:
            return self._run(inputs)
        if not count:
            raise DataError("no samples to run")
        return self._run_in_parts(inputs, count, self._batching.size)

    def _checked(self, name: str, feeds: Mapping[str, Array]) -> Array:
        value = self._inputs[name]
        if name not in feeds:
            raise DataError(f"no data for input '{name}'", hint=f"the model's inputs are {', '.join(self._inputs)}")
        if not value.dtype or value.dtype.endswith(")"):
            return feeds[name]  # a sequence, an optional or a map: the runtime checks it
        array = np.asarray(feeds[name])
        shape = value.shape
        if shape is not None and (
            len(shape) != array.ndim
            or any(isinstance(d, int) and d != n for d, n in zip(shape[1:], array.shape[1:], strict=True))
        ):
            raise DataError(f"input '{name}' has shape {list(shape)}, the data {list(array.shape)}")
        target = np.dtype(value.dtype)
        if array.dtype != target:
            if not (np.can_cast(array.dtype, target, "same_kind") or array.dtype.kind == target.kind == "V"):
                raise DataError(f"input '{name}' is {target.name}, the data {array.dtype.name}")
            array = array.astype(target)
        return np.ascontiguousarray(array) if array.ndim else array

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            results = self._session.run(self._made, dict(inputs)) if self._made else []
        except Exception as error:  # the runtime's exceptions have no common base but this
            raise RunError(f"ONNX Runtime fails: {_message(error)}") from None
        found = {**dict(zip(self._made, results, strict=True)), **self._constants, **inputs}
        return {name: found[name] for name in self.outputs}

    def _run_in_parts(self, inputs: Mapping[str, Array], count: int, batch: int) -> dict[str, Array]:
        """Run a fixed batch again and again; the last part is padded with its last sample.

        An output that does not divide into samples is repeated for each of its run's: `[samples, ...]`.
        """
        parts: list[dict[str, Array]] = []
        for start in range(0, count, batch):
            chosen = np.minimum(np.arange(start, start + batch), count - 1)
            parts.append(self._run(self._batching.take(inputs, chosen)))
        joined: dict[str, Array] = {}
        for name in self.outputs:
            if name in self._constants:
                joined[name] = self._constants[name]
                continue
            arrays = [np.asarray(part[name]) for part in parts]
            if any(not array.ndim or len(array) % batch for array in arrays):
                arrays = [np.broadcast_to(array, (batch, *array.shape)) for array in arrays]
            joined[name] = np.concatenate(arrays)[: count * (len(arrays[0]) // batch)]
        return joined


class _Lent:
    """Tensors that the runtime reads where they are."""

    def __init__(self) -> None:
        self.values: dict[str, onnxruntime.OrtValue] = {}

    def place(self, name: str, array: Array) -> onnx.TensorProto:
        import onnxruntime
        from onnx import StringStringEntryProto, TensorProto

        if array.nbytes <= _LARGEST_EMBEDDED or array.dtype.kind not in "biufc":
            return tensor_proto(name, array)
        self.values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        return TensorProto(
            name=name,
            dims=array.shape,
            data_type=element_type(array.dtype.name),
            data_location=TensorProto.EXTERNAL,
            external_data=[StringStringEntryProto(key="location", value="memory")],
        )


def _stamps(graph: Graph) -> Iterator[int]:
    """The graph's operator set version, then older ones that spell each of its operators alike.

    The onnx package knows operator sets that the runtime does not accept yet. Most of their operators
    differ from the older ones in the types they allow, nothing else.
    """
    yield graph.opset
    if any(isinstance(a, Opaque) for node in graph.nodes for a in node.attributes.values()):
        return
    operators = {node.op for node in graph.nodes if not node.domain}
    for version in range(graph.opset - 1, max(graph.opset - _LATE, 0), -1):
        if any(form(op, version) != form(op, graph.opset) for op in operators):
            return
        yield version


def _float_type(graph: Graph) -> str:
    """The float type that the graph's inputs, or else its parameters, have."""
    for name in (*graph.inputs, *graph.params):
        if "float" in (dtype := graph.values[name].dtype):
            return dtype
    return "float32"


def _message(error: Exception) -> str:
    """The runtime's message without its error code and source position."""
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1][:600]
