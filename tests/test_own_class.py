"""A module of the user's own class, shrunk: same class, right attributes, outputs of the shrunk graph, trainable."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import amcc
from amcc.frontends.load import captured
from amcc.own_class import Shrunk, shrunk_module
from amcc.passes.channels import analyze
from amcc.passes.rewrite import shrink
from tests import tiny_models

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
FAST: dict[str, Any] = {"search": "uniform", "recover": "none", "threads": 1}


def cut(module: Any, example: Any, share: float = 0.5, only: str = "") -> Shrunk:
    """The module without so much of every group, or of those whose name has `only` in it."""
    found = captured(randomized(module), example_inputs=example)
    channels = analyze(found.graph)
    gone = {g.index: np.arange(int(g.size * share)) * 2 % g.size for g in channels.groups if only in g.name}
    removal = {index: np.unique(units) for index, units in gone.items() if len(units)}
    assert removal
    assert found.origin is not None
    return shrunk_module(found.origin, channels, removal, shrink(channels, removal))


def randomized(module: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - (0.5 if tensor.ndim > 1 else -0.2))
    return module.eval()


def trains(module: Any, *inputs: Any) -> None:
    """Every parameter gets a finite gradient."""
    outputs = module.train()(*inputs)
    (outputs if isinstance(outputs, torch.Tensor) else outputs[0]).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters() if p.requires_grad)


class Mixed(nn.Module):  # type: ignore[misc, name-defined]
    """Each kind of layer whose width is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm = nn.BatchNorm2d(16)
        self.slope = nn.PReLU(16)
        self.up = nn.ConvTranspose2d(16, 12, 2, 2)
        self.instance = nn.InstanceNorm2d(12, affine=True)
        self.bare = nn.BatchNorm2d(12, affine=False)
        self.hidden = nn.Linear(12, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Any) -> Any:
        x = self.slope(self.norm(self.depthwise(self.stem(x))))
        x = self.bare(self.instance(self.up(x)))
        return self.head(torch.relu(self.hidden(x.mean((2, 3)))))


def test_layers_and_their_attributes() -> None:
    module = Mixed()
    shrunk = cut(module, torch.zeros(1, 3, 4, 4))
    small = shrunk.module
    assert shrunk.own_class, shrunk.notes
    assert type(small) is Mixed
    assert shrunk.error < 1e-4
    assert not shrunk.notes
    assert (small.stem.in_channels, small.stem.out_channels) == (3, 8)
    assert (small.depthwise.groups, small.depthwise.in_channels, small.depthwise.out_channels) == (8, 8, 8)
    assert (small.norm.num_features, small.slope.num_parameters) == (8, 8)
    assert (small.up.in_channels, small.up.out_channels) == (8, 6)
    assert (small.instance.num_features, small.bare.num_features) == (6, 6)
    assert (small.hidden.in_features, small.hidden.out_features) == (6, 5)
    assert (small.head.in_features, small.head.out_features) == (5, 5)
    trains(small, torch.randn(2, 3, 4, 4))
    fresh = Mixed()
    assert [p.shape for p in module.parameters()] == [p.shape for p in fresh.parameters()]


class Attention(nn.Module):  # type: ignore[misc, name-defined]
    """Heads by attributes, as most classes spell them."""

    def __init__(self, dim: int = 16, heads: int = 4, head_dim: int = 6) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.inner = heads, head_dim, heads * head_dim
        self.scale = head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * self.inner)
        self.proj = nn.Linear(self.inner, dim)

    def forward(self, x: Any) -> Any:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        attention = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, self.inner))


def test_heads_of_attention() -> None:
    found = captured(randomized(Attention()), example_inputs=torch.zeros(2, 5, 16))
    channels = analyze(found.graph)
    heads = next(g for g in channels.groups if g.size == 4)
    removal = {heads.index: np.array([1])}
    assert found.origin is not None
    shrunk = shrunk_module(found.origin, channels, removal, shrink(channels, removal))
    assert shrunk.own_class, shrunk.notes
    assert (shrunk.module.num_heads, shrunk.module.head_dim, shrunk.module.inner) == (3, 6, 18)
    assert shrunk.module.qkv.out_features == 54
    assert shrunk.module(torch.randn(3, 7, 16)).shape == (3, 7, 16)


