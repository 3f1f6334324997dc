"""torch's as_strided, as its exporter spells it for a batch that run time knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.load import load
from amcc.passes.channels import analyze
from amcc.passes.in_order import gathers_in_order
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.rule_rows.row import C, Row
from tests.test_exactness import check
from tests.test_rules import build


def _strided(b: Builder, x: str, sample: int, channel: int, backwards: bool = False) -> str:
    """Flat, then gathered at `sample * i + channel * j`."""
    count = b.op("Squeeze", b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1)))
    samples = b.op("Range", b.constant(np.int64(0)), count, b.constant(np.int64(1)))
    rows = b.op("Reshape", b.op("Mul", samples, b.ints(sample)), b.ints(-1, 1, 1, 1))
    order = np.arange(C)[:: -1 if backwards else 1] * channel
    places = b.op("Add", rows, b.constant(order.reshape(1, C, 1, 1)))
    return b.op("Gather", b.op("Reshape", b.op("GlobalAveragePool", x), b.ints(-1)), places)


def _model(path: Path, *strides: int, backwards: bool = False) -> onnx.ModelProto:
    row = Row(lambda b, x: _strided(b, x, *strides, backwards=backwards), (C, 1, 1), batch="batch")
    model, _ = build(row)
    onnx.save(model, path)
    return model


def test_what_reads_everything_in_order_is_a_reshape(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = _model(path, C, 1)
    assert not any(node.op == "Gather" for node in load(path).nodes)
    assert "w0" in {s.param for group in analyze(load(path)).groups for s in group.slices if s.axis == 0}
    check(model, path, 0)


@pytest.mark.parametrize(("strides", "backwards"), [((1, 1), False), ((C, 0), False), ((C, 1), True)])
def test_any_other_order_stays(strides: tuple[int, int], backwards: bool, tmp_path: Path) -> None:
    _model(tmp_path / "model.onnx", *strides, backwards=backwards)
    graph = infer(from_onnx(tmp_path / "model.onnx"))
    assert gathers_in_order(graph) is graph
    assert any(node.op == "Gather" and node.inputs[1] not in graph.params for node in graph.nodes)
