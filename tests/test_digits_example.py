"""The embedded example is small, honest and consistent with itself."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
FILES = ("model.onnx", "model.safetensors", "val.npz", "calib.npz")


@pytest.fixture(scope="module")
def net() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_net", DIGITS / "net.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(DIGITS / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", FILES)
def test_files_are_small(name: str) -> None:
    assert (DIGITS / name).stat().st_size < 1_000_000


def test_validation_accuracy(session: ort.InferenceSession) -> None:
    with np.load(DIGITS / "val.npz") as data:
        inputs, labels = data["input"], data["label"]
    assert (inputs.dtype, inputs.shape[1:], labels.dtype) == (np.float32, (1, 8, 8), np.int64)
    [logits] = session.run(None, {"input": inputs})
    assert np.mean(logits.argmax(1) == labels) == pytest.approx(592 / 600)


def test_validation_is_disjoint_from_training() -> None:
    with np.load(DIGITS / "val.npz") as data, np.load(DIGITS / "calib.npz") as calibration:
        assert calibration.files == ["input"]
        held_out = {picture.tobytes() for picture in data["input"]}
        assert not held_out & {picture.tobytes() for picture in calibration["input"]}


def test_module_and_file_are_the_same_network(net: ModuleType, session: ort.InferenceSession) -> None:
    module, example = net.make()
    assert not module.training
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    assert [tuple(tensor.shape) for tensor in example] == [(1, 1, 8, 8)]
    with np.load(DIGITS / "val.npz") as data:
        inputs = data["input"][:50]
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    [logits] = session.run(None, {"input": inputs})
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_onnx_file_says_nothing_of_where_it_was_made() -> None:
    model = onnx.load(DIGITS / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any(node.metadata_props for node in model.graph.node)
    assert b".py" not in (DIGITS / "model.onnx").read_bytes()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_build_step_runs_only_when_inputs_changed(tmp_path: Path) -> None:
    for name in ("Makefile", "model.onnx", "val.npz", "calib.npz"):
        shutil.copy(DIGITS / name, tmp_path)
    compiler = tmp_path / "compiler"
    compiler.write_text(
        "#!/bin/sh\necho ran >> log\nmkdir -p build/digits.amcc\ntouch build/digits.amcc/summary.json\n"
    )
    compiler.chmod(0o755)

    def runs(*options: str) -> int:
        subprocess.run(["make", "AMCC=./compiler", *options], cwd=tmp_path, check=True, capture_output=True)
        return len((tmp_path / "log").read_text().splitlines())

    assert runs() == 1
    assert runs() == 1
    assert runs("BUDGET=params=0.3") == 2
    assert runs("BUDGET=params=0.3") == 2
    later = time.time() + 10
    os.utime(tmp_path / "val.npz", (later, later))
    assert runs("BUDGET=params=0.3") == 3
