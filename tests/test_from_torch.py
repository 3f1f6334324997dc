from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from amcc.backends.to_onnx import to_onnx
from amcc.backends.to_torch import write_torch
from amcc.errors import ModelError
from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.from_torch import from_exported, from_torch
from amcc.ir import Graph, verify
from amcc.passes.channels import analyze
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer

ort.set_default_logger_severity(3)


class Net(nn.Module):
    """Named parts and a function of them."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


class Pair(Net):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> Any:
        return self.function(self, left, right)


class Anything(Net):
    def forward(self, *given: Any) -> Any:
        return self.function(self, *given)


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics that nothing can mistake for defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                low = -1.0 if tensor.ndim > 1 else 0.1
                fan = max(tensor[0].numel(), 1) if tensor.ndim > 1 else 1
                tensor.copy_((torch.rand(tensor.shape, generator=generator) * (1 - low) + low) / fan**0.5)
    return module


def sample(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def in_ort(graph: Graph, *inputs: torch.Tensor) -> list[Any]:
    session = ort.InferenceSession(to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {n: x.numpy() for n, x in zip(graph.inputs, inputs, strict=True)}))


def written(graph: Graph, folder: Path) -> nn.Module:
    write_torch(graph, folder)
    spec = importlib.util.spec_from_file_location("written_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: nn.Module = module.load()
    return model


def check(module: nn.Module, folder: Path, *shape: int, batch: int = 3, same_state: bool = True) -> Graph:
    """Captured with one sample, right for several: in ONNX Runtime, and written back as PyTorch."""
    randomized(module).eval()
    graph = from_torch(module, sample(1, *shape))
    verify(graph)
    assert all(v.shape is not None and "?" not in v.shape for v in graph.values.values())
    assert graph.shape(graph.inputs[0])[0] == "batch"
    x = sample(batch, *shape, seed=2)
    with torch.no_grad():
        expected = module(x)
    state = module.state_dict()
    for name, array in graph.params.items():
        if name in state:
            np.testing.assert_array_equal(array, state[name].numpy())
    np.testing.assert_allclose(in_ort(graph, x)[0], expected.numpy(), atol=1e-4, rtol=1e-4)
    again = written(graph, folder)
    with torch.no_grad():
        np.testing.assert_allclose(again(x).numpy(), expected.numpy(), atol=1e-4, rtol=1e-4)
    if same_state:
        assert set(again.state_dict()) == set(state)
        module.load_state_dict(again.state_dict())
    return graph


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


class Block(nn.Module):
    """The option-A residual block of the CIFAR ResNets."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.pad = stride, (c_out - c_in) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class ResNet(nn.Module):
    def __init__(self, blocks: int, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)

        def layer(c_in: int, c_out: int, stride: int) -> nn.Sequential:
            return nn.Sequential(Block(c_in, c_out, stride), *(Block(c_out, c_out, 1) for _ in range(blocks - 1)))

        self.layer1 = layer(width, width, 1)
        self.layer2 = layer(width, 2 * width, 2)
        self.layer3 = layer(2 * width, 4 * width, 2)
        self.linear = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        x = F.avg_pool2d(x, x.size(3))
        return self.linear(x.view(x.size(0), -1))


def test_a_residual_network_is_its_own_operators(tmp_path: Path) -> None:
    graph = check(ResNet(1, width=4), tmp_path, 3, 8, 8)
    block = ["Conv", "BatchNormalization", "Relu", "Conv", "BatchNormalization"]
    tail = ["Add", "Relu"]
    shortcut = ["Slice", "Slice", "Pad"]
    assert ops(graph) == [
        *("Conv", "BatchNormalization", "Relu"),
        *(*block, *tail),
        *(*block, *shortcut, *tail) * 2,
        *("AveragePool", "Reshape", "Gemm"),
    ]
    nodes = {node.name: node for node in graph.nodes}
    first = nodes["layer2.0.conv1"]
    assert first.inputs[1:] == ("layer2.0.conv1.weight",)
    assert first.source == "layer2.0.conv1"
    assert nodes["layer2.0/pad"].source == "layer2.0"
    normal = nodes["layer2.0.bn1"]
    assert normal.inputs[1:] == tuple(f"layer2.0.bn1.{n}" for n in ("weight", "bias", "running_mean", "running_var"))
    assert graph.params["linear.weight"].shape == (10, 16)
    assert (graph.name, graph.inputs, graph.outputs) == ("ResNet", ("x",), ("output",))


def test_the_capture_is_the_same_every_time() -> None:
    module = randomized(ResNet(1, width=4))
    first, second = (to_onnx(from_torch(module, sample(1, 3, 8, 8))).SerializeToString() for _ in range(2))
    assert first == second


