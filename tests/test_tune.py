"""`amcc tune`, and compilations that train: what is written, and that it is what it says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

import amcc
from amcc.cli import app
from amcc.errors import InputError, UsageError
from amcc.ir import Array
from amcc.summary import Summary
from amcc.verification import verify

from .test_free_sizes import segmenter

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
PLAIN: dict[str, Any] = {"budget": "flops=0.5", "search": "uniform", "recover": "none", "threads": 1}
QUICK = amcc.Tuning(epochs=3, batch=32, rate=0.05, threads=1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Half of the validation samples to train on, half to report on."""
    folder, found = tmp_path_factory.mktemp("digits"), {}
    with np.load(DIGITS / "val.npz") as data:
        for name, part in (("train", slice(0, 300)), ("report", slice(300, 600))):
            found[name] = folder / f"{name}.npz"
            np.savez(found[name], input=data["input"][part], label=data["label"][part])
    return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, Path]) -> Path:
    """The digits' network at half its MACs, pure slices."""
    out = tmp_path_factory.mktemp("compiled") / "m.amcc"
    amcc.compile(DIGITS / "model.onnx", data=digits["train"], report_data=digits["report"], out=out, **PLAIN)
    return out


def run_onnx(folder: Path, inputs: Array) -> Array:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return found


