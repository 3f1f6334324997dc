"""The cases of onnx.backend.test, as folders, and which of them count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

SUITES = ("node", "simple", "pytorch-operator", "pytorch-converted")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_NUMBERS = {
    *(f"FLOAT{bits}" for bits in ("", "16")),
    *("BFLOAT16", "DOUBLE", "BOOL"),
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
}


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        ops: the operators of its graph.
        left_out: why it does not count; nothing for those that do.
    """

    suite: str
    folder: Path
    ops: tuple[str, ...]
    left_out: str

    @property
    def name(self) -> str:
        return f"{self.suite}/{self.folder.name}"


def write(folder: Path) -> None:
    """Write the node cases as folders like those that the onnx package brings along."""
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        found = collect_testcases(None)  # type: ignore[arg-type]
    for case in found:
        within = folder / "node" / case.name
        for number, (inputs, outputs) in enumerate(case.data_sets):
            data = within / f"test_data_set_{number}"
            data.mkdir(parents=True, exist_ok=True)
            ends = (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output))
            for what, values, infos in ends:
                for index, (value, info) in enumerate(zip(values, infos, strict=True)):
                    (data / f"{what}_{index}.pb").write_bytes(_proto(value, info).SerializeToString())
        (within / "model.onnx").write_bytes(case.model.SerializeToString())


def _proto(value: Any, info: onnx.ValueInfoProto) -> Any:
    kind = info.type.WhichOneof("value")
    if kind == "tensor_type":
        return value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), info.name)
    return (numpy_helper.from_list if kind == "sequence_type" else numpy_helper.from_optional)(value, info.name)


def cases(folder: Path) -> Iterator[Case]:
    """All cases that do not need the network: the written ones, and those that the package brings along."""
    brought = Path(onnx.__file__).parent / "backend/test/data"
    for suite in SUITES:
        within = folder / suite if (folder / suite).is_dir() else brought / suite
        for found in sorted(within.iterdir()):
            if (found / "model.onnx").is_file():
                model = onnx.load(found / "model.onnx")
                yield Case(suite, found, tuple(sorted(set(_ops(model.graph)))), _left_out(model, found.name))


def _ops(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _ops(attribute.g)


def _left_out(model: onnx.ModelProto, name: str) -> str:
    ops = set(_ops(model.graph))
    if other := sorted(op for op in ops if "." in op):
        return f"domain {other[0].rpartition('.')[0]}"
    types = [_element(info.type) for info in (*model.graph.input, *model.graph.output, *model.graph.value_info)]
    if odd := sorted(set(types) - _NUMBERS):
        return f"type {odd[0].lower()}"
    if ops.intersection(RANDOM) or name.startswith("test_training_dropout"):
        return "random numbers"
    return ""


def _element(kind: onnx.TypeProto) -> str:
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return _element(getattr(kind, which).elem_type)
    return TensorProto.DataType.Name(kind.tensor_type.elem_type) if which == "tensor_type" else str(which)
