"""PyTorch's files: exported programs, state dicts with a factory, and pickles, which nobody reads unasked."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from amcc.cli import app
from amcc.errors import ModelError, UsageError
from amcc.frontends.load import captured, load
from amcc.frontends.torch_files import Stored, read_program, read_state

torch = pytest.importorskip("torch")

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)
    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))

def net():
    return Net(), torch.zeros(1, 3, 6, 6)

def bare():
    return Net()
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's module of factories, in the working directory."""
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if p)])
    __import__(name)
    return sys.modules[name]


def trained(factory: Any) -> Any:
    torch.manual_seed(3)
    return factory.Net().eval()


def stored(factory: Any, path: Path, **options: Any) -> Any:
    return load(Stored(f"{factory.__name__}:net", path, **options))


def saved(kind: str, module: Any, path: Path) -> Path:
    state = module.state_dict()
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path / "w.safetensors")
        return path / "w.safetensors"
    if kind == "checkpoint":
        state = {"epoch": 3, "state_dict": {f"module.{key}": t for key, t in state.items()}, "lr": [0.1]}
    torch.save(state, path / "w.pt")
    return path / "w.pt"


@pytest.mark.parametrize("kind", ["safetensors", "pt", "checkpoint"])
def test_a_state_dict_with_a_factory(kind: str, factory: Any, tmp_path: Path) -> None:
    module = trained(factory)
    graph = stored(factory, saved(kind, module, tmp_path))
    for key, tensor in module.state_dict().items():
        if tensor.ndim:
            np.testing.assert_array_equal(graph.params[key], tensor.numpy())


def test_what_does_not_fit_is_said(factory: Any, tmp_path: Path) -> None:
    state = trained(factory).state_dict()
    state["conv.bias"] = torch.zeros(5)
    state["extra"] = state.pop("fc.bias")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        stored(factory, tmp_path / "w.pt")
    for said in ("1 missing ('fc.bias')", "1 not in the network ('extra')", "'conv.bias' is [5] in the file and [8]"):
        assert said in str(caught.value)
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds none; its keys are 'epoch', 'lr'"):
        stored(factory, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="no such file"):
        stored(factory, tmp_path / "nothing.pt")
    (tmp_path / "w.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="no safetensors file"):
        stored(factory, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="has its weights already"):
        load(Stored("model.onnx", tmp_path / "w.pt"))


class Bomb:
    """Leaves a trace if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_no_pickle_is_read_unasked(factory: Any, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    state = {**trained(factory).state_dict(), "more": Bomb(trace)}
    torch.save(state, tmp_path / "w.pt")
    for read in (lambda: stored(factory, tmp_path / "w.pt"), lambda: load(tmp_path / "w.pt")):
        with pytest.raises(ModelError, match="--trust-pickle"):
            read()
        assert not trace.exists()
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ModelError, match="--trust-pickle"):
        load(tmp_path / "old.pth")
    assert not trace.exists()


def test_a_whole_module_is_read_where_that_is_trusted(factory: Any, tmp_path: Path) -> None:
    module = trained(factory)
    torch.save(module, tmp_path / "net.pt")
    with pytest.raises(ModelError, match="is a pickle"):
        load(tmp_path / "net.pt", input_shapes={"x": (1, 3, 6, 6)})
    graph = load(Stored(str(tmp_path / "net.pt"), trust_pickle=True), input_shapes={"x": (1, 3, 6, 6)})
    np.testing.assert_array_equal(graph.params["conv.weight"], module.conv.weight.detach().numpy())
    torch.save(module.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"holds weights and no network.*module:factory --weights"):
        load(tmp_path / "w.pt")


def test_an_exported_program(factory: Any, tmp_path: Path) -> None:
    module, batch = trained(factory), torch.export.Dim("n")
    program = torch.export.export(module, (torch.zeros(2, 3, 6, 6),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    graph = load(tmp_path / "net.pt2")
    assert graph.shape(graph.inputs[0]) == ("batch", 3, 6, 6)
    assert {key for key, t in module.state_dict().items() if t.ndim} <= set(graph.params)
    assert captured(tmp_path / "net.pt2").origin is None
    (tmp_path / "bad.pt2").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="no exported program"):
        load(tmp_path / "bad.pt2")


def test_an_exported_program_with_objects_in_it_is_not_read(factory: Any, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(trained(factory), (torch.zeros(2, 3, 6, 6),)), tmp_path / "net.pt2")
    trace = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "net.pt2") as old, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as new:
        for name in old.namelist():
            new.writestr(name, pickle.dumps(Bomb(trace)) if name.endswith((".pt", "inputs")) else old.read(name))
        new.writestr("net/data/constants/opaque_obj_0", pickle.dumps(Bomb(trace)))
    with pytest.raises(ModelError, match="--trust-pickle"):
        read_program(tmp_path / "evil.pt2")
    assert not trace.exists()


def test_the_command_line(factory: Any, tmp_path: Path) -> None:
    weights = saved("safetensors", trained(factory), tmp_path)
    run = CliRunner().invoke(app, ["inspect", f"{factory.__name__}:net", "--weights", str(weights), "--json"])
    assert run.exit_code == 0, run.output
    assert '"conv.weight"' in run.output
    shaped = ["inspect", f"{factory.__name__}:bare", "--input-shape", "x=1x3x6x6"]
    assert CliRunner().invoke(app, shaped).exit_code == 0
    wrong = CliRunner().invoke(app, [*shaped[:2], "--input-shape", "y=1x3x6x6"])
    assert wrong.exit_code == 2
    assert "no argument 'y'" in wrong.stderr


def test_prefixes_of_wrappers_go(tmp_path: Path) -> None:
    torch.save({"_orig_mod.a": torch.ones(1), "_orig_mod.b": torch.ones(2)}, tmp_path / "w.pt")
    assert set(read_state(tmp_path / "w.pt")) == {"a", "b"}
