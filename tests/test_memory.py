"""The peak of activations: of a graph, of every plan, and of the emitted file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from amcc import api
from amcc.backends.to_onnx import to_onnx
from amcc.errors import BudgetError
from amcc.frontends.load import load
from amcc.passes.channels import analyze
from amcc.passes.cost import CostModel
from amcc.passes.memory import Alive, peak_activations
from amcc.passes.rewrite import shrink
from tests.onnx_models import drawn, model, node, save
from tests.random_graphs import random_network

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


def by_brute_force(file: onnx.ModelProto) -> int:
    """The peak from the file alone: onnx's shapes and, for each node, all tensors made so far that are still read."""
    graph = onnx.shape_inference.infer_shapes(file, data_prop=True).graph
    constants = {tensor.name for tensor in graph.initializer}
    outputs = {info.name for info in graph.output}
    size = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        dims = [d.dim_value if d.HasField("dim_value") else 1 for d in info.type.tensor_type.shape.dim]
        width = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)).itemsize
        size[info.name] = width * int(np.prod(dims, dtype=np.int64))
    peak = 0
    for now, at in enumerate(graph.node):
        read = outputs.union(*(later.input for later in graph.node[now:]))
        made = {info.name for info in graph.input} if now == 0 else {info.name for info in graph.input} & read
        made |= {name for before in graph.node[:now] for name in before.output} & read
        peak = max(peak, sum(size[name] for name in (made | set(at.output)) - constants - {""}))
    return peak


def test_a_residual_block_by_hand(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "a", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Conv", ["b", "v"], "c", pads=[1, 1, 1, 1]),
        node("Add", ["c", "a"], "y"),
    ]
    params = {"w": drawn(6, 2, 3, 3), "v": drawn(6, 6, 3, 3)}
    path = save(model(nodes, {"x": ["batch", 2, 4, 5]}, {"y": ["batch", 6, 4, 5]}, params), tmp_path)
    small, large = 4 * 2 * 4 * 5, 4 * 6 * 4 * 5
    assert small + large < peak_activations(load(path)) == 3 * large  # a, b and c; then a, c and y


@pytest.mark.parametrize("seed", range(24))
def test_every_plan_is_counted_as_the_emitted_file_has_it(seed: int, tmp_path: Path) -> None:
    onnx.save(random_network(seed, 6, dynamic=seed % 2 == 0, bodies=False), tmp_path / "model.onnx")
    channels = analyze(load(tmp_path / "model.onnx"))
    costs, random = CostModel(channels, memory=True), np.random.default_rng(seed)
    assert costs.original.memory == peak_activations(channels.graph)
    last = costs.original.memory
    keep = costs.full.copy()
    for _ in range(4):
        keep = np.array([random.integers(1, k + 1) for k in keep])
        orders = [np.arange(group.size)[::-1] for group in channels.groups]
        emitted = to_onnx(shrink(channels, channels.removal(keep, orders)))
        assert costs.costs(keep).memory == by_brute_force(emitted)
        assert costs.costs(keep).memory <= last, "keeping fewer must not take more"
        last = costs.costs(keep).memory


def test_a_budget_of_memory_is_met_with_others(tmp_path: Path) -> None:
    result = api.compile(
        DIGITS / "model.onnx",
        budget="memory=0.6,params=0.7",
        data=DIGITS / "val.npz",
        search="lagrange",
        recover="none",
        emit="onnx",
        out=tmp_path / "out",
    )
    lines = {line.resource: line for line in result.summary.budget}
    memory = lines["memory"]
    assert memory.original == result.summary.totals.memory.before
    assert (
        memory.reached == result.summary.totals.memory.after == by_brute_force(onnx.load(tmp_path / "out/model.onnx"))
    )
    assert all(line.reached <= line.limit for line in lines.values())
    assert max(line.reached / line.limit for line in lines.values()) > 0.95


def test_a_plan_whose_memory_was_counted_too_low_does_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may be where nodes come or go with the units that stay."""
    monkeypatch.setattr(Alive, "peak", lambda self, sizes: int(sizes.sum()) // 20)
    options: dict[str, Any] = {"search": "uniform", "recover": "none", "emit": "onnx", "out": tmp_path / "out"}
    with pytest.raises(BudgetError, match=r"memory=1kB: the plan found takes \d+ bytes, .* 1000 were asked"):
        api.compile(DIGITS / "model.onnx", budget="memory=1kB", **options)
    assert not list(tmp_path.iterdir())


def test_memory_out_of_reach_names_the_smallest() -> None:
    with pytest.raises(BudgetError, match=r"memory=20 is out of reach: the smallest reachable is memory=\d+"):
        api.plan(DIGITS / "model.onnx", budget="memory=20B", search="uniform", recover="none")