def se(self: Any, x: torch.Tensor) -> torch.Tensor:
    x = F.hardswish(self.bn(self.depthwise(x)))
    gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)))).view(x.size(0), -1, 1, 1)
    x = x * F.hardsigmoid(gate)
    gate = torch.sigmoid(self.up2(F.silu(self.down2(x.mean((2, 3), keepdim=True)))))
    return self.project(x * gate)


def shuffled(self: Any, x: torch.Tensor) -> torch.Tensor:
    left, right = self.grouped(x).chunk(2, dim=1)
    x = torch.cat([left, self.branch(right)], 1)
    n, c, h, w = x.shape
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    a, b = x.split([2, c - 2], 1)
    return torch.cat([b, a], 1)


def decoder(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = self.transposed(x)
    z = F.interpolate(x, scale_factor=2, mode="nearest") + F.interpolate(x, size=(10, 10), mode="bilinear")
    z = z + F.pixel_shuffle(self.widen(x), 2) + F.interpolate(x, size=y.shape[2:], mode="bilinear", align_corners=True)
    return torch.cat([F.pixel_unshuffle(y, 2), F.max_pool2d(z, 3, 2, ceil_mode=True)], 1)


def normalised(self: Any, x: torch.Tensor) -> torch.Tensor:
    x = self.group(self.instance(x)) + self.plain(x)
    x = self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return self.slopes(x) + self.slope(x) * self.gain + (x - self.mean) / self.std


def activated(self: Any, x: torch.Tensor) -> torch.Tensor:
    x = self.conv(x)
    total = F.relu6(x) + F.leaky_relu(x, 0.2) + F.elu(x) + F.selu(x) + F.gelu(x) + F.mish(x) + F.softplus(x)
    total = (
        total + F.hardtanh(x, -0.5, 0.7) + torch.tanh(x) + torch.where(x > 0, x, torch.zeros_like(x)) + x.abs().sqrt()
    )
    return total.clamp(min=0.1) ** 2 + F.log_softmax(x, 1) + F.normalize(x, dim=1)


def pooled(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) + F.max_pool2d(x, 2) + F.adaptive_avg_pool2d(x, (4, 4))
    y = y + F.adaptive_max_pool2d(x, 4) + F.avg_pool2d(x, 3, 2, 1, ceil_mode=False)
    return self.fc(torch.cat([y.flatten(1), x.amax((2, 3)), x.std((2, 3))], 1)) + self.fc2(x.flatten(2)).sum(1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "squeeze-excite": (
        lambda: Net(
            se,
            depthwise=nn.Conv2d(8, 8, 3, padding=1, groups=8),
            bn=nn.BatchNorm2d(8, eps=1e-3, momentum=0.01),
            down=nn.Linear(8, 4),
            up=nn.Linear(4, 8),
            down2=nn.Conv2d(8, 4, 1),
            up2=nn.Conv2d(4, 8, 1),
            project=nn.Conv2d(8, 6, 1, bias=False),
        ),
        (8, 6, 6),
    ),
    "shuffle": (
        lambda: Net(shuffled, grouped=nn.Conv2d(8, 8, 1, groups=2), branch=nn.Conv2d(4, 4, 3, padding="same")),
        (8, 6, 6),
    ),
    "decoder": (
        lambda: Net(
            decoder,
            transposed=nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1),
            widen=nn.Conv2d(4, 16, 3, padding=1, padding_mode="reflect"),
        ),
        (4, 5, 5),
    ),
    "norms": (
        lambda: Net(
            normalised,
            group=nn.GroupNorm(2, 4),
            instance=nn.InstanceNorm2d(4, affine=True),
            plain=nn.BatchNorm2d(4, affine=False),
            layer=nn.LayerNorm(4),
            slopes=nn.PReLU(4),
            slope=nn.PReLU(),
            gain=nn.Parameter(torch.tensor(2.0)),
            mean=torch.rand(4, 1, 1),
            std=torch.rand(4, 1, 1),
        ),
        (4, 5, 5),
    ),
    "activations": (lambda: Net(activated, conv=nn.Conv2d(4, 4, 1)), (4, 5, 5)),
    "pooling": (lambda: Net(pooled, fc=nn.Linear(72, 5), fc2=nn.Linear(64, 5, bias=False)), (4, 8, 8)),
    "signal": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 6, 3, dilation=2),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.ConvTranspose1d(6, 2, 4, 2),
        ),
        (3, 20),
    ),
    "volume": (
        lambda: nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
        (2, 4, 4, 4),
    ),
    "perceptron": (
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(12, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(8, 3),
            nn.Softmax(1),
        ),
        (3, 2, 2),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, tmp_path: Path) -> None:
    make, shape = NETWORKS[name]
    graph = check(make(), tmp_path, *shape)
    assert not {"Identity", "CastLike", "Dropout", "SequenceAt", "SplitToSequence", "Shape"} & set(ops(graph))


