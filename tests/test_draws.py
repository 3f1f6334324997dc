"""Networks that draw random numbers: every session draws the same, what is shipped draws as it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from amcc import api
from amcc.backends.runtime import Session
from amcc.frontends.load import load
from tests.onnx_models import model, node, save


def _noisy(draw: str, **options: float) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("a", (8, 16)), ("b", (16, 4)))}
    nodes = [
        node(draw, ["x"], ["noise"], **options),
        node("Add", ["x", "noise"], ["seen"]),
        node("MatMul", ["seen", "a"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "b"], ["y"]),
    ]
    return model(nodes, {"x": ["batch", 8]}, {"y": ["batch", 4]}, weights)


@pytest.mark.parametrize("draw", ["RandomNormalLike", "RandomUniformLike"])
def test_sessions_draw_alike_and_the_result_as_before(draw: str, tmp_path: Path) -> None:
    path = save(_noisy(draw), tmp_path)
    x = np.ones((3, 8), np.float32)
    first, second = (Session(load(path)).run({"x": x})["y"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    result = api.compile(path, budget="flops=0.5", search="uniform", recover="none")
    assert result.summary.certificate.passed
    (drawn,) = (n for n in result.onnx().graph.node if n.op_type == draw)
    assert not [a for a in drawn.attribute if a.name == "seed"]


def test_a_seed_of_the_users_stays(tmp_path: Path) -> None:
    x = np.ones((3, 8), np.float32)
    runs = []
    for seed in (1.0, 2.0):
        path = save(_noisy("RandomNormalLike", seed=seed), tmp_path, f"{seed}.onnx")
        runs.append(Session(load(path)).run({"x": x})["y"])
    assert np.abs(runs[0] - runs[1]).max() > 0.1
