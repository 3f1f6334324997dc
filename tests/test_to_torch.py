from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from amcc.backends.runtime import LITERAL
from amcc.backends.to_onnx import to_onnx
from amcc.backends.to_torch import torch_source, write_torch
from amcc.backends.torch_ops import EMITTERS, chance
from amcc.errors import ModelError, OutputError
from amcc.frontends.from_onnx import from_onnx, from_proto
from amcc.ir import Array, Graph
from amcc.passes.channels import analyze
from amcc.passes.inputs import bind_inputs
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer
from tests import torch_cases
from tests.onnx_models import operator_cases
from tests.random_graphs import random_network
from tests.test_exactness import random_removal
from tests.torch_cases import CASES, Case, f32, i64

ort.set_default_logger_severity(3)


def graph_of(model: onnx.ModelProto) -> Graph:
    return infer(bind_inputs(from_proto(model), {}))


def imported(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("written_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_torch(graph: Graph, feeds: dict[str, Array], folder: Path) -> list[Array]:
    import torch

    write_torch(graph, folder)
    model = imported(folder).load()
    with torch.no_grad():
        out = model(*(torch.from_numpy(feeds[name]) for name in graph.inputs))
    return [o.numpy() for o in ([out] if isinstance(out, torch.Tensor) else out)]


def in_ort(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.add_session_config_entry(LITERAL, "1")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(o) for o in session.run(None, feeds)]


def same(ours: Sequence[Array], theirs: Sequence[Array], tolerance: float = 1e-4) -> None:
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == reference.dtype
        assert mine.shape == reference.shape
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(mine, reference, atol=tolerance, rtol=tolerance)
        else:
            np.testing.assert_array_equal(mine, reference)


@pytest.mark.parametrize("one", CASES, ids=[c.id for c in CASES])
def test_operator(one: Case, tmp_path: Path) -> None:
    model = torch_cases.model(one)
    feeds = torch_cases.feeds(one, batch=3)
    expected = ReferenceEvaluator(model).run(None, feeds) if one.reference else in_ort(model, feeds)
    same(in_torch(graph_of(model), feeds, tmp_path), expected)


def test_every_operator_has_a_case() -> None:
    """Here, or among onnx's own (`test_torch_operators.py`), or without a right answer."""
    theirs = {node.op_type for case in operator_cases(1) for node in case.model.graph.node}
    lists = {
        "ConcatFromSequence",
        "Optional",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceErase",
    }  # of the simple suite
    assert set(EMITTERS) <= {one.op for one in CASES} | theirs | set(chance.EMITTERS) | lists | {"Scatter"}


# Whole graphs


def graph(
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], dict[str, Any]]],
    params: dict[str, Array],
    shape: Sequence[int | str] = ("N", 4, 6, 6),
    *,
    outputs: Sequence[str] = ("y",),
    name: str = "net",
    source: str = "x",
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node(op, inputs, outs, **attributes) for op, inputs, outs, attributes in nodes],
        name,
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(o) for o in outputs],
        [numpy_helper.from_array(array, key) for key, array in params.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    return model


def agrees(model: onnx.ModelProto, folder: Path, *, batch: int = 3) -> ModuleType:
    """The written module gives what ONNX Runtime gives."""
    made = graph_of(model)
    shape = [batch if isinstance(d, str) else d for d in made.shape(made.inputs[0])]
    feeds = {made.inputs[0]: f32(*shape)}
    same(in_torch(made, feeds, folder), in_ort(model, feeds))
    return imported(folder)


def conv(prefix: str, x: str, y: str, **attributes: Any) -> tuple[str, list[str], list[str], dict[str, Any]]:
    return "Conv", [x, f"{prefix}.weight", f"{prefix}.bias"], [y], attributes


def test_layers_stand_at_their_keys(tmp_path: Path) -> None:
    params = {
        "stem.0.weight": f32(6, 4, 3, 3),
        "stem.0.bias": f32(6),
        "stem.1.weight": f32(6),
        "stem.1.bias": f32(6),
        "stem.1.running_mean": f32(6),
        "stem.1.running_var": np.abs(f32(6)) + 0.5,
        "head.weight": f32(5, 6),
        "head.bias": f32(5),
        "scale": f32(6, 1, 1),
    }
    model = graph(
        [
            conv("stem.0", "x", "a", pads=[1, 1, 1, 1]),
            ("BatchNormalization", ["a", *list(params)[2:6]], ["b"], {}),
            ("Mul", ["b", "scale"], ["c"], {}),
            ("GlobalAveragePool", ["c"], ["d"], {}),
            ("Flatten", ["d"], ["e"], {}),
            ("Gemm", ["e", "head.weight", "head.bias"], ["y"], {"transB": 1}),
        ],
        params,
    )
    net = agrees(model, tmp_path).load()
    source = (tmp_path / "model.py").read_text()
    assert "        self.stem = nn.Sequential(\n            nn.Conv2d(4, 6, 3, padding=1),\n" in source
    assert "            nn.BatchNorm2d(6),\n        )\n" in source
    assert "self.head = nn.Linear(6, 5)" in source
    assert set(net.state_dict()) == {*params, "stem.1.num_batches_tracked"}
    for key, array in params.items():
        np.testing.assert_array_equal(net.state_dict()[key].numpy(), array)
    assert all(p.requires_grad for p in net.parameters())
    assert {n for n, _ in net.named_buffers()} == {
        "stem.1.running_mean",
        "stem.1.running_var",
        "stem.1.num_batches_tracked",
    }


def test_it_trains(tmp_path: Path) -> None:
    import torch

    params = {"c.weight": f32(6, 4, 3, 3), "free": f32(6, 1, 1)}
    nodes = [("Conv", ["x", "c.weight"], ["a"], {}), ("Relu", ["a"], ["b"], {}), ("Mul", ["b", "free"], ["y"], {})]
    net = agrees(graph(nodes, params), tmp_path).load().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.randn(2, 4, 6, 6)).square().mean().backward()
    optimizer.step()
    assert all((net.state_dict()[k] != v).any() for k, v in before.items())


