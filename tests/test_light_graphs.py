"""Real graphs that the onnx package carries: half their MACs, pure slices, on random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import amcc
from amcc.backends.runtime import Session
from amcc.frontends.load import load

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize("name", ["squeezenet", "resnet50"])
def test_a_light_graph_at_half_its_macs(name: str, tmp_path: Path) -> None:
    """`benchmarks/light_graphs.py` does all nine."""
    random = np.random.default_rng(0)
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    shapes = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    made = [node for node in model.graph.node if node.op_type == "ConstantOfShape" and node.input[0] in shapes]
    for node in made:
        model.graph.node.remove(node)
        shape = tuple(shapes[node.input[0]].tolist())
        array = random.standard_normal(shape, np.float32) * np.float32((2 / max(1, np.prod(shape[1:]))) ** 0.5)
        array = np.abs(array) + np.float32(0.5) if len(shape) == 1 else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    path = tmp_path / f"{name}.onnx"
    onnx.save(model, path)
    result = amcc.compile(path, budget="flops=0.5", search="uniform", recover="none", out=tmp_path / "out", emit="onnx")
    assert 0.49 < result.summary.totals.macs.ratio <= 0.5
    assert result.summary.certificate.error <= 1e-4
    shipped = load(tmp_path / "out" / "model.onnx")
    feeds = {n: random.standard_normal((1, *shipped.shape(n)[1:])).astype(np.float32) for n in shipped.inputs}  # type: ignore[misc]
    assert all(np.isfinite(a).all() for a in Session(shipped).run(feeds).values())
