"""Tensors without elements, which exporters leave behind: nothing is read, written or learned of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto

from amcc import api
from amcc.errors import BudgetError
from tests.onnx_models import model, node, save

NONE = np.zeros(0, np.int64)
CONSTANTS = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "none": NONE,
    "no_rows": np.zeros((0, 2), np.int64),
    "no_updates": np.zeros(0, np.float32),
    "no_columns": np.zeros((2, 0), np.int64),
    "no_numbers": np.zeros((2, 0), np.float32),
    "all": np.array([8, 0]),
    "never": np.array([1, 0]),
    "no_weight": np.zeros((0, 8), np.float32),
}
SLICE = node("Slice", ["h", "zero", "zero", "one"], "e")
CASES: dict[str, list[NodeProto]] = {
    "Slice": [SLICE, node("Concat", ["h", "e"], "z", axis=1)],
    "Gather": [node("Gather", ["h", "none"], "e", axis=1), node("Concat", ["e", "h"], "z", axis=1)],
    "Split": [node("Split", ["h", "all"], ["z", "e"], axis=1)],
    "Tile": [node("Tile", ["h", "never"], "e"), node("Concat", ["h", "e"], "z", axis=1)],
    "ReduceSum": [SLICE, node("ReduceSum", ["e", "one"], "s"), node("Add", ["h", "s"], "z")],
    "MatMul": [SLICE, node("MatMul", ["e", "no_weight"], "s"), node("Add", ["h", "s"], "z")],
}
LOCKED: dict[str, list[NodeProto]] = {
    "ScatterND": [node("ScatterND", ["h", "no_rows", "no_updates"], "z")],
    "ScatterElements": [node("ScatterElements", ["h", "no_columns", "no_numbers"], "z", axis=1)],
    "GatherElements": [
        node("GatherElements", ["h", "no_columns"], "e", axis=1),
        node("Concat", ["h", "e"], "z", axis=1),
    ],
}


def _network(middle: list[NodeProto], folder: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("a", (6, 8)), ("b", (8, 4)))}
    read = {name for made in middle for name in made.input}
    nodes = [node("MatMul", ["x", "a"], "g"), node("Relu", ["g"], "h"), *middle, node("MatMul", ["z", "b"], "y")]
    constants = weights | {name: array for name, array in CONSTANTS.items() if name in read}
    return save(model(nodes, {"x": [2, 6]}, {"y": [2, 4]}, constants), folder)


@pytest.mark.parametrize("recover", ["none", "full"])
@pytest.mark.parametrize("case", CASES)
def test_a_network_with_an_empty_tensor_compiles(case: str, recover: str, tmp_path: Path) -> None:
    path = _network(CASES[case], tmp_path)
    result = api.compile(path, budget="flops=0.5", search="uniform", recover=recover)
    assert result.summary.certificate.error <= 1e-6
    assert result.summary.totals.macs.after <= result.summary.totals.macs.before / 2


@pytest.mark.parametrize("case", LOCKED)
def test_what_is_written_nowhere_is_locked_with_a_reason(case: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="nothing in this network can be pruned") as caught:
        api.compile(_network(LOCKED[case], tmp_path), budget="flops=0.5", search="uniform", recover="none")
    assert case in str(caught.value)
