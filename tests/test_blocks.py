"""Block reconstruction: where blocks start, what fitting them gains, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from amcc.backends.torch_module import torch_module
from amcc.ir import Array, Graph
from amcc.passes.channels import Channels, Removal
from amcc.passes.recovery import calibrate, rank, reconstruct, reconstruct_blocks, repair
from amcc.passes.recovery.blocks import FEWEST, _cuts
from amcc.passes.recovery.schedule import front_to_back
from amcc.passes.rewrite import shrink
from tests.onnx_models import drawn, model, node
from tests.random_graphs import random_network
from tests.test_recovery import channels_of, error, outputs


def repaired(channels: Channels, inputs: dict[str, Array]) -> tuple[Removal, Graph]:
    """A third of every group removed, and the rest repaired layer by layer."""
    statistics = calibrate(channels, inputs, threads=1)
    rankings = rank(channels, statistics, threads=1)
    removal = {
        group.index: np.sort(ranking.order[: group.size // 3])
        for group, ranking in zip(channels.groups, rankings, strict=True)
        if group.size >= 3
    }
    cut = reconstruct(channels, removal, shrink(channels, removal), statistics)
    return removal, repair(channels, removal, cut, inputs, threads=1)


def residual() -> Channels:
    return channels_of(chain(9, branch=True))


def images(count: int, seed: int = 0) -> dict[str, Array]:
    return {"x": drawn(count, 3, 8, 8, seed=seed)}


def chain(length: int, *, branch: bool = False, pooled: bool = True) -> onnx.ModelProto:
    """Convolutions of 8 channels; with branches, a shortcut goes round each two."""
    nodes, weights, before = [], {}, "x"
    for number in range(length):
        weights[f"w{number}"] = drawn(8, 8 if number else 3, 3, 3, seed=number) / 6
        nodes.append(node("Conv", [before, f"w{number}"], f"c{number}", name=f"conv{number}", pads=[1, 1, 1, 1]))
        made = f"c{number}"
        if branch and number and number % 2 == 0:
            nodes.append(node("Add", [made, f"r{number - 2}"], f"s{number}", name=f"add{number}"))
            made = f"s{number}"
        nodes.append(node("Relu", [made], f"r{number}", name=f"relu{number}"))
        before = f"r{number}"
    nodes.append(node("GlobalAveragePool" if pooled else "Relu", [before], "y"))
    return model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], weights)


def test_blocks_gain_on_other_samples() -> None:
    channels = channels_of(chain(9, branch=True, pooled=False))
    removal, before = repaired(channels, images(256))
    after = reconstruct_blocks(channels, removal, before, images(256), threads=1)
    others = images(128, seed=1)
    assert error(after, channels, others) < 0.95 * error(before, channels, others)
    assert {n: a.shape for n, a in after.params.items()} == {n: a.shape for n, a in before.params.items()}
    assert [n.name for n in after.nodes] == [n.name for n in before.nodes]


def test_same_seed_same_bytes() -> None:
    channels = channels_of(chain(5, pooled=False))
    removal, before = repaired(channels, images(256))
    one, two, other = (
        reconstruct_blocks(channels, removal, before, images(256), seed=seed, epochs=4) for seed in (0, 0, 1)
    )
    assert all(np.array_equal(one.params[name], two.params[name]) for name in one.params)
    assert any(not np.array_equal(one.params[name], other.params[name]) for name in one.params)


def test_an_uncut_network_stays_as_it_is() -> None:
    channels = residual()
    after = reconstruct_blocks(channels, {}, channels.graph, images(64), epochs=2)
    assert all(after.params[name] is array for name, array in channels.graph.params.items())


def test_blocks_start_where_the_network_is_narrow() -> None:
    graph = channels_of(chain(9, branch=True)).graph
    order = front_to_back(graph)
    starts = [order[cut].name for cut in _cuts(graph, order)]
    assert starts == ["conv0", "conv5"] if FEWEST == 4 else starts == ["conv0", "conv3", "conv5", "conv7"]
    assert _cuts(channels_of(chain(3)).graph, order) == [0]


def test_what_pytorch_cannot_run_is_left_as_it_is() -> None:
    """This recurrent layer has no PyTorch form: its block keeps its weights, the blocks before it do not."""
    nodes = [*chain(2 * FEWEST).graph.node, node("Flatten", ["y"], "f"), node("Unsqueeze", ["f", "zero"], "t")]
    odd = ["HardSigmoid", "Tanh", "Tanh"]
    nodes += [node("LSTM", ["t", "w", "r"], ["z"], hidden_size=4, activations=odd)]
    nodes += [node("Squeeze", ["z", "one"], "last"), node("MatMul", ["last", "v"], "out")]
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in chain(2 * FEWEST).graph.initializer}
    weights |= {
        "w": drawn(1, 16, 8),
        "r": drawn(1, 16, 4),
        "one": np.array([0, 1]),
        "zero": np.array([0]),
        "v": drawn(4, 2),
    }
    made = model(nodes, {"x": ["n", 3, 8, 8]}, ["out"], weights)
    channels = channels_of(made)
    removal, before = repaired(channels, images(256))
    after = reconstruct_blocks(channels, removal, before, images(256))
    assert not np.array_equal(after.params["w1"], before.params["w1"])
    assert np.array_equal(after.params["v"], before.params["v"])
    assert np.array_equal(after.params[f"w{2 * FEWEST - 1}"], before.params[f"w{2 * FEWEST - 1}"])


@pytest.mark.parametrize("samples", [1, 8])
def test_few_samples_change_nothing(samples: int) -> None:
    channels = residual()
    removal, before = repaired(channels, images(samples))
    assert reconstruct_blocks(channels, removal, before, images(samples)) is before


@pytest.mark.parametrize("seed", range(4))
def test_random_networks(seed: int) -> None:
    """Whatever the operators: it runs, keeps every shape, and outputs stay numbers."""
    channels = channels_of(random_network(seed, 7))
    inputs = {"x": drawn(48, 3, 8, 8, seed=seed)}
    removal, before = repaired(channels, inputs)
    after = reconstruct_blocks(channels, removal, before, inputs, epochs=2)
    assert np.isfinite(outputs(after, inputs)).all()
    assert {n: a.shape for n, a in after.params.items()} == {n: a.shape for n, a in before.params.items()}


def test_a_module_in_memory_gives_what_the_graph_gives() -> None:
    import torch

    graph = residual().graph
    module, keys = torch_module(graph)
    inputs = images(5)
    found = module(torch.from_numpy(inputs["x"])).reshape(5, -1)
    assert np.abs(found.detach().numpy() - outputs(graph, inputs)).max() < 1e-5
    assert {name: tuple(module.state_dict()[key].shape) for name, key in keys.items()} == {
        name: array.shape for name, array in graph.params.items()
    }
