from __future__ import annotations

import sys
from pathlib import Path

import pytest

from amcc.errors import ModelError, UsageError
from amcc.frontends.load import load
from tests.onnx_models import drawn, model, node, save

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return torch.relu(self.conv(x))

def pair():
    return Net(), torch.zeros(2, 3, 8, 8)

def alone():
    return Net()

def broken():
    raise RuntimeError("no weights here")

def number():
    return 7

constant = 7
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's in the working directory."""
    name = f"factories_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    return name


def test_an_onnx_file_arrives_with_shapes_and_constants_folded(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["w"], "t"), node("MatMul", ["x", "t"], "y")]
    path = save(model(nodes, {"x": ["N", "L", 4]}, ["y"], {"w": drawn(3, 4)}), tmp_path)
    graph = load(path, input_shapes={"x": (1, 7, 4)})
    assert graph.shape("y") == ("N", 7, 3)
    assert [n.op for n in graph.nodes] == ["MatMul"]
    assert load(str(path), input_shapes={"x": (1, 7, 4)}).nodes == graph.nodes
    with pytest.raises(ModelError, match="--input-shape x="):
        load(path)


def test_factories(factories: str) -> None:
    torch = pytest.importorskip("torch")
    graph = load(f"{factories}:pair")
    assert graph.params["conv.weight"].shape == (4, 3, 3, 3)
    assert graph.shape(graph.outputs[0])[1:] == (4, 6, 6)
    shaped = load(f"{factories}:alone", example_inputs=torch.zeros(2, 3, 5, 5))
    assert shaped.shape(shaped.outputs[0])[1:] == (4, 3, 3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("alone", "needs example inputs"),
        ("broken", "no weights here"),
        ("number", "cannot compile a int"),
        ("constant", "not a function"),
        ("missing", "has no 'missing'"),
    ],
)
def test_factories_that_do_not_work(factories: str, name: str, says: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises((ModelError, UsageError), match=says):
        load(f"{factories}:{name}")


def test_what_is_no_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="cannot import 'no_such_module'"):
        load("no_such_module:factory")
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match="cannot compile a int"):
        load(7)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no argument 'x'"):
        load(torch.nn.ReLU(), input_shapes={"x": (1,)})