def test_a_linear_layer_on_tokens_keeps_its_weight(tmp_path: Path) -> None:
    graph = check(Net(lambda s, x: s.fc(x.transpose(1, 2)), fc=nn.Linear(4, 6)), tmp_path, 4, 5)
    assert graph.params["fc.weight"].shape == (6, 4)
    assert {*graph.params} <= {"fc.weight", "fc.bias"}


def test_tied_parameters_are_one(tmp_path: Path) -> None:
    net = Net(lambda s, x: s.first(x) + s.second(x), first=nn.Linear(4, 5), second=nn.Linear(4, 5))
    net.second.weight = net.first.weight
    graph = check(net, tmp_path, 4)
    assert {n for n in graph.params if n in net.state_dict()} == {"first.weight", "first.bias", "second.bias"}
    assert json.loads(graph.metadata["torch.tied"]) == {"second.weight": "first.weight"}
    again = written(graph, tmp_path)
    assert again.second.weight is again.first.weight


def test_a_layer_called_twice_is_one_layer(tmp_path: Path) -> None:
    graph = check(Net(lambda s, x: s.conv(F.relu(s.conv(x))), conv=nn.Conv2d(4, 4, 3, padding=1)), tmp_path, 4, 5, 5)
    assert [n.inputs[1] for n in graph.nodes if n.op == "Conv"] == ["conv.weight"] * 2
    assert len({n.name for n in graph.nodes}) == 3


def test_buffers_and_numbers_of_the_state_dict_stay_what_they_are(tmp_path: Path) -> None:
    net = Net(lambda s, x: (x - s.mean) * s.gain, mean=torch.rand(4, 1, 1), gain=nn.Parameter(torch.tensor(1.5)))
    graph = check(net, tmp_path, 4, 2, 2)
    again = written(graph, tmp_path)
    assert {n for n, _ in again.named_parameters()} == {"gain"}
    assert {n for n, _ in again.named_buffers()} == {"mean"}


def test_a_one_and_a_zero_of_the_state_dict_are_not_folded() -> None:
    net = Net(lambda s, x: x * s.gain + s.shift, gain=nn.Parameter(torch.ones(1)), shift=nn.Parameter(torch.zeros(4)))
    graph = from_torch(net, sample(2, 4))
    assert ops(graph) == ["Mul", "Add"]
    assert set(graph.params) == {"gain", "shift"}


def test_the_module_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    graph = from_torch(net, sample(2, 3, 4, 4))
    assert [part.training for part in net] == [True, False, True]
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with torch.no_grad():
        net[0].weight.zero_()
    assert graph.params["0.weight"].any()
    assert not graph.params["0.weight"].flags.writeable


def test_a_module_that_needs_its_batch_size_keeps_it(tmp_path: Path) -> None:
    net = randomized(Net(lambda s, x: s.fc(x.reshape(2, 12)), fc=nn.Linear(12, 3))).eval()
    graph = from_torch(net, sample(2, 3, 4))
    assert graph.shape("x") == (2, 3, 4)
    x = sample(2, 3, 4, seed=5)
    np.testing.assert_allclose(in_ort(graph, x)[0], net(x).detach().numpy(), atol=1e-5)
    assert from_torch(Net(lambda s, x: x + 1), sample(2, 3), dynamic_batch=False).shape("x") == (2, 3)


