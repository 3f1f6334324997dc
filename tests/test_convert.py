from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import amcc
from amcc.cli import app
from amcc.errors import ModelError, OutputError, UsageError, VerificationError
from tests.test_to_torch import conv, graph, imported, in_ort
from tests.torch_cases import f32


@pytest.fixture
def network(tmp_path: Path) -> Path:
    params = {"c.weight": f32(6, 4, 3, 3), "c.bias": f32(6), "head.weight": f32(5, 6), "head.bias": f32(5)}
    nodes = [
        conv("c", "x", "a", pads=[1] * 4),
        ("Relu", ["a"], ["b"], {}),
        ("GlobalAveragePool", ["b"], ["d"], {}),
        ("Dropout", ["d"], ["dd"], {}),
        ("Flatten", ["dd"], ["e"], {}),
        ("Gemm", ["e", "head.weight", "head.bias"], ["y"], {"transB": 1}),
    ]
    onnx.save(graph(nodes, params), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_folder_with_all_forms(network: Path, tmp_path: Path) -> None:
    import torch

    made = amcc.convert(network, emit="torch,pt2,onnx", out=tmp_path / "out")
    assert made.error is not None and made.error < 1e-5
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"convert.json", "model.onnx", "model.pt2", "model.py", "model.safetensors"}
    facts = json.loads((tmp_path / "out/convert.json").read_text())
    assert facts["files"].keys() == names - {"convert.json"}
    x = f32(3, 4, 6, 6)
    expected = in_ort(onnx.load(network), {"x": x})[0]
    with torch.no_grad():
        written = imported(tmp_path / "out").load()(torch.from_numpy(x))
        program = torch.export.load(tmp_path / "out/model.pt2").module()(torch.from_numpy(x))
    for found in (written.numpy(), program.numpy(), in_ort(onnx.load(tmp_path / "out/model.onnx"), {"x": x})[0]):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_graph_module_trains(network: Path) -> None:
    import torch

    made = amcc.convert(network)
    traced, written = made.graph_module(), made.module()
    assert isinstance(traced, torch.fx.GraphModule)
    assert traced.state_dict().keys() == written.state_dict().keys()
    assert isinstance(traced.get_submodule("c"), torch.nn.Conv2d)
    x = torch.from_numpy(f32(3, 4, 6, 6))
    torch.testing.assert_close(traced(x), written(x))
    torch.testing.assert_close(copy.deepcopy(traced)(x), written(x))
    torch.testing.assert_close(torch.export.export(traced, (x,)).module()(x), written(x))
    traced.train()
    assert (traced(x) != written(x)).any()  # dropout
    traced(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in traced.parameters())


def test_a_torch_module(tmp_path: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.GELU()).eval()
    made = amcc.convert(module, torch.randn(2, 4), out=tmp_path / "out")
    assert made.error is not None and made.error < 1e-5
    assert imported(tmp_path / "out").Model().state_dict().keys() == module.state_dict().keys()


def test_the_same_bytes(network: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        amcc.convert(network, emit=["torch", "pt2"], out=tmp_path / name)
    for file in ("model.py", "model.safetensors", "convert.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_another_answer_is_not_written(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from amcc.backends.torch_ops import EMITTERS

    monkeypatch.setitem(EMITTERS, "Relu", lambda w, node: w.tensor(node, 0))  # type: ignore[index]
    with pytest.raises(VerificationError, match="differs from ONNX Runtime's"):
        amcc.convert(network, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def one_node(op: str, tmp_path: Path, **given: Any) -> Path:
    node = helper.make_node(op, ["x"], ["y"], name="n", **given)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    made = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(f32(1), "unused")])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    model = one_node("TfIdfVectorizer", tmp_path, mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
                     ngram_counts=[0], ngram_indexes=[0], pool_int64s=[1])  # fmt: skip
    with pytest.raises(ModelError, match="TfIdfVectorizer 'n'"):
        amcc.convert(model, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_loop_is_a_method(tmp_path: Path) -> None:
    """Doubled three times, and every step stacked; a graph module cannot hold it."""
    scalar = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("go", 9), ("on", 9))]
    states = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("s", "t", "u")]
    inner = [
        helper.make_node("Add", ["s", "s"], ["t"]),
        helper.make_node("Mul", ["t", "x"], ["u"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    body = helper.make_graph(inner, "body", [*scalar[:2], states[0]], [scalar[2], *states[1:]])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (("x", [2]), ("y", [2]))]
    trips = helper.make_tensor_value_info("n", TensorProto.INT64, [])
    stacked = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["k", 2])
    loop = helper.make_node("Loop", ["n", "", "x"], ["y", "z"], body=body)
    made = helper.make_graph([loop], "g", [trips, ends[0]], [ends[1], stacked])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    found = amcc.convert(tmp_path / "m.onnx", out=tmp_path / "out")
    import torch

    y, z = imported(tmp_path / "out").load()(torch.tensor(3), torch.tensor([1.0, 2.0]))
    assert y.tolist() == [8.0, 16.0]
    assert z.tolist() == [[2.0, 8.0], [4.0, 16.0], [8.0, 32.0]]
    with pytest.raises(ModelError, match=r"no counterpart in a torch\.fx graph"):
        found.graph_module()


def test_random_numbers_are_not_compared(tmp_path: Path) -> None:
    made = amcc.convert(one_node("RandomNormalLike", tmp_path), out=tmp_path / "out")
    assert made.error is None
    assert "other numbers every time" in made.unchecked


def test_usage(network: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'tf' is not torch, pt2 or onnx"):
        amcc.convert(network, emit="tf")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="is already there"):
        amcc.convert(network, out=tmp_path / "out")


def test_the_command(network: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["convert", str(network), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "model.py, model.safetensors" in done.output
    assert "outputs as ONNX Runtime's within" in done.output
    done = CliRunner().invoke(app, ["convert", str(network), "-o", str(out), "--force", "--json"])
    assert json.loads(done.output)["files"] == ["model.py", "model.safetensors"]
    assert CliRunner().invoke(app, ["convert", str(network), "-o", str(out)]).exit_code == 2