def run_torch(folder: Path, inputs: Array) -> Array:
    spec = importlib.util.spec_from_file_location("tuned_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        found: Array = module.load(folder)(torch.from_numpy(inputs)).numpy()
    return found


def test_tune_writes_a_folder_that_holds(compiled: Path, digits: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "tuned.amcc"
    given: dict[str, Any] = {"teacher": DIGITS / "model.onnx", "report_data": digits["report"], "tuning": QUICK}
    result = amcc.tune(compiled, digits["train"], out=out, **given)
    before, after = Summary.read(compiled), Summary.read(out)
    (line,) = after.tuning
    assert after == result.summary and before.metric.report is not None and after.metric.report is not None
    assert line.untrained == before.metric.report.after
    assert after.metric.report.after > line.untrained + 0.1
    assert after.metric.report.before == before.metric.report.before
    assert after.groups == before.groups and after.budget == before.budget
    assert (out / "plan.json").read_bytes() == (compiled / "plan.json").read_bytes()
    assert "Training" in (out / "report.html").read_text() and "epoch" in (out / "report.html").read_text()
    assert not list(tmp_path.glob("*.tuning.*"))
    verify(DIGITS / "model.onnx", out)
    onnx.checker.check_model(str(out / "model.onnx"), full_check=True)
    operators = [[n.op_type for n in onnx.load(folder / "model.onnx").graph.node] for folder in (compiled, out)]
    assert operators[0] == operators[1]
    with np.load(digits["report"]) as data:
        logits = run_onnx(out, data["input"])
        assert np.mean(logits.argmax(1) == data["label"]) == after.metric.report.after
        np.testing.assert_allclose(run_torch(out, data["input"]), logits, rtol=1e-3, atol=1e-4)


def test_the_original_is_found_by_its_name(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"'model.onnx', is not here \(give it with --teacher\)"):
        amcc.tune(compiled, out="o.amcc", tuning=QUICK)
    (tmp_path / "model.onnx").write_bytes((compiled / "model.onnx").read_bytes())
    with pytest.raises(UsageError, match="not the file that was compiled"):
        amcc.tune(compiled, out="o.amcc", tuning=QUICK)
    with pytest.raises(InputError, match="no such folder"):
        amcc.tune("nowhere", tuning=QUICK)
    assert not (tmp_path / "o.amcc").exists()


def test_command_line_trains_in_place_on_made_up_inputs(compiled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m.amcc"
    folder.mkdir()
    for file in compiled.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.onnx").write_bytes((DIGITS / "model.onnx").read_bytes())
    options = ["--epochs", "1", "--train-samples", "128", "--batch", "64", "--rate", "0.001", "--threads", "1"]
    done = CliRunner().invoke(app, ["tune", str(folder), *options])
    assert done.exit_code == 0, done.output
    summary = Summary.read(folder)
    assert summary.tuning[0].metric == "fidelity" and summary.metric.report is None
    assert any("synthetic" in text for text in summary.warnings)
    assert any("--report-data" in text for text in summary.warnings)


def test_normalisations_of_the_source_are_trained_and_stay(digits: dict[str, Path], tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("digits_net_tuned", DIGITS / "net.py")
    assert spec is not None and spec.loader is not None
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    module, example = net.make()
    data: dict[str, Any] = {"data": digits["train"], "report_data": digits["report"]}
    amcc.compile(module, example, out=tmp_path / "m.amcc", **data, **PLAIN)
    with pytest.raises(UsageError, match="--teacher"):
        amcc.tune(tmp_path / "m.amcc", digits["train"], tuning=QUICK)
    given: dict[str, Any] = {"teacher": module, "example_inputs": example, "report_data": digits["report"]}
    result = amcc.tune(tmp_path / "m.amcc", digits["train"], tuning=QUICK, **given)
    (line,) = result.summary.tuning
    assert line.norms == 0 and line.untrained is not None and result.summary.metric.report is not None
    assert result.summary.metric.report.after > line.untrained + 0.1
    norms = [node for node in result.graph.nodes if node.op == "BatchNormalization"]
    assert len(norms) == 15
    with np.load(digits["report"]) as samples:
        logits = run_onnx(tmp_path / "m.amcc", samples["input"])
        np.testing.assert_allclose(run_torch(tmp_path / "m.amcc", samples["input"]), logits, rtol=1e-3, atol=1e-4)


def test_compile_trains_after_the_cut(digits: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "m.amcc"
    data: dict[str, Any] = {"data": digits["train"], "report_data": digits["report"], "train": digits["train"]}
    result = amcc.compile(DIGITS / "model.onnx", tune=QUICK, out=out, **data, **PLAIN)
    (line,) = result.summary.tuning
    assert result.summary.metric.report is not None and line.untrained is not None
    assert result.summary.metric.report.after > line.untrained
    verify(DIGITS / "model.onnx", out)


def test_free_sizes_stay_free(tmp_path: Path) -> None:
    """A segmenter with a convolution without a bias, which gets one; pictures of any size."""
    model = tmp_path / "model.onnx"
    onnx.save(segmenter(), model)
    given: dict[str, Any] = {"input_shapes": {"x": (1, 3, 16, 16)}}
    data = np.random.default_rng(0).standard_normal((40, 3, 16, 16)).astype(np.float32)
    quick = amcc.Tuning(epochs=2, batch=16, rate=0.01, threads=1)
    first = amcc.compile(model, data=(data,), tune=quick, train=(data,), out=tmp_path / "a.amcc", **given, **PLAIN)
    assert first.reopened is not None and first.summary.tuning[0].norms == 2
    second = amcc.tune(tmp_path / "a.amcc", (data,), tuning=quick, out=tmp_path / "b.amcc", **given)
    assert second.reopened is not None
    for name in ("a", "b"):
        convs = [n for n in onnx.load(tmp_path / f"{name}.amcc" / "model.onnx").graph.node if n.op_type == "Conv"]
        assert [len(n.input) for n in convs] == [3, 3, 2]
        assert run_onnx(tmp_path / f"{name}.amcc", np.zeros((1, 3, 20, 24), np.float32)).shape == (1, 2, 20, 24)
        verify(model, tmp_path / f"{name}.amcc", **given)


def test_compile_in_steps(digits: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "m.amcc"
    data: dict[str, Any] = {"data": digits["train"], "report_data": digits["report"], "train": digits["train"]}
    options = {**PLAIN, "budget": "flops=0.3"}
    result = amcc.compile(DIGITS / "model.onnx", tune=QUICK, steps=2, out=out, **data, **options)
    summary = result.summary
    assert len(summary.tuning) == 2 and summary.budget[0].ratio <= 0.3
    assert summary.totals.macs.after == summary.budget[0].reached
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.amcc"]
    verify(DIGITS / "model.onnx", out)
    again = amcc.apply(out, DIGITS / "model.onnx", data=digits["train"], recover="none", threads=1)
    assert again.summary.totals.macs == summary.totals.macs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "t.npz"}, "--train: samples to train on, and no training"),
        ({"steps": 2}, "--steps: steps are for"),
        ({"tune": True, "steps": 0}, "--steps: 0 is below 1"),
        ({"tune": True, "budget": None, "max_drop": "1%"}, "--tune: --max-drop holds"),
        ({"tune": True, "steps": 2, "budget": "latency=0.5"}, "--steps: a budget of latency"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        amcc.compile(DIGITS / "model.onnx", **{"data": DIGITS / "val.npz", "budget": "flops=0.5", **options})


def test_two_processes_train_as_one(compiled: Path, digits: dict[str, Path], tmp_path: Path) -> None:
    tuning = amcc.Tuning(epochs=2, batch=32, rate=0.05, threads=1)
    given: dict[str, Any] = {"teacher": DIGITS / "model.onnx", "report_data": digits["report"]}
    amcc.tune(compiled, digits["train"], tuning=tuning, out=tmp_path / "1.amcc", **given)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "amcc", "tune", compiled]
    command += ["--train", digits["train"], "--teacher", DIGITS / "model.onnx", "--report-data", digits["report"]]
    command += ["--epochs", "2", "--batch", "32", "--rate", "0.05", "--threads", "1", "-o", tmp_path / "2.amcc"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("certificate") == 1  # the first process alone speaks
    folders = [tmp_path / "1.amcc", tmp_path / "2.amcc"]
    losses = [[epoch.loss for epoch in Summary.read(folder).tuning[0].curve] for folder in folders]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    with np.load(digits["report"]) as data:
        one, two = (run_onnx(folder, data["input"]) for folder in folders)
    assert np.mean(one.argmax(1) == two.argmax(1)) > 0.99