def test_several_inputs_by_place_and_by_name() -> None:
    def both(self: Any, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": left + right, "product": self.fc(left) * right}

    net = randomized(Pair(both, fc=nn.Linear(4, 4))).eval()
    left, right = sample(2, 4), sample(2, 4, seed=3)
    by_place = from_torch(net, (left, right))
    by_name = from_torch(net, {"left": left, "right": right})
    assert by_place.inputs == by_name.inputs
    assert by_place.outputs == ("output_0", "output_1")
    for graph in (by_place, by_name):
        total, product = in_ort(graph, left, right)
        np.testing.assert_allclose(total, (left + right).numpy(), atol=1e-6)
        np.testing.assert_allclose(product, (net.fc(left) * right).detach().numpy(), atol=1e-5)


def test_arguments_in_containers() -> None:
    net = Anything(lambda s, pair, scale: pair[0] * scale + pair[1]["x"])
    graph = from_torch(net, ((sample(1, 4), {"x": sample(1, 4)}), 3.0))
    assert [graph.shape(name) for name in graph.inputs] == [("batch", 4)] * 2
    x = sample(5, 4)
    np.testing.assert_allclose(in_ort(graph, x, x)[0], (x * 4).numpy(), atol=1e-6)


def test_outputs_that_are_inputs_or_the_same() -> None:
    def passes(self: Any, x: torch.Tensor) -> Any:
        y = x + 1
        return x, y, y

    graph = from_torch(Net(passes), sample(2, 4))
    x = sample(3, 4)
    for ours, theirs in zip(in_ort(graph, x), (x, x + 1, x + 1), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy())


def test_half_precision() -> None:
    net = nn.Conv2d(3, 4, 1).half()
    graph = from_torch(net, sample(1, 3, 4, 4).half())
    assert graph.values["weight"].dtype == "float16"
    assert graph.shape("x" if "x" in graph.inputs else graph.inputs[0]) == ("batch", 3, 4, 4)


def test_an_exported_program() -> None:
    net = randomized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).eval()
    x = sample(2, 3, 5, 5)
    batch = torch.export.Dim("b")
    graph = from_exported(torch.export.export(net, (x,), dynamic_shapes=({0: batch},)))
    assert graph.shape(graph.outputs[0]) == ("batch", 4, 3, 3)
    np.testing.assert_allclose(in_ort(graph, x)[0], net(x).detach().numpy(), atol=1e-5)


def test_a_cut_module_keeps_its_keys(tmp_path: Path) -> None:
    module = randomized(ResNet(1, width=8))
    channels = analyze(from_torch(module, sample(1, 3, 8, 8)))
    removal = {group.index: np.arange(0, group.size, 2) for group in channels.groups}
    cut = shrink(channels, removal)
    x = sample(3, 3, 8, 8)
    small = written(cut, tmp_path)
    with torch.no_grad():
        np.testing.assert_allclose(small(x).numpy(), in_ort(cut, x)[0], atol=1e-4)
    assert set(small.state_dict()) == set(module.state_dict())
    assert small.layer2[0].bn1.num_features == 8
    assert sum(p.numel() for p in small.parameters()) < 0.3 * sum(p.numel() for p in module.parameters())


def test_tensors_that_are_no_state(tmp_path: Path) -> None:
    net = Net(lambda s, x: (x - s.fixed[0]) * torch.tensor([1.0, 2.0, 3.0, 4.0]), weight=nn.Parameter(torch.ones(4)))
    net.fixed = [torch.tensor([0.5, 0.25, 0.125, 1.0])]
    graph = check(net, tmp_path, 4, same_state=False)
    assert not {n for n, _ in written(graph, tmp_path).named_parameters()}


# Errors


def decides(self: Any, x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:
        return x
    return -x


def leaves_torch(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() * 2)


def mismatched(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x @ x.new_zeros(3, 3)


def without_onnx(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.special.bessel_j0(x)


def always_random(self: Any, x: torch.Tensor) -> torch.Tensor:
    return F.dropout(x, 0.5, training=True)


@pytest.mark.parametrize(
    ("function", "line", "message"),
    [
        (decides, "if x.sum() > 0:", "torch.where"),
        (leaves_torch, "x.numpy()", "not with numpy"),
        (mismatched, "x @ x.new_zeros(3, 3)", "fails on the example inputs"),
        (without_onnx, None, "ONNX has no operator for .*bessel_j0"),
        (always_random, None, "training mode"),
    ],
)
def test_errors_name_the_line(function: Callable[..., Any], line: str | None, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        from_torch(Net(function), sample(2, 4))
    assert Path(__file__).name in str(caught.value)
    if line is not None:
        assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_inputs_without_a_tensor() -> None:
    with pytest.raises(ModelError, match="hold no tensor"):
        from_torch(nn.ReLU(), ())


# Trained networks


@pytest.mark.shared
@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9)])
def test_the_onnx_twin(name: str, blocks: int, shared: Path, tmp_path: Path) -> None:
    """PyTorch in gives what ONNX in gives: outputs, groups, MACs."""
    from safetensors.torch import load_file

    module = ResNet(blocks)
    module.load_state_dict(load_file(shared / "models" / f"{name}.safetensors"))
    graph, path = from_torch(module, sample(1, 3, 32, 32)), shared / "models" / f"{name}.onnx"
    x = sample(4, 3, 32, 32, seed=4)
    expected = ort.InferenceSession(path).run(None, {"input": x.numpy()})[0]
    np.testing.assert_allclose(in_ort(graph, x)[0], expected, atol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(written(graph, tmp_path)(x).numpy(), expected, atol=1e-4)
    ours, theirs = analyze(graph), analyze(infer(from_onnx(path)))
    assert [(g.name, g.size, g.macs) for g in ours.groups] == [(g.name, g.size, g.macs) for g in theirs.groups]