class Fixed(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.other = nn.Conv2d(8, 6, 1)
        self.fc = nn.Linear(6 * 4, 5)

    def forward(self, x: Any) -> Any:
        x = self.conv(x).reshape(-1, 8, 2, 2)
        return self.fc(self.other(x).flatten(1))


def test_a_width_in_forward_is_named_and_the_standalone_form_given() -> None:
    shrunk = cut(Fixed(), torch.zeros(2, 3, 2, 2))
    assert not shrunk.own_class
    assert "test_own_class.py" in shrunk.notes[0]
    assert "reshape(-1, 8, 2, 2)" in shrunk.notes[0]
    assert "what it removes of 'conv.weight'" in shrunk.notes[0]
    assert shrunk.module(torch.zeros(3, 3, 2, 2)).shape == (3, 5)
    trains(shrunk.module, torch.randn(2, 3, 2, 2))


class Tied(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.shared = nn.LayerNorm(8)
        self.register_buffer("gate", torch.rand(8), persistent=False)

    def forward(self, tokens: Any) -> Any:
        x = self.shared(self.embed(tokens)) * self.gate
        return self.head(self.shared(x + self.hidden(x)))


def test_tied_weights_stay_tied_and_buffers_are_cut() -> None:
    shrunk = cut(Tied(), torch.zeros(2, 4, dtype=torch.long))
    small = shrunk.module
    assert shrunk.own_class, shrunk.notes
    assert small.head.weight is small.embed.weight
    assert small.embed.embedding_dim == small.hidden.in_features == small.gate.shape[0] == 4
    assert small.shared.normalized_shape == (4,)
    assert "gate" not in small.state_dict()


def weight_normed(kind: Callable[..., Any]) -> Any:
    return nn.Sequential(kind(nn.Conv2d(3, 8, 1)), nn.ReLU(), kind(nn.Conv2d(8, 8, 1)), nn.ReLU(), nn.Conv2d(8, 4, 1))


def old_style(part: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(part)


@pytest.mark.parametrize("kind", [torch.nn.utils.parametrizations.weight_norm, old_style])
def test_weight_norm_is_kept(kind: Callable[..., Any]) -> None:
    module = weight_normed(kind)
    keys, x = set(module.state_dict()), torch.randn(2, 3, 4, 4)
    shrunk = cut(module, torch.zeros(1, 3, 4, 4))
    assert shrunk.own_class, shrunk.notes
    assert not shrunk.notes
    assert set(shrunk.module.state_dict()) == keys == set(module.state_dict())
    assert shrunk.module[2].weight.shape == (4, 4, 1, 1)
    trains(shrunk.module, x)
    assert module(x).shape == (2, 4, 4, 4)


def test_spectral_norm_becomes_a_plain_weight_with_a_note() -> None:
    module = weight_normed(torch.nn.utils.parametrizations.spectral_norm)
    shrunk = cut(module, torch.zeros(1, 3, 4, 4))
    assert shrunk.own_class, shrunk.notes
    assert ["0.weight" in note and "SpectralNorm" in note for note in shrunk.notes] == [True, False]
    assert "0.weight" in shrunk.module.state_dict()
    assert "0.parametrizations.weight.original" in module.state_dict()
    assert module(torch.randn(1, 3, 4, 4)).shape == (1, 4, 4, 4)


class Tiny(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        c = tiny_models.CHANNELS
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(i, c, 3, padding=1) for i in (3, c, c))
        self.fc = nn.Linear(c, tiny_models.CLASSES)
        self.load_state_dict({name: torch.tensor(array) for name, array in tiny_models.weights().items()})

    def forward(self, x: Any) -> Any:
        b = torch.relu(self.conv1(x))
        return self.fc((b + self.conv3(torch.relu(self.conv2(b)))).mean(dim=(2, 3)))


def test_apply_gives_the_class_back_and_needs_no_example(tmp_path: Any) -> None:
    plan = amcc.plan(tiny_models.save(tmp_path / "model.onnx"), budget="flops=0.5", **FAST)
    module = Tiny().train()
    small = amcc.apply(plan, module)
    assert type(small) is Tiny
    assert small.training
    assert small.conv1.out_channels < module.conv1.out_channels
    on_file = amcc.apply(plan, tmp_path / "model.onnx", threads=1)
    for key, tensor in small.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), on_file.graph.params[key])


def test_compile_offers_the_module() -> None:
    result = amcc.compile(Tiny(), torch.zeros(1, 3, 8, 8), budget="flops=0.5", **FAST)
    assert type(result.module) is Tiny
    assert result.module is result.module
    assert result.shrunk.error < 1e-4


def test_a_class_that_resists_warns() -> None:
    module = randomized(Fixed())
    plan = amcc.plan(module, torch.zeros(2, 3, 2, 2), budget="flops=0.6", **FAST)
    with pytest.warns(UserWarning, match=r"reshape\(-1, 8, 2, 2\)"):
        small = amcc.apply(plan, module)
    assert type(small) is not Fixed
