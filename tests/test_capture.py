"""Modules of every make: nested arguments and outputs, computed weights, wrappers, precisions, errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest

import amcc
from amcc.errors import ModelError
from amcc.frontends.from_torch import from_torch
from tests.test_from_torch import Anything, Net, in_ort, randomized, sample

torch = pytest.importorskip("torch")
nn = torch.nn


@dataclasses.dataclass
class Given:
    x: Any
    mask: Any = None


@dataclasses.dataclass
class Found:
    logits: Any
    boxes: Any
    hidden: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any


class Heads(nn.Module):  # type: ignore[misc, name-defined]
    """Nested in, several heads out."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.logits, self.boxes = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, given: Given, pair: Pair, *, scale: Any, extra: dict[str, Any]) -> Any:
        x = torch.relu(self.trunk(given.x * given.mask + pair.left - pair.right)) * scale
        return {"found": Found(self.logits(x), self.boxes(x)), "sums": [x.sum(-1), (extra["shift"] + 1, None, "text")]}


def test_nested_arguments_and_outputs() -> None:
    module = randomized(Heads()).eval()

    def call(batch: int) -> amcc.Call:
        a, b, c, d = (sample(batch, 4, seed=seed) for seed in range(4))
        return amcc.Call(Given(a, b), Pair(c, d), scale=torch.tensor(0.5), extra={"shift": sample(batch, 1)})

    graph = from_torch(module, call(1))
    assert [graph.shape(name) for name in graph.inputs] == [("batch", 4)] * 4 + [(), ("batch", 1)]
    given = call(5)
    expected = given.on(module)
    found = in_ort(graph, *given.tensors)
    flat = [expected["found"].logits, expected["found"].boxes, expected["sums"][0], expected["sums"][1][0]]
    for ours, theirs in zip(found, flat, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5)


def test_arguments_by_name_alone_and_some_shared_by_the_batch() -> None:
    module = Anything(lambda s, x, table: x @ table)
    graph = from_torch(module, (sample(3, 4), sample(4, 2)))
    assert [graph.shape(name) for name in graph.inputs] == [("batch", 4), (4, 2)]


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_computed_weights_are_captured_as_weights(kind: str) -> None:
    norm = getattr(torch.nn.utils.parametrizations, kind)
    module = nn.Sequential(norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 3)).eval()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    x = sample(3, 4)
    expected = module(x)
    graph = from_torch(module, x)
    assert set(graph.params) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    np.testing.assert_allclose(in_ort(graph, x)[0], expected.detach().numpy(), atol=1e-5)
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert torch.equal(module(x), expected)


def test_pruned_weights_are_captured_as_weights() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)).eval()
    torch.nn.utils.prune.l1_unstructured(module[0], "weight", amount=0.5)
    graph = from_torch(module, sample(2, 4))
    assert set(graph.params) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert (graph.params["0.weight"] == 0).sum() == 12
    assert "0.weight_orig" in module.state_dict()


def test_wrappers_are_taken_off() -> None:
    module = nn.Sequential(nn.Linear(4, 3))
    graph = from_torch(nn.DataParallel(module), sample(2, 4))
    assert set(graph.params) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_narrow_precisions_come_back_as_they_are(kind: str) -> None:
    dtype = getattr(torch, kind)
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1)).to(dtype)
    result = amcc.compile(
        module, torch.zeros(2, 3, 6, 6, dtype=dtype), budget="flops=0.5", search="uniform", recover="none", threads=1
    )
    assert result.shrunk.own_class, result.shrunk.notes
    assert {tensor.dtype for tensor in result.module.state_dict().values()} == {dtype}
    assert result.module[0].out_channels < 16


def test_only_evaluation_is_captured() -> None:
    def forward(self: Any, x: Any) -> Any:
        return self.extra(x) if self.training else self.fc(x)

    module = randomized(Net(forward, fc=nn.Linear(4, 3), extra=nn.Linear(4, 3))).train()
    graph = from_torch(module, sample(2, 4))
    assert set(graph.params) == {"fc.weight", "fc.bias"}
    assert module.training


# Errors


def assigns(self: Any, x: Any) -> Any:
    self.last = x * 2
    return self.last + 1


def by_item(self: Any, x: Any) -> Any:
    return x[: int(x.sum().item())]


class Opaque:
    def __init__(self, x: Any) -> None:
        self.x = x


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (by_item, "decides by the values of a tensor"),
        (lambda s, x: Opaque(x), "gives no tensor but a Opaque"),
        (lambda s, x: x @ x.new_zeros(3, 3), "fails on the example inputs: RuntimeError"),
    ],
)
def test_errors_say_what_to_change(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        from_torch(Net(function), sample(2, 4))


def test_the_factory_line_is_named() -> None:
    with pytest.raises(ModelError, match=r"test_capture.py:\d+ \(return x\[: int"):
        from_torch(Net(by_item), sample(2, 4))


# Free dimensions


def test_the_length_of_a_sequence_stays_free(tmp_path: Any) -> None:
    def forward(self: Any, x: Any) -> Any:
        return self.out(torch.relu(self.hidden(x)).cumsum(1))

    module = randomized(Net(forward, hidden=nn.Linear(6, 16), out=nn.Linear(16, 3))).eval()
    how: dict[str, Any] = {"search": "uniform", "recover": "none", "threads": 1, "emit": "onnx"}
    named = {"x": ("batch", "length", 6)}
    out = tmp_path / "o"
    result = amcc.compile(module, torch.zeros(1, 8, 6), budget="flops=0.5", input_shapes=named, out=out, **how)
    assert result.summary.free, result.summary.warnings
    x = sample(2, 13, 6)
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(found, result.module(x).detach().numpy(), atol=1e-4)
    checks = amcc.verify(module, out, torch.zeros(1, 8, 6), input_shapes=named).checks
    assert any("certificate repeated" in check for check in checks)


def test_sizes_that_are_not_the_examples_are_refused() -> None:
    with pytest.raises(ModelError, match="give names for dimensions that are to stay free"):
        amcc.inspect(nn.Linear(6, 3), torch.zeros(2, 4, 6), input_shapes={"input": (2, 5, 6)})
