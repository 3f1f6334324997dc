"""The law of the compiler: a shrunk graph equals the masked original, for any units of any network."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.backends.runtime import LITERAL, Session
from amcc.certificate import certify, difference
from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.load import load
from amcc.ir import Graph
from amcc.passes.channels import Channels, analyze
from amcc.passes.cost import CostModel, Costs, node_macs, parameter_count, weight_bytes
from amcc.passes.memory import emitted, peak_activations
from amcc.passes.rewrite import check_shapes, shrink
from amcc.passes.shapes import infer
from amcc.synthetic import synthetic
from tests.fuzz_cases import CASES
from tests.random_graphs import Builder, optimised, random_network

EXAMPLES = int(os.environ.get("AMCC_FUZZ", "300"))
PARTS = max(1, EXAMPLES // 2500)  # so that several processes can share a long run


def random_removal(channels: Channels, random: np.random.Generator) -> dict[int, np.ndarray]:
    """Any units of any groups, at least one of each group stays."""
    return {
        group.index: np.sort(random.choice(group.size, random.integers(0, group.size), replace=False))
        for group in channels.groups
    }


def as_captured(path: Path, graph: Graph, seed: int) -> float:
    """How far the graph's outputs are from those of the file."""
    inputs = synthetic(graph, 2, seed=seed).inputs
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(LITERAL, "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    expected, found = session.run(None, inputs), Session(graph, literal=True).run(inputs)
    return max(difference(found[output.name], e) for output, e in zip(session.get_outputs(), expected, strict=True))


def rounding(graph: Graph, seed: int) -> float:
    """How far outputs move when all weights do by two units in the last place: what float32 itself leaves open.

    At most a hundredth; a fault of a rule is larger.
    """
    random = np.random.default_rng(seed)
    moved = {
        name: array * random.uniform(1 - 2**-22, 1 + 2**-22, array.shape).astype(array.dtype)
        for name, array in graph.params.items()
        if array.dtype == np.float32
    }
    inputs = synthetic(graph, 2, seed=seed).inputs
    first, second = (Session(g, literal=True).run(inputs) for g in (graph, graph.with_params(moved)))
    return min(1e-2, 10 * max(difference(second[name], first[name]) for name in first))


def check(model: onnx.ModelProto, path: Path, seed: int, *, exact: bool = False, spelled: bool = True) -> float:
    """Cut random units out of a model and check all that must hold; gives the share of MACs that went.

    Args:
        exact: only cut what leaves all else as it was.
        spelled: first spell the network so that more of it can be cut, as the compiler does.
    """
    onnx.save(model, path)
    graph = load(path) if spelled else infer(from_onnx(path))
    captured = as_captured(path, graph, seed)
    assert captured <= 1e-4 or captured <= rounding(graph, seed), f"seed {seed}: not what the file computes"
    channels = analyze(graph, exact=exact)
    assert not (exact and any(group.inexact for group in channels.groups))
    return check_cut(path, channels, random_removal(channels, np.random.default_rng(seed)), seed)


def counted(graph: Graph) -> Costs:
    """What a graph costs."""
    macs = sum(node_macs(graph).values())
    return Costs(macs, parameter_count(graph), weight_bytes(graph), peak_activations(graph))


def check_cut(path: Path, channels: Channels, removal: dict[int, np.ndarray], seed: int) -> float:
    """Cut these units and check shapes, costs and outputs; gives the share of MACs that went."""
    graph, costs = channels.graph, CostModel(channels, memory=True)
    assert costs.original == counted(graph)
    shrunk = shrink(channels, removal)
    check_shapes(shrunk)
    found = counted(shrunk)
    assert costs.of_removal(removal) == found
    if costs.regular:
        keep = [g.size - len(removal.get(g.index, ())) for g in channels.groups]
        quick = costs.costs(keep)
        assert replace(quick, memory=found.memory) == found
        if [node.name for node in shrunk.nodes] == [node.name for node in emitted(channels).nodes]:
            assert quick.memory == found.memory  # else nodes come or go with the units, which it does not foresee
    certificate = certify(path, channels, removal, shrunk, seed=seed)
    assert certificate.error <= 1e-4 or certificate.error <= rounding(shrunk, seed), f"seed {seed}: {certificate}"
    return 1 - found.flops / costs.original.flops


@pytest.mark.parametrize("part", range(PARTS))
@settings(max_examples=-(-EXAMPLES // PARTS), deadline=None)
@given(seed=st.integers(0, 2**28 - 1), length=st.integers(1, 14))
def test_a_shrunk_graph_equals_the_masked_original(
    tmp_path_factory: pytest.TempPathFactory, part: int, seed: int, length: int
) -> None:
    seed += part << 28  # no two parts meet a graph of the same seed
    model, path = random_network(seed, length), tmp_path_factory.getbasetemp() / "random.onnx"
    check(optimised(model, path) if seed % 5 == 0 else model, path, seed, exact=seed % 3 == 0, spelled=seed % 4 > 0)


@pytest.mark.parametrize("name", CASES)
def test_what_random_networks_have_found(name: str, tmp_path: Path) -> None:
    for seed in range(6):
        check(CASES[name](Builder(seed)), tmp_path / "case.onnx", seed)


def test_random_networks_do_get_smaller(tmp_path: Path) -> None:
    """The law above is not vacuous."""
    shares = [check(random_network(seed, 8), tmp_path / "random.onnx", seed) for seed in range(20)]
    assert np.median(shares) > 0.25
