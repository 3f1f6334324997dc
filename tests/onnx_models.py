"""Small ONNX models, and what they give in ONNX Runtime, for the tests of frontend, shapes and backend."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from amcc.ir import Array

FLOAT = TensorProto.FLOAT


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] | str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, [outputs] if isinstance(outputs, str) else outputs, **attributes)


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str | None] | None],
    outputs: Sequence[str] | Mapping[str, Sequence[int | str | None] | None],
    params: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    dtype: int = FLOAT,
    domains: Mapping[str, int] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    """A model whose inputs and outputs all have one element type; outputs may come without shapes."""
    shapes = dict(outputs) if isinstance(outputs, Mapping) else dict.fromkeys(outputs)
    graph = helper.make_graph(
        list(nodes),
        "tested",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in (params or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, **more)


def save(made: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def runtime(source: Path | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    given = str(source) if isinstance(source, Path) else source
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def drawn(*shape: int, seed: int = 0) -> Array:
    """Normal float32 numbers, the same for the same shape and seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def light_models() -> list[Path]:
    """Real topologies with constant weights that the onnx package brings along."""
    return sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))


@functools.cache
def operator_cases(every: int = 3) -> list[Any]:
    """onnx's own test of every operator: a model and its data; one in three, to be quick."""
    from onnx.backend.test.case.node import collect_testcases

    if every > 1:
        return operator_cases(1)[::every]
    with np.errstate(all="ignore"):
        return sorted(collect_testcases(None), key=lambda case: str(case.name))