def test_a_weight_used_twice_is_one_parameter(tmp_path: Path) -> None:
    params = {"c.weight": f32(4, 4, 3, 3), "c.bias": f32(4)}
    nodes = [
        conv("c", "x", "a", pads=[1] * 4),
        conv("c", "a", "b", pads=[1] * 4),
        conv("c", "b", "y", pads=[0, 1, 0, 1]),
    ]
    net = agrees(graph(nodes, params), tmp_path).load()
    assert set(net.state_dict()) == set(params)
    assert "F.conv2d(x, self.c.weight, self.c.bias, padding=(0, 1))" in (tmp_path / "model.py").read_text()


def test_a_layer_never_takes_a_parameter_that_it_does_not_use(tmp_path: Path) -> None:
    """`c.bias` exists, but the convolution has no bias: `nn.Conv2d` would add it."""
    params = {"c.weight": f32(4, 4, 1, 1), "c.bias": f32(4, 1, 1)}
    nodes = [("Conv", ["x", "c.weight"], ["a"], {}), ("Relu", ["a"], ["b"], {}), ("Mul", ["b", "c.bias"], ["y"], {})]
    net = agrees(graph(nodes, params), tmp_path).load()
    assert set(net.state_dict()) == set(params)


HOSTILE = [
    'a"; import os; os.system("true") #',
    "a\nimport os",
    '"""\nraise SystemExit\n"""',
    "'); raise SystemExit; ('",
    "a\\",
    "onnx::Conv_12",
    "scope/kernel:0",
    "forward",
    "type",
    "__secret",
    "für",
    "ﬁ",
    "class",
    "a..b",
    "§0§",
    "0",
    "007",
    "self",
    "{x}",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_become_code(name: str, tmp_path: Path) -> None:
    params = {name: f32(4, 1, 1), f"{name}.weight": f32(4, 4, 1, 1), f"top.{name}": f32(4, 1, 1)}
    nodes = [
        ("Add", [f"{name}_in", name], ["a"], {}),
        ("Conv", ["a", f"{name}.weight"], ["b"], {}),
        ("Mul", ["b", f"top.{name}"], [f"{name}_out"], {}),
    ]
    model = graph(nodes, params, outputs=[f"{name}_out"], name=name, source=f"{name}_in")
    net = agrees(model, tmp_path).load()
    assert len(net.state_dict()) == 3
    held = {a.tobytes() for a in (t.numpy() for t in net.state_dict().values())}
    assert held == {a.tobytes() for a in params.values()}


def test_keys_are_the_names_wherever_pytorch_can_hold_them(tmp_path: Path) -> None:
    names = ["onnx::Conv_12", "scope/kernel:0", "layer.0.weight", "007", "class", "__secret"]
    params = {name: f32(4, 1, 1, seed=i) for i, name in enumerate(names)}
    nodes = [("Add", ["x" if i == 0 else f"v{i}", name], [f"v{i + 1}"], {}) for i, name in enumerate(names)]
    net = agrees(graph(nodes, params, outputs=[f"v{len(names)}"]), tmp_path).load()
    assert set(net.state_dict()) == set(names)


def test_a_respelled_name_is_told(tmp_path: Path) -> None:
    model = graph([("Add", ["x", "train"], ["y"], {})], {"train": f32(4, 1, 1)})
    net = agrees(model, tmp_path).load()
    assert set(net.state_dict()) == {"train_"}
    assert '# "train" in the source' in (tmp_path / "model.py").read_text()


def test_shape_arithmetic_for_a_dynamic_batch(tmp_path: Path) -> None:
    params = {"zero": i64(0), "rest": i64(2, 2, -1), "w": f32(4, 1, 1)}
    nodes = [
        ("Mul", ["x", "w"], ["a"], {}),
        ("Shape", ["a"], ["s"], {}),
        ("Gather", ["s", "zero"], ["n"], {}),
        ("Concat", ["n", "rest"], ["t"], {"axis": 0}),
        ("Reshape", ["a", "t"], ["b"], {}),
        ("Transpose", ["b"], ["y"], {"perm": [0, 2, 1, 3]}),
    ]
    agrees(graph(nodes, params), tmp_path, batch=5)
    assert "torch.tensor" not in (tmp_path / "model.py").read_text()


def test_sizes_known_only_at_run_time(tmp_path: Path) -> None:
    """Both leading dimensions vary: the target is computed."""
    nodes = [
        ("NonZero", ["x"], ["a"], {}),
        ("Shape", ["a"], ["s"], {}),
        ("ConstantOfShape", ["s"], ["o"], {"value": numpy_helper.from_array(np.array([2], np.int64))}),
        ("Add", ["a", "o"], ["b"], {}),
        ("Reshape", ["b", "s"], ["y"], {}),
    ]
    agrees(graph(nodes, {}, [3, 4]), tmp_path)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    one = Case("Split", constants=(i64(1, 3),), attributes={"axis": 1}, outputs=2)
    model = torch_cases.model(one)
    folder = tmp_path / "made" / "here"
    same(in_torch(graph_of(model), torch_cases.feeds(one), folder), in_ort(model, torch_cases.feeds(one)))
    assert "-> tuple[Tensor, Tensor]" in (folder / "model.py").read_text()
    added = torch_cases.case("Add", (2, 3), (2, 3))
    same(
        in_torch(graph_of(torch_cases.model(added)), torch_cases.feeds(added), tmp_path),
        in_ort(torch_cases.model(added), torch_cases.feeds(added)),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(dtype: type, tmp_path: Path) -> None:
    import torch

    one = torch_cases.case("Conv", constants=(f32(6, 4, 3, 3).astype(dtype), f32(6).astype(dtype)), dtype=dtype)
    model, feeds = torch_cases.model(one), torch_cases.feeds(one)
    expected = ReferenceEvaluator(model).run(None, feeds)
    same(in_torch(graph_of(model), feeds, tmp_path), expected, 1e-2 if dtype is np.float16 else 1e-9)
    assert next(imported(tmp_path).Model().parameters()).dtype == torch.from_numpy(np.zeros(1, dtype)).dtype


def test_the_metadata_of_a_torch_source_is_kept_to(tmp_path: Path) -> None:
    params = {"a.weight": f32(4, 1, 1), "mean": f32(4, 1, 1), "gain": np.array(2.0, np.float32)}
    nodes = [
        ("Sub", ["x", "mean"], ["b"], {}),
        ("Mul", ["b", "a.weight"], ["c"], {}),
        ("Mul", ["c", "gain"], ["y"], {}),
    ]
    notes = {
        "torch.buffers": json.dumps(["mean"]),
        "torch.kept": json.dumps(["gain"]),
        "torch.tied": json.dumps({"b.weight": "a.weight"}),
    }
    net = agrees(graph(nodes, params, metadata=notes), tmp_path).load()
    assert {n for n, _ in net.named_parameters()} == {"a.weight", "gain"}
    assert {n for n, _ in net.named_buffers()} == {"mean"}
    assert set(net.state_dict()) == {"a.weight", "b.weight", "gain", "mean"}
    assert net.a.weight is net.b.weight


@pytest.mark.parametrize("notes", ["[", "3", '{"x": 1}', "[[1]]", '["forward"]'])
def test_broken_metadata_is_no_harm(notes: str, tmp_path: Path) -> None:
    model = graph([("Add", ["x", "p"], ["y"], {})], {"p": f32(4, 1, 1)})
    helper.set_model_props(model, dict.fromkeys(["torch.buffers", "torch.kept", "torch.tied"], notes))
    agrees(model, tmp_path)


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("amcc", "onnx", "onnxruntime", "onnxscript", "safetensors", "pickle5"):
            raise ImportError(f"blocked: {name}")
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
import torch
torch.load = None
from model import load
with torch.no_grad():
    out = load()(torch.ones(2, 4, 6, 6))
assert load(sys.argv[1]).training is False
print(out.double().sum().item())
"""


def test_it_loads_with_torch_alone(tmp_path: Path) -> None:
    params = {"c.weight": f32(6, 4, 3, 3), "c.bias": f32(6)}
    model = graph([conv("c", "x", "y")], params)
    write_torch(graph_of(model), tmp_path)
    command = [sys.executable, "-c", BLOCKED, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}
    )
    expected = in_ort(model, {"x": np.ones((2, 4, 6, 6), np.float32)})[0].astype(np.float64).sum()
    assert float(done.stdout) == pytest.approx(expected, abs=1e-3)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    params = {"b.weight": f32(6, 4, 3, 3), "b.bias": f32(6), "a": f32(6, 1, 1)}
    made = graph_of(graph([conv("b", "x", "t"), ("Add", ["t", "a"], ["y"], {})], params))
    first = [p.read_bytes() for p in write_torch(made, tmp_path / "one")]
    assert first == [p.read_bytes() for p in write_torch(made, tmp_path / "two")]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["model.py", "model.safetensors"]
    assert str(tmp_path).encode() not in first[0] + first[1]


@pytest.mark.parametrize(
    ("one", "named"),
    [
        (torch_cases.case("LRN", size=2), "LRN 'node'"),
        (torch_cases.case("Conv", (1, 2, 3, 3, 3, 3), constants=(f32(2, 2, 1, 1, 1, 1),)), "Conv 'node'"),
        (torch_cases.case("Mod", (2, 3), (2, 3), dtype=np.uint64), "Mod 'node': Mod of uint64"),
    ],
)
def test_what_it_cannot_write_it_names(one: Case, named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=named):
        write_torch(graph_of(torch_cases.model(one)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_operator_of_another_domain_is_named() -> None:
    model = graph([("Gelu", ["x"], ["y"], {"domain": "com.microsoft"})], {})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ModelError, match=r"com\.microsoft\.Gelu"):
        torch_source(graph_of(model))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_torch(graph_of(graph([("Relu", ["x"], ["y"], {})], {})), tmp_path / "file")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 14))
def test_random_networks_whole_and_cut(tmp_path_factory: pytest.TempPathFactory, seed: int, length: int) -> None:
    channels = analyze(graph_of(random_network(seed, length)))
    try:
        torch_source(channels.graph)
    except ModelError as refused:  # named operators have no PyTorch form yet
        assert "cannot be written as PyTorch code" in str(refused)
        reject()
    cut = shrink(channels, random_removal(channels, np.random.default_rng(seed)))
    for made in (channels.graph, cut):
        feeds = {name: f32(*(3 if isinstance(d, str) else d for d in made.shape(name))) for name in made.inputs}
        same(in_torch(made, feeds, tmp_path_factory.getbasetemp() / "random"), in_ort(to_onnx(made), feeds))


NETWORKS = "resnet20 resnet56 plain10 mobilenet_w050 mobilenet_v1_w050_160_imagenet mobilenet_v2_w100_224_imagenet"


@pytest.mark.shared
@pytest.mark.parametrize("name", [*NETWORKS.split(), "face_detector_rfb320"])
def test_trained_networks(name: str, shared: Path, tmp_path: Path) -> None:
    path = shared / "models" / f"{name}.onnx"
    made = infer(from_onnx(path))
    shape = [2 if isinstance(d, str) else d for d in made.shape(made.inputs[0])]
    feeds = {made.inputs[0]: f32(*shape)}
    same(in_torch(made, feeds, tmp_path), in_ort(onnx.load(path), feeds))
    weights = sorted(a.size for a in made.params.values() if a.dtype.kind == "f" and a.size > 1)
    held = [t for t in imported(tmp_path).Model().state_dict().values() if t.is_floating_point()]
    assert sorted(t.numel() for t in held if t.numel() > 1) == weights
