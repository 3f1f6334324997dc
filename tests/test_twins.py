"""A PyTorch module and the ONNX file of the same network: same groups, same MACs, one plan for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import amcc
from amcc.errors import PlanError, VerificationError
from tests import tiny_models

torch = pytest.importorskip("torch")
FAST: dict[str, Any] = {"search": "uniform", "recover": "none", "threads": 1}


class Tiny(torch.nn.Module):  # type: ignore[misc, name-defined]
    """The network of `tiny_models`, with a BatchNorm that the ONNX file lacks if asked for."""

    def __init__(self, normalised: bool = False) -> None:
        super().__init__()
        c = tiny_models.CHANNELS
        self.conv1 = torch.nn.Conv2d(3, c, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(c, c, 3, padding=1)
        self.bn2 = torch.nn.BatchNorm2d(c) if normalised else torch.nn.Identity()
        self.conv3 = torch.nn.Conv2d(c, c, 3, padding=1)
        self.fc = torch.nn.Linear(c, tiny_models.CLASSES)
        state = {name: torch.tensor(array) for name, array in tiny_models.weights().items()}
        self.load_state_dict(state, strict=False)
        self.eval()

    def forward(self, x: Any) -> Any:
        b = torch.relu(self.conv1(x))
        f = b + self.conv3(torch.relu(self.bn2(self.conv2(b))))
        return self.fc(f.mean(dim=(2, 3)))


EXAMPLE = (torch.zeros(2, 3, 8, 8),)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "model.onnx")


@pytest.mark.parametrize("normalised", [False, True])
def test_same_groups_and_macs(model: Path, normalised: bool) -> None:
    of_file, of_module = amcc.inspect(model), amcc.inspect(Tiny(normalised), EXAMPLE)
    assert [(g.name, g.size, g.macs) for g in of_module.groups] == [(g.name, g.size, g.macs) for g in of_file.groups]
    assert of_module.totals.macs == of_file.totals.macs


@pytest.mark.parametrize("normalised", [False, True])
def test_a_plan_goes_from_the_file_to_the_module_and_back(model: Path, normalised: bool, tmp_path: Path) -> None:
    plan = amcc.plan(model, budget="flops=0.5", **FAST)
    on_file = amcc.apply(plan, model, threads=1)
    on_module = amcc.apply(plan, lambda: (Tiny(normalised), EXAMPLE), threads=1)
    for name in ("conv1.weight", "conv2.weight", "conv3.weight", "fc.bias"):
        np.testing.assert_array_equal(on_module.graph.params[name], on_file.graph.params[name])
    assert on_module.summary.totals.macs == on_file.summary.totals.macs
    back = amcc.apply(on_module.plan, model, threads=1)
    assert [group.removed for group in back.plan.groups] == [group.removed for group in plan.groups]


def test_both_artifacts_compute_the_same(tmp_path: Path) -> None:
    module = Tiny(normalised=True)
    amcc.compile(module, EXAMPLE, budget="flops=0.5", out=tmp_path / "o", emit="onnx,torch", **FAST)
    scope: dict[str, Any] = {"__name__": "model", "__file__": str(tmp_path / "o" / "model.py")}
    exec(compile((tmp_path / "o" / "model.py").read_text(), "model.py", "exec"), scope)
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "o" / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: x})[0]
    small = scope["load"]()
    np.testing.assert_allclose(small(torch.tensor(x)).detach().numpy(), expected, atol=1e-5)
    assert set(small.state_dict()) <= set(module.state_dict())
    assert any("certificate repeated" in check for check in amcc.verify(module, tmp_path / "o", EXAMPLE).checks)


def test_a_folder_of_the_twin_is_not_the_files(model: Path, tmp_path: Path) -> None:
    amcc.compile(Tiny(), EXAMPLE, budget="flops=0.5", out=tmp_path / "o", **FAST)
    with pytest.raises(VerificationError, match="another file or module"):
        amcc.verify(model, tmp_path / "o")


def test_a_module_of_other_widths_is_refused(model: Path) -> None:
    plan = amcc.plan(model, budget="flops=0.3", **FAST)
    wide = Tiny()
    wide.conv2, wide.conv3 = torch.nn.Conv2d(8, 9, 3, padding=1), torch.nn.Conv2d(9, 8, 3, padding=1)
    with pytest.raises(PlanError, match="8 units in the plan and 9 in the model"):
        amcc.apply(plan, wide.eval(), EXAMPLE, threads=1)


def renamed(path: Path) -> Path:
    """The file with its convolutions' and its last layer's weights as an exporter leaves them: renamed, transposed."""
    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if node.op_type not in ("Conv", "Gemm") or name not in weights:
            continue
        layer = name.removesuffix(".weight")
        node.name = f"/{layer}/{node.op_type}"
        node.input[1] = weights[name].name = f"onnx::{node.op_type}_{len(name)}{layer}"
        if node.op_type == "Gemm":
            turned = numpy_helper.to_array(weights[name]).T.copy()
            weights[name].CopyFrom(numpy_helper.from_array(turned, node.input[1]))
            for attribute in node.attribute:
                if attribute.name == "transB":
                    attribute.i = 1 - attribute.i
        for place, bias in enumerate(node.input[2:], 2):
            node.input[place] = weights[bias].name = f"onnx::{layer}_{place}"
    onnx.save(model, path.with_name("renamed.onnx"))
    return path.with_name("renamed.onnx")


def test_a_plan_finds_weights_that_an_exporter_renamed(model: Path) -> None:
    other = renamed(model)
    plan = amcc.plan(other, budget="flops=0.5", **FAST)
    small = amcc.apply(plan, Tiny(), EXAMPLE)
    assert type(small) is Tiny
    on_file = amcc.apply(plan, other, threads=1)
    assert small.conv2.weight.shape == tuple(on_file.graph.params["onnx::Conv_12conv2"].shape)
    back = amcc.apply(amcc.plan(Tiny(), EXAMPLE, budget="flops=0.5", **FAST), other, threads=1)
    assert back.summary.totals.macs == on_file.summary.totals.macs
