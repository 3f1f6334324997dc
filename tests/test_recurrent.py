"""Recurrent layers in networks: stacked, in both directions, with states made at run time, spelled out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.rewrite import check_shapes, shrink
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.test_exactness import check

H = 6


def _layer(b: Builder, x: str, wide: int, states: list[str]) -> str:
    """`[8, batch, wide]` to `[8, batch, 2 * H]`, both directions joined."""
    params = b.param(2, 4 * H, wide), b.param(2, 4 * H, H), b.param(2, 8 * H)
    y = b.op("LSTM", x, *params, "", *states, hidden_size=H, direction="bidirectional")
    return b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), b.ints(0, 0, -1))


def stacked(*, states: bool) -> onnx.ModelProto:
    """A convolution, two layers over its rows and a head, for any batch."""
    b = Builder(0, batch="batch")
    x = b.op("ReduceMean", b.op("Conv", "x", b.param(7, 3, 3, 3), pads=[1] * 4), axes=[3], keepdims=0)
    rows = b.op("Transpose", x, perm=[2, 0, 1])
    begin: list[str] = []
    if states:  # zeros whose shape is computed from the batch
        batch = b.op("Gather", b.op("Shape", "x"), b.ints(0))
        begin = [b.op("ConstantOfShape", b.op("Concat", b.ints(2), batch, b.ints(H), axis=0))] * 2
    rows = _layer(b, _layer(b, rows, 7, begin), 2 * H, begin)
    last = b.op("Squeeze", b.op("Slice", rows, b.ints(-1), b.ints(100), b.ints(0)), b.ints(0))
    return b.finish(b.op("Gemm", last, b.param(5, 2 * H), b.param(5), transB=1))


@pytest.mark.parametrize("states", [False, True])
def test_stacked_layers_in_both_directions(states: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = stacked(states=states)
    onnx.save(model, path)
    assert [group.size for group in analyze(infer(from_onnx(path))).groups] == [7, H, H]
    for seed in range(3):
        check(model, path, seed)


def test_a_hidden_unit_goes_with_its_gates_its_recurrence_and_its_readers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(stacked(states=False), path)
    group = analyze(infer(from_onnx(path))).groups[1]
    found = {(piece.param, piece.axis): len(piece.indices[0]) for piece in group.slices}
    assert sorted(found.values()) == [1, 2, 4, 4, 8]  # R columns; next layer's inputs; rows of W and R; biases


def test_batch_first(tmp_path: Path) -> None:
    """ONNX Runtime has no kernel for it; the shapes are onnx's."""
    b = Builder(0)
    rows = b.op("Reshape", b.op("Conv", "x", b.param(7, 3, 1, 1)), b.ints(2, 64, 7))
    params = b.param(1, 3 * H, 7), b.param(1, 3 * H, H), b.param(1, 6 * H)
    y = b.op("GRU", rows, *params, outputs=2, hidden_size=H, layout=1)
    last = b.op("Squeeze", y[:-1] + "1", b.ints(1))
    model = b.finish(b.op("Gemm", last, b.param(5, H), b.param(5), transB=1))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    channels = analyze(infer(from_onnx(path)))
    (hidden,) = (group for group in channels.groups if group.size == H)
    small = shrink(channels, {hidden.index: np.array([0, 4])})
    check_shapes(small)
    (layer,) = (node for node in small.nodes if node.op == "GRU")
    assert layer.attributes["hidden_size"] == H - 2
    assert [small.shape(name) for name in layer.inputs[1:4]] == [(1, 12, 7), (1, 12, 4), (1, 24)]


def test_a_cell_spelled_out_loses_the_same_units(tmp_path: Path) -> None:
    """Four steps of an LSTM cell as products, a split and gates."""
    b = Builder(0)
    rows = b.op("Reshape", "x", b.ints(2, 12, 16))
    inner, outer, bias = b.param(16, 4 * H), b.param(H, 4 * H), b.param(4 * H)
    h = c = b.constant(np.zeros((2, H), np.float32))
    for step in range(4):
        x = b.op("Gather", rows, b.constant(np.int64(step)), axis=1)
        both = b.op("Add", b.op("Add", b.op("MatMul", x, inner), bias), b.op("MatMul", h, outer))
        i = b.op("Split", both, outputs=4, axis=1)
        o, f, g = (b.op(kind, i[:-1] + str(k)) for k, kind in ((1, "Sigmoid"), (2, "Sigmoid"), (3, "Tanh")))
        c = b.op("Add", b.op("Mul", f, c), b.op("Mul", b.op("Sigmoid", i), g))
        h = b.op("Mul", o, b.op("Tanh", c))
    model = b.finish(b.op("Gemm", h, b.param(5, H), b.param(5), transB=1))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert [group.size for group in analyze(infer(from_onnx(path))).groups] == [H]
    for seed in range(3):
        check(model, path, seed)


def test_only_the_last_state_is_read(tmp_path: Path) -> None:
    b = Builder(0)
    rows = b.op("Transpose", b.op("Reshape", b.op("Conv", "x", b.param(7, 3, 1, 1)), b.ints(2, 7, 64)), perm=[2, 0, 1])
    params = b.param(1, 3 * H, 7), b.param(1, 3 * H, H), b.param(1, 6 * H)
    y = b.op("GRU", rows, *params, outputs=2, hidden_size=H)
    b.nodes[-1].output[0] = ""
    model = b.finish(b.op("Gemm", b.op("Squeeze", y[:-1] + "1", b.ints(0)), b.param(5, H), b.param(5), transB=1))
    for seed in range(2):
        check(model, tmp_path / "model.onnx", seed)


@pytest.mark.parametrize("states", [False, True])
def test_quantised_by_the_range_of_every_step(states: bool, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    path = tmp_path / "model.onnx"
    onnx.save(stacked(states=states), path)
    quantize_dynamic(str(path), str(path), op_types_to_quantize=["LSTM"])
    model = onnx.load(path)
    assert sum(node.op_type == "DynamicQuantizeLSTM" for node in model.graph.node) == 2
    groups = analyze(infer(from_onnx(path))).groups
    assert [(group.size, group.inexact) for group in groups] == [(7, True), (H, True), (H, True)]
    for seed in range(2):
        check(model, path, seed)
