"""Cuts that change what other channels hold: marked, left out on demand, certified, and repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import amcc
from amcc.cli import app
from amcc.frontends.from_onnx import from_onnx
from amcc.masking import masked_graph
from amcc.passes.channels import Channels, analyze
from amcc.passes.shapes import infer
from amcc.plan import Plan
from tests import tiny_transformer
from tests.random_graphs import Builder
from tests.test_exactness import check

DATA: dict[str, Any] = {"threads": 1, "search": "uniform", "calib_samples": 400, "eval_samples": 300}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_transformer.save(tmp_path_factory.mktemp("transformer") / "digits.onnx")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pictures, labels = tiny_transformer.digits()
    held_out = {"input": pictures[1000:], "label": labels[1000:]}
    return {"data": {"input": pictures[:1000], "label": labels[:1000]}, "report_data": held_out}


def test_recovery_brings_a_cut_residual_width_back(model: Path, data: dict[str, Any], tmp_path: Path) -> None:
    pure = amcc.compile(model, budget="flops=0.6", recover="none", **data, **DATA).summary.metric.report
    result = amcc.compile(model, budget="flops=0.6", out=tmp_path / "out", **data, **DATA)
    repaired = result.summary.metric.report
    assert pure is not None and repaired is not None and pure.before > 0.9
    assert repaired.after > pure.after + 0.2
    assert repaired.after > repaired.before - 0.1
    residual, *others = result.summary.groups
    assert residual.inexact and residual.kept < residual.size and not any(group.inexact for group in others)
    assert [group.inexact for group in Plan.read(tmp_path / "out").groups] == [g.inexact for g in result.summary.groups]
    assert amcc.verify(model, tmp_path / "out").certificate.error <= 1e-4


def test_exact_leaves_the_residual_width_whole(model: Path, data: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"recover": "none", "data": data["data"], **DATA}
    result = amcc.compile(model, budget="flops=0.8", exact=True, out=out, **options)
    assert result.plan.exact and not any(group.inexact for group in result.summary.groups)
    assert result.graph.params["w0"].shape[0] == tiny_transformer.WIDTH
    assert amcc.verify(model, out).certificate.passed
    applied = amcc.apply(result.plan, model, threads=1)
    assert {n: a.shape for n, a in applied.graph.params.items()} == {n: a.shape for n, a in result.graph.params.items()}
    reasons = {o.reason for o in amcc.inspect(model, exact=True).obstacles}
    assert "LayerNormalization takes its statistics over this axis (inexact)" in reasons


def test_the_command_line_marks_what_is_inexact(model: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(model)], env={"COLUMNS": "200"}).stdout
    assert "w0 (inexact)" in shown
    exact = CliRunner().invoke(app, ["inspect", str(model), "--exact"], env={"COLUMNS": "200"}).stdout
    assert "(inexact)" in exact and "w0 (inexact)" not in exact
    found = amcc.inspect(model)
    assert {place.op for place in found.approximations} == {"LayerNormalization"}
    assert {name for place in found.approximations for name in place.groups} == {"w0"}


# -- the masked original ---------------------------------------------------------------------------


def analysed(b: Builder, path: Path) -> Channels:
    onnx.save(b.model(), path)
    return analyze(infer(from_onnx(path)))


def test_a_node_with_several_cut_axes_and_outputs(tmp_path: Path) -> None:
    """The normalised axis is a merge of groups and positions; mean and deviation are read as well."""
    b = Builder(0)
    x = b.op("Conv", "x", b.param(12, 3, 1, 1), b.param(12))
    split = b.op("Reshape", x, b.ints(2, 3, 4, 8, 8))
    normal = b.op("LayerNormalization", split, b.param(4, 8, 8), outputs=3, axis=2)
    scaled = b.op("Add", b.op("Mul", normal, normal[:-1] + "1"), normal[:-1] + "2")
    again = b.op("Softmax", b.op("Transpose", scaled, perm=[0, 2, 1, 3, 4]), axis=2)
    back = b.op("Reshape", b.op("Transpose", again, perm=[0, 2, 1, 3, 4]), b.ints(2, 12, 8, 8))
    b.put(b.op("Conv", back, b.param(4, 12, 1, 1)), (2, 4, 8, 8))
    groups = {(g.size, g.inexact) for g in analysed(b, tmp_path / "m.onnx").groups}
    assert groups >= {(3, True), (4, True)}
    for seed in range(4):
        check(b.model(), tmp_path / "m.onnx", seed)


def test_a_node_that_gives_integers(tmp_path: Path) -> None:
    b = Builder(0)
    x = b.op("Conv", "x", b.param(8, 3, 1, 1), b.param(8))
    whole = b.op("Cast", b.op("Mul", x, b.constant(np.float32(10))), to=7)
    best = b.op("ReduceMax", whole, axes=[1], keepdims=1)
    summed = b.op("CumSum", b.op("Sub", whole, best), b.constant(np.int64(1)))
    b.put(b.op("Conv", b.op("Cast", summed, to=1), b.param(4, 8, 1, 1)), (2, 4, 8, 8))
    assert analysed(b, tmp_path / "m.onnx").groups[0].inexact
    for seed in range(3):
        check(b.model(), tmp_path / "m.onnx", seed)


@pytest.mark.parametrize(("opset", "scales"), [(18, 4), (21, 12)])
def test_group_normalisation_in_either_spelling(opset: int, scales: int, tmp_path: Path) -> None:
    """Scale and bias a group before opset 21, a channel since."""
    b = Builder(0, opset=opset)
    x = b.op("Conv", "x", b.param(12, 3, 1, 1), b.param(12))
    normal = b.op("GroupNormalization", x, b.param(scales, positive=True), b.param(scales), num_groups=4)
    b.put(b.op("Conv", normal, b.param(5, 12, 1, 1)), (2, 5, 8, 8))
    groups = {(g.size, g.inexact) for g in analysed(b, tmp_path / "m.onnx").groups}
    assert groups == {(4, False), (3, True), (5, False)}
    for seed in range(3):
        check(b.model(), tmp_path / "m.onnx", seed)


def test_only_what_inexact_units_touch_is_restricted(tmp_path: Path) -> None:
    """Whole groups of a group normalisation go exactly: there the original stays as it is."""
    b = Builder(0, opset=21)
    x = b.op("Conv", "x", b.param(8, 3, 1, 1), b.param(8))
    normal = b.op("GroupNormalization", x, b.param(8), b.param(8), num_groups=4)
    b.put(b.op("Conv", normal, b.param(4, 8, 1, 1)), (2, 4, 8, 8))
    channels = analysed(b, tmp_path / "m.onnx")
    of = {g.inexact: g for g in channels.groups if g.slices[0].param == "w0"}
    assert (of[False].size, of[True].size) == (4, 2)

    def gathers(removal: dict[int, np.ndarray[Any, Any]]) -> int:
        return sum(node.op == "Gather" for node in masked_graph(channels, removal).nodes)

    assert gathers({of[False].index: np.array([1])}) == 0
    assert gathers({of[True].index: np.array([1])}) == 4
