"""`model.py` reads as a person would write it: the files in `tests/golden`, and the laws of repeated parts.

AMCC_GOLDEN=1 pytest tests/test_written.py writes the files anew; look at what changed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from amcc.backends.readable import readable
from amcc.backends.to_torch import torch_source
from amcc.frontends.load import load
from tests.test_to_torch import agrees, conv, graph
from tests.torch_cases import f32
from tests.written_networks import NETWORKS

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", list(NETWORKS))
def test_it_reads_as_a_person_would_write_it(name: str) -> None:
    import torch

    torch.manual_seed(0)
    module = NETWORKS[name]().eval()
    given = torch.randn(2, 3, 32, 32)
    source, arrays = torch_source(readable(load(module, example_inputs=given, tidied=False)))
    file = GOLDEN / f"{name}.py"
    if os.environ.get("AMCC_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    assert source == file.read_text()
    assert arrays.keys() == module.state_dict().keys()
    names: dict[str, object] = {"__name__": name, "__file__": str(file)}
    exec(compile(source, str(file), "exec"), names)
    written = names["Model"]().eval()  # type: ignore[operator]
    written.load_state_dict(module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(written(given), module(given), atol=1e-5, rtol=1e-5)


def test_weights_get_the_names_of_layers(tmp_path: Path) -> None:
    """As exporters leave them: a folded BatchNorm's bias, numbers, a transposed matrix."""
    params = {
        "a.weight": f32(6, 4, 3, 3),
        "a.weight_bias": f32(6),
        "onnx::Conv_7": f32(6, 6, 1, 1),
        "onnx::MatMul_9": f32(6, 5),
        "b": f32(5),
    }
    nodes = [
        ("Conv", ["x", "a.weight", "a.weight_bias"], ["c"], {}),
        ("Conv", ["c", "onnx::Conv_7"], ["d"], {}),
        ("GlobalAveragePool", ["d"], ["e"], {}),
        ("Flatten", ["e"], ["f"], {}),
        ("MatMul", ["f", "onnx::MatMul_9"], ["g"], {}),
        ("Add", ["g", "b"], ["y"], {}),
    ]
    net = agrees(graph(nodes, params), tmp_path).load()
    assert set(net.state_dict()) == {"a.weight", "a.bias", "conv1.weight", "linear1.weight", "linear1.bias"}
    np.testing.assert_array_equal(net.linear1.weight.detach().numpy(), params["onnx::MatMul_9"].T)


def test_parts_that_differ_in_more_than_numbers_stay_apart(tmp_path: Path) -> None:
    params = {f"p.{i}.{n}.weight": f32(4, 4, 1, 1, seed=i) for i in range(3) for n in "ab"}
    nodes = []
    x = "x"
    for i, activation in enumerate(("Relu", "Relu", "Tanh")):
        nodes += [
            ("Conv", [x, f"p.{i}.a.weight"], [f"a{i}"], {}),
            (activation, [f"a{i}"], [f"b{i}"], {}),
            ("Conv", [f"b{i}", f"p.{i}.b.weight"], [f"c{i}"], {}),
        ]
        x = f"c{i}"
    nodes.append(("Neg", [x], ["y"], {}))
    net = agrees(graph(nodes, params), tmp_path).load()
    source = (tmp_path / "model.py").read_text()
    assert source.count("class Block(nn.Module)") == 1
    assert "torch.tanh(self.p[2].a(x))" in source
    assert set(net.state_dict()) == set(params)


def test_a_part_with_two_results_is_no_class(tmp_path: Path) -> None:
    params = {f"p.{i}.{n}.weight": f32(4, 4, 1, 1, seed=i) for i in range(2) for n in "ab"}
    nodes = [
        ("Conv", ["x", "p.0.a.weight"], ["a0"], {}),
        ("Conv", ["a0", "p.0.b.weight"], ["b0"], {}),
        ("Conv", ["b0", "p.1.a.weight"], ["a1"], {}),
        ("Conv", ["a1", "p.1.b.weight"], ["b1"], {}),
        ("Add", ["b1", "a0"], ["s"], {}),
        ("Add", ["s", "a1"], ["y"], {}),
    ]
    agrees(graph(nodes, params), tmp_path)
    assert "Block" not in (tmp_path / "model.py").read_text()


def test_widths_of_each_part_are_arguments(tmp_path: Path) -> None:
    """As after a cut: every part keeps other channels."""
    params = {}
    nodes = []
    x = "x"
    for i, width in enumerate((3, 5, 2)):
        params[f"p.{i}.a.weight"], params[f"p.{i}.a.bias"] = f32(width, 4, 3, 3), f32(width)
        params[f"p.{i}.b.weight"], params[f"p.{i}.b.bias"] = f32(4, width, 1, 1), f32(4)
        nodes += [
            conv(f"p.{i}.a", x, f"a{i}", pads=[1] * 4),
            conv(f"p.{i}.b", f"a{i}", f"b{i}"),
            ("Add", [f"b{i}", x], [f"c{i}"], {}),
        ]
        x = f"c{i}"
    nodes.append(("Relu", [x], ["y"], {}))
    agrees(graph(nodes, params), tmp_path)
    source = (tmp_path / "model.py").read_text()
    assert "self.a = nn.Conv2d(4, channels, 3, padding=1)" in source
    assert "            Block(3),\n            Block(5),\n            Block(2),\n" in source
