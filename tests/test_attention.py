"""Transformers as exporters spell them: the groups that must be found, and that every cut of them is exact.

Groups are written as their sizes, an inexact one with a tilde: width of the residual, heads, width of queries and
keys, width of values and outputs, hidden layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amcc.backends.runtime import Session
from amcc.certificate import certify
from amcc.frontends.load import load
from amcc.passes.channels import Channels, analyze
from amcc.passes.cost import CostModel, node_macs
from amcc.passes.rewrite import check_shapes, shrink
from tests import attention_modules as nets
from tests.test_exactness import random_removal

Net = tuple[Callable[[], object], tuple[int, ...], str, str]
_B, _G = nets.Block, nets.Grouped

# how it is made, shape of its input, exporter (`static` fixes the batch), groups
CASES: dict[str, Net] = {
    "MultiheadAttention": (lambda: _B(nets.MultiHead(weights=False)), nets.TOKENS_IN, "new", "~16 20 4 4 4"),
    "MultiheadAttention with weights": (
        lambda: _B(nets.MultiHead(weights=True)),
        nets.TOKENS_IN,
        "old",
        "~16 20 4 4 4",
    ),
    "fused": (lambda: _B(nets.Fused()), nets.TOKENS_IN, "new", "~16 20 4 4 4"),
    "fused, not optimised": (lambda: _B(nets.Fused()), nets.TOKENS_IN, "raw", "~16 20 4 4 4"),
    "chunked": (lambda: _B(nets.Chunked()), nets.TOKENS_IN, "old", "~16 20 4 4 4"),
    "chunked, static": (lambda: _B(nets.Chunked()), nets.TOKENS_IN, "old static", "~16 20 4 4 4"),
    "heads merged with the batch": (lambda: _B(nets.Merged()), nets.TOKENS_IN, "old", "~16 20 4 4 4"),
    "talking heads": (lambda: _B(nets.Talking()), nets.TOKENS_IN, "old", "~16 20 4 4 4 4 4"),
    "cross-covariance": (lambda: _B(nets.CrossCovariance()), nets.TOKENS_IN, "old", "~16 20 4 4 ~4"),
    "linear attention": (lambda: _B(nets.Linearised()), nets.TOKENS_IN, "old", "~16 20 4 4 4"),
    "grouped queries": (lambda: _B(_G(2, nets.turn_halves)), nets.TOKENS_IN, "raw", "~16 20 2 2 2 4"),
    "one key for all": (lambda: _B(_G(1, nets.turn_halves)), nets.TOKENS_IN, "old", "~16 20 4 2 4"),
    "rotary by pairs": (lambda: _B(_G(2, nets.turn_pairs)), nets.TOKENS_IN, "new", "~16 20 2 2 2 4"),
    "token mixing": (lambda: _B(nets.TokenMixing()), nets.TOKENS_IN, "old", "~16 20 7"),
    "spatial gating": (lambda: _B(nets.SpatialGating()), nets.TOKENS_IN, "old", "~16 20 ~12"),
    "windows": (nets.Windows, nets.PICTURES_IN, "old", "~16 32 4 4 4"),
    "patches": (nets.Patches, nets.PICTURES_IN, "new", "~16 4 4 4"),
    "queries": (nets.Queries, nets.PICTURES_IN, "old", "16 16 ~16 4 4 4"),
    "buckets": (nets.Buckets, nets.WORDS_IN, "old", "~16 4 4 4"),
    "causal": (nets.Causal, nets.WORDS_IN, "old", "~16 4 4 4"),
}


def export(make: Callable[[], object], shape: tuple[int, ...], exporter: str, path: Path) -> None:
    """Write a module, seeded, in evaluation mode; no two parameters are equal, exporters would make them one."""
    import torch

    torch.manual_seed(0)
    module = make()
    assert isinstance(module, torch.nn.Module)
    for parameter in module.parameters():
        parameter.data += torch.randn_like(parameter) / 10
    x = torch.randint(0, nets.KINDS, shape) if len(shape) == 2 else torch.randn(*shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter.startswith("old"):
            dynamic = {} if "static" in exporter else {"x": {0: "batch"}}
            torch.onnx.export(
                module.eval(), (x,), path, dynamo=False, input_names=["x"], dynamic_axes=dynamic, opset_version=17
            )
        else:
            dims = ({0: torch.export.Dim("batch")},)
            options = {"optimize": exporter == "new", "verbose": False, "external_data": False}
            torch.onnx.export(module.eval(), (x,), path, dynamo=True, dynamic_shapes=dims, **options)


def certified(path: Path, channels: Channels, seed: int) -> float:
    """The error of a random cut."""
    removal = random_removal(channels, np.random.default_rng(seed))
    shrunk = shrink(channels, removal)
    check_shapes(shrunk)
    assert CostModel(channels).of_removal(removal).flops == sum(node_macs(shrunk).values())
    return certify(path, channels, removal, shrunk, seed=seed).error


@pytest.mark.parametrize("name", CASES)
def test_a_transformer(name: str, tmp_path: Path) -> None:
    make, shape, exporter, expected = CASES[name]
    path = tmp_path / "model.onnx"
    export(make, shape, exporter, path)
    channels = analyze(load(path))
    assert sorted(f"{'~' * g.inexact}{g.size}" for g in channels.groups) == sorted(expected.split())
    for seed in range(3):
        assert certified(path, channels, seed) <= 1e-4


def test_a_module_whose_buffer_is_called_like_an_operator() -> None:
    """torch's exporter gives `index` and what `aten.index` makes the same name."""
    import torch

    torch.manual_seed(0)
    module, x = nets.Windows().eval(), torch.randn(2, 3, 8, 8)
    graph = load(module, example_inputs=x)
    found = Session(graph).run({graph.inputs[0]: x.numpy()})[graph.outputs[0]]
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-4, atol=1e-4)
    channels = analyze(graph)
    assert sorted(g.size for g in channels.groups) == [4, 4, 4, 16, 32]
    removal = random_removal(channels, np.random.default_rng(0))
    assert certify(graph, channels, removal, shrink(channels, removal)).error <= 1e-4
