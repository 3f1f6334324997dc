"""Channel analysis on wirings that networks are made of."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from amcc.errors import PlanError, UsageError
from amcc.frontends.from_onnx import from_onnx
from amcc.ir import Graph
from amcc.passes.channels import Channels, analyze
from amcc.passes.cost import CostModel
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer
from tests.random_graphs import Builder, random_network


def graph_of(b: Builder, *outputs: str) -> Graph:
    """The builder's network with these outputs, as a graph."""
    graph = helper.make_graph(
        b.nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 8])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        b.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", b.opset)], ir_version=9)
    path = PATHS.pop()
    onnx.save(model, path)
    return infer(from_onnx(path))


PATHS: list[str] = []


@pytest.fixture(autouse=True)
def _path(tmp_path: object) -> None:
    PATHS[:] = [f"{tmp_path}/model.onnx"]


def conv(b: Builder, x: str, c_in: int, c_out: int, group: int = 1, **attributes: object) -> str:
    """A 3x3 convolution that keeps the size."""
    return b.op("Conv", x, b.param(c_out, c_in // group, 3, 3), group=group, pads=[1] * 4, **attributes)


def head(b: Builder, x: str, c: int) -> str:
    """A classifier."""
    return b.op("Gemm", b.op("Flatten", b.op("GlobalAveragePool", x)), b.param(4, c), transB=1)


def sizes(channels: Channels) -> list[int]:
    """Units of each group, in order."""
    return [group.size for group in channels.groups]


def test_a_chain_has_a_group_for_each_hidden_width() -> None:
    b = Builder(0)
    y = head(b, b.op("Relu", conv(b, conv(b, "x", 3, 8), 8, 6)), 6)
    channels = analyze(graph_of(b, y))
    assert sizes(channels) == [8, 6]
    first = channels.groups[0]
    assert first.name == "w0"
    assert [(s.param, s.axis) for s in first.slices] == [("w0", 0), ("w1", 1)]
    assert [i.tolist() for i in first.slices[0].indices] == [[i] for i in range(8)]
    assert {lock.reason for lock in channels.ledger} == {"graph input", "graph output"}


def test_a_residual_ties_the_two_sides() -> None:
    b = Builder(0)
    trunk = conv(b, "x", 3, 8)
    inner = conv(b, trunk, 8, 5)
    y = head(b, b.op("Add", trunk, conv(b, inner, 5, 8)), 8)
    channels = analyze(graph_of(b, y))
    assert sorted(sizes(channels)) == [5, 8]
    trunk_group = next(g for g in channels.groups if g.size == 8)
    assert {(s.param, s.axis) for s in trunk_group.slices} == {("w0", 0), ("w1", 1), ("w2", 0), ("w3", 1)}


def test_concatenation_keeps_both_sides_apart() -> None:
    b = Builder(0)
    left, right = conv(b, "x", 3, 4), conv(b, "x", 3, 6)
    y = head(b, conv(b, b.op("Concat", left, right, axis=1), 10, 5), 5)
    channels = analyze(graph_of(b, y))
    assert sizes(channels) == [4, 6, 5]
    slices = {s.param: [i.tolist() for i in s.indices] for s in channels.groups[1].slices}
    assert slices["w2"] == [[4 + i] for i in range(6)]


def test_a_grouped_convolution_may_lose_groups_and_positions() -> None:
    b = Builder(0)
    hidden = conv(b, conv(b, "x", 3, 12), 12, 8, group=4)
    graph = graph_of(b, head(b, hidden, 8))
    channels = analyze(graph)
    assert sorted(sizes(channels)) == [2, 3, 4]
    groups = {g.size: g for g in channels.groups}
    assert len(groups[4].slices[0].indices[0]) == 3
    shrunk = shrink(channels, {groups[4].index: np.array([1]), groups[3].index: np.array([0])})
    grouped = next(n for n in shrunk.nodes if n.attributes.get("group", 1) != 1)
    assert grouped.attributes["group"] == 3
    assert shrunk.params["w1"].shape == (6, 2, 3, 3)
    kept_rows = np.array([0, 1, 4, 5, 6, 7])
    assert np.array_equal(shrunk.params["w1"], graph.params["w1"][kept_rows][:, 1:])


def test_a_depthwise_convolution_goes_channel_by_channel() -> None:
    b = Builder(0)
    y = head(b, conv(b, conv(b, "x", 3, 8), 8, 8, group=8), 8)
    channels = analyze(graph_of(b, y))
    assert sizes(channels) == [8]
    shrunk = shrink(channels, {0: np.array([0, 5])})
    assert [n.attributes.get("group") for n in shrunk.nodes if n.op == "Conv"] == [1, 6]


def test_flatten_gives_each_channel_all_of_its_positions() -> None:
    b = Builder(0)
    flat = b.op("Flatten", conv(b, "x", 3, 4))
    channels = analyze(graph_of(b, b.op("Gemm", flat, b.param(4 * 64, 7))))
    indices = {s.param: s.indices for s in channels.groups[0].slices}
    assert indices["w1"][2].tolist() == list(range(2 * 64, 3 * 64))


def test_a_channel_shuffle_keeps_rows_and_columns() -> None:
    """Behind a shuffle of 2 x 3, a depthwise convolution still loses groups (2) or positions (3)."""
    b = Builder(0)
    grouped = conv(b, conv(b, "x", 3, 6), 6, 6, group=2)
    split = b.op("Reshape", grouped, b.ints(2, 2, 3, 8, 8))
    turned = b.op("Reshape", b.op("Transpose", split, perm=[0, 2, 1, 3, 4]), b.ints(2, 6, 8, 8))
    channels = analyze(graph_of(b, head(b, conv(b, turned, 6, 6, group=6), 6)))
    positions = next(g for g in channels.groups if ("w4", 0) in {(s.param, s.axis) for s in g.slices} and g.size == 3)
    indices = {s.param: [i.tolist() for i in s.indices] for s in positions.slices}
    assert indices["w1"] == [[0, 3], [1, 4], [2, 5]]
    assert indices["w4"] == [[0, 1], [2, 3], [4, 5]]


def test_added_channels_of_a_pad_may_go_too() -> None:
    """The shortcut of a CIFAR ResNet: channels 2..5 of the wide side are the narrow side's, the others its own."""
    b = Builder(0)
    narrow = conv(b, "x", 3, 4)
    padded = b.op("Pad", narrow, b.ints(0, 2, 0, 0, 0, 2, 0, 0))
    y = head(b, b.op("Add", padded, conv(b, narrow, 4, 8)), 8)
    channels = analyze(graph_of(b, y))
    assert sorted(sizes(channels)) == [4, 4]
    shrunk = shrink(channels, {g.index: np.array([0, 1, 2]) for g in channels.groups if len(g.slices) == 2})
    pads = next(shrunk.params[n.inputs[1]].tolist() for n in shrunk.nodes if n.op == "Pad")
    assert pads == [0, 0, 0, 0, 0, 1, 0, 0]


def test_shared_parameters_tie_their_readers() -> None:
    b = Builder(0)
    weight = b.param(6, 6, 1, 1)
    first = b.op("Relu", b.op("Conv", conv(b, "x", 3, 6), weight))
    channels = analyze(graph_of(b, head(b, b.op("Conv", first, weight), 6)))
    assert sizes(channels) == [6]


def test_a_unit_alone_of_its_kind_stays_and_says_so() -> None:
    """Channel 0 is read twice, the others once; a plan leaves one unit of each group."""
    b = Builder(0)
    twice = b.op("Gather", conv(b, "x", 3, 4), b.ints(0, 0, 1, 2, 3), axis=1)
    channels = analyze(graph_of(b, head(b, conv(b, twice, 5, 6), 6)))
    assert sizes(channels) == [3, 6]
    lock = next(lock for lock in channels.ledger if lock.reason == "alone of its kind, and one of each stays")
    assert (lock.value, lock.axis) == ("w0", 0)


def test_normalising_over_channels_is_inexact_or_locks_them() -> None:
    b = Builder(0)
    normal = b.op("LRN", conv(b, "x", 3, 8), size=3)
    graph = graph_of(b, head(b, conv(b, normal, 8, 5), 5))
    assert [(group.size, group.inexact) for group in analyze(graph).groups] == [(8, True), (5, False)]
    channels = analyze(graph, exact=True)
    assert sizes(channels) == [5]
    lock = next(lock for lock in channels.ledger if lock.op == "LRN")
    assert lock.reason == "LRN computes over this axis (inexact)"
    assert lock.axes == (("w0", 0), ("w1", 1))
    assert lock.macs == 8 * 3 * 9 * 128 + 1 * 8 * 9 * 128, "of the five units behind it a single one stays"


def test_what_each_group_holds() -> None:
    for seed in range(12):
        onnx.save(random_network(seed, 10), path := PATHS[0])
        channels = analyze(infer(from_onnx(path)))
        model = CostModel(channels)
        for group in channels.groups:
            keep = model.full.copy()
            keep[group.index] = 1
            assert group.macs == model.original.flops - model.macs(keep)


def test_the_ledger_by_reason() -> None:
    b = Builder(0)
    first = conv(b, "x", 3, 6)
    second = conv(b, first, 6, 6)
    indices = [b.op("ArgMax", x, axis=1) for x in (first, second)]
    channels = analyze(graph_of(b, head(b, conv(b, second, 6, 6), 6), *indices))
    locks = [lock for lock in channels.ledger if lock.op == "ArgMax"]
    assert [lock.axes for lock in locks] == [(("w0", 0), ("w1", 1)), (("w1", 0), ("w2", 1))]
    positions = 9 * 128
    macs = [6 * 3 * positions, 6 * 6 * positions, 1 * 6 * positions]  # of the third a single output stays
    assert [lock.macs for lock in locks] == [macs[0] + macs[1], macs[1] + macs[2]]
    worst = channels.obstacles[0]
    assert (worst.op, worst.reason) == ("ArgMax", "ArgMax gives indices along this axis")
    assert (worst.locks, worst.axes, worst.macs) == (2, 4, sum(macs))
    assert [o.reason for o in channels.obstacles[1:]] == ["graph input", "graph output"]
    assert sum(o.locks for o in channels.obstacles) == len(channels.ledger)


def test_an_unknown_operator_is_carried_and_locked() -> None:
    b = Builder(0)
    hidden = conv(b, "x", 3, 8)
    node = helper.make_node("Frobnicate", [hidden], ["odd"], name="odd", domain="com.example", strength=2)
    b.nodes.append(node)
    graph = graph_of(b, head(b, conv(b, hidden, 8, 4), 4), "odd")
    channels = analyze(graph)
    assert sizes(channels) == [4]
    assert any(lock.reason == "no rule for operator com.example.Frobnicate" for lock in channels.ledger)
    assert next(n for n in graph.nodes if n.name == "odd").attributes["strength"] == 2


def test_the_user_can_lock_parameters_nodes_and_values() -> None:
    b = Builder(0)
    y = head(b, conv(b, conv(b, "x", 3, 8), 8, 6), 6)
    graph = graph_of(b, y)
    assert sizes(analyze(graph, locked=["w0"])) == [6]
    assert sizes(analyze(graph, locked=["Conv_1"])) == []
    assert sizes(analyze(graph, locked=[graph.nodes[1].outputs[0]])) == [8]
    with pytest.raises(UsageError, match="no node, parameter or value 'w99' to lock"):
        analyze(graph, locked=["w99"])


def test_cost_model_counts_a_grid_of_groups_and_positions() -> None:
    b = Builder(0)
    graph = graph_of(b, head(b, conv(b, conv(b, "x", 3, 12), 12, 8, group=4), 8))
    channels = analyze(graph)
    model = CostModel(channels)
    assert model.regular
    by_size = {g.size: g.index for g in channels.groups}
    keep = model.full.copy()
    keep[by_size[4]], keep[by_size[3]], keep[by_size[2]] = 3, 2, 1
    grouped = (3 * 1) * 2 * 9 * 128
    assert model.macs(keep) == (3 * 2) * 3 * 9 * 128 + grouped + 2 * 3 * 4


def test_plans_that_make_no_sense_are_refused() -> None:
    b = Builder(0)
    channels = analyze(graph_of(b, head(b, conv(b, "x", 3, 8), 8)))
    with pytest.raises(PlanError, match="there is no group 7"):
        shrink(channels, {7: np.array([0])})
    with pytest.raises(PlanError, match="has 8 units, the plan removes unit 9"):
        shrink(channels, {0: np.array([9])})
    with pytest.raises(PlanError, match="leaves nothing of axis 0 of 'w0'"):
        shrink(channels, {0: np.arange(8)})


def test_nothing_is_copied_that_does_not_change() -> None:
    b = Builder(0)
    graph = graph_of(b, head(b, conv(b, conv(b, "x", 3, 8), 8, 6), 6))
    channels = analyze(graph)
    shrunk = shrink(channels, {1: np.array([0])})
    assert np.shares_memory(shrunk.params["w0"], graph.params["w0"])
    assert not shrunk.params["w1"].flags.writeable


def test_a_large_network_stays_interactive() -> None:
    """100,000 channels, each index an array element and never a Python object."""
    b = Builder(0)
    wide = 50_000
    weight = b.constant(np.broadcast_to(np.float32(1), (wide, 3, 1, 1)).copy())
    deep = b.constant(np.broadcast_to(np.float32(1), (wide, 1, 1, 1)).copy())
    hidden = b.op("Conv", b.op("Relu", b.op("Conv", "x", weight)), deep, group=wide)
    channels = analyze(graph_of(b, b.op("Gemm", b.op("Flatten", b.op("GlobalMaxPool", hidden)), b.param(wide, 2))))
    assert sizes(channels) == [wide]
