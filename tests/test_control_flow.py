"""Bodies of If, Loop and Scan are seen, cut, and written back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from amcc.backends.runtime import Session
from amcc.backends.to_onnx import to_onnx, write_onnx
from amcc.certificate import certify
from amcc.errors import BudgetError
from amcc.frontends.load import load
from amcc.ir import Graph
from amcc.masking import masked_file, masked_graph
from amcc.passes.channels import analyze
from amcc.passes.cost import node_macs
from amcc.passes.recovery import calibrate, reconstruct, repair
from amcc.passes.rewrite import shrink
from amcc.stages import check_prunable
from amcc.synthetic import synthetic
from tests.control_models import drawing, for_one_length, loop_in_a_branch, looped, nested_loops, scanned, two_branches
from tests.test_exactness import check

BODIES = {
    "if": two_branches(),
    "nested if": two_branches(nested=True),
    "scan": scanned(),
    "scan over axis 1": scanned(1),
    "scan backwards": scanned(reverse=True),
    "loop": looped(),
    "loop with a counter": looped("counter"),
    "loop until": looped("data"),
    "loop of ifs": nested_loops("if"),
    "loop of loops": nested_loops("loop"),
    "if or scan": loop_in_a_branch(),
}


def opened(model: onnx.ModelProto, path: Path) -> Graph:
    onnx.save(model, path)
    return load(path)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(None, feeds)
    return results


def inner(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The operators of every body, by the node and attribute that hold it."""
    found: dict[str, list[str]] = {}

    def visit(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    found[f"{node.name}.{attribute.name}"] = [n.op_type for n in attribute.g.node]
                    visit(attribute.g)

    visit(model.graph)
    return found


@pytest.mark.parametrize("name", BODIES)
def test_what_is_cut_is_the_masked_original(name: str, tmp_path: Path) -> None:
    went = [check(BODIES[name], tmp_path / "model.onnx", seed) for seed in range(4)]
    assert max(went) > 0.2


@pytest.mark.parametrize("name", BODIES)
def test_written_back_it_computes_the_same_in_the_same_bodies(name: str, tmp_path: Path) -> None:
    model = BODIES[name]
    graph = opened(model, tmp_path / "model.onnx")
    written = to_onnx(graph)
    onnx.checker.check_model(written, full_check=True)
    assert inner(written).keys() == inner(model).keys()
    for node in graph.nodes:
        assert node.op not in ("If", "Loop", "Scan")
    for seed in range(3):
        feeds = synthetic(graph, 2, seed=seed).inputs
        for flag in [name for name in graph.inputs if graph.values[name].dtype == "bool"]:
            feeds = {**feeds, flag: np.array(seed % 2 == 0)}
        for found, expected in zip(run(written, feeds), run(model, feeds), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_branch_holds_what_it_alone_needs(tmp_path: Path) -> None:
    graph = opened(two_branches(nested=True), tmp_path / "model.onnx")
    assert inner(to_onnx(graph)) == {
        "If_y.then_branch": ["MatMul", "Relu", "MatMul"],
        "If_y.else_branch": ["If", "Neg"],
        "If_g.then_branch": ["MatMul", "Tanh", "MatMul"],
        "If_g.else_branch": ["Sigmoid"],
    }


@pytest.mark.parametrize("condition", [True, False])
def test_both_branches_are_cut_whichever_runs(condition: bool, tmp_path: Path) -> None:
    """A weight that both share is cut once, and all that is tied by the choice together."""
    graph = opened(two_branches(), tmp_path / "model.onnx")
    channels = analyze(graph)
    sizes = {group.name: group.size for group in channels.groups}
    assert sorted(sizes.values()) == [6, 6, 8]
    group = next(g for g in channels.groups if any(s.param == "shared" and s.axis == 1 for s in g.slices))
    assert {s.param for s in group.slices} == {"shared", "out", "back"}
    cut = shrink(channels, {group.index: np.arange(0, 8, 2)})
    assert cut.params["out"].shape == cut.params["back"].shape == (4, 6)
    feeds = {"x": np.ones((2, 4), np.float32), "first_only": np.array(condition)}
    zeroed = {name: graph.params[name].copy() for name in ("out", "back")}
    for array in zeroed.values():
        array[::2] = 0
    expected = Session(graph.with_params(zeroed)).run(feeds)["z"]
    np.testing.assert_allclose(Session(cut).run(feeds)["z"], expected, rtol=1e-5, atol=1e-6)


def test_both_sides_of_a_condition_count(tmp_path: Path) -> None:
    graph = opened(two_branches(), tmp_path / "model.onnx")
    macs = node_macs(graph)
    assert {macs[name] for name in ("MatMul_a", "MatMul_d")} == {2 * 6 * 8}
    assert sum(macs.values()) == 2 * (4 * 6 + 4 * 6 * 8 + 6 * 3)


@pytest.mark.parametrize(("name", "steps"), [("loop", 7), ("loop with a counter", 5), ("loop until", 1), ("scan", 7)])
def test_every_step_of_a_loop_counts(name: str, steps: int, tmp_path: Path) -> None:
    graph = opened(BODIES[name], tmp_path / "model.onnx")
    assert node_macs(graph)["MatMul_from_state"] == steps * 6 * 6 * 2


def test_states_that_no_step_changes_are_read_from_outside(tmp_path: Path) -> None:
    graph = opened(looped(), tmp_path / "model.onnx")
    product = next(node for node in graph.nodes if node.name == "MatMul_from_state")
    assert product.inputs[1] == "recurrent"


def test_branches_of_unlike_shapes_keep_their_axis(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    channels = analyze(opened(two_branches(unlike=True), path))
    assert any("unlike" in lock.reason for lock in channels.ledger)
    check(two_branches(unlike=True), path, 0)


def test_a_state_that_grows_keeps_the_axis_along_which_it_does(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    channels = analyze(opened(looped(growing=True), path))
    lock = next(lock for lock in channels.ledger if "differs from step to step" in lock.reason)
    assert (lock.value, lock.axis) == ("zero", 0)
    assert max(check(looped(growing=True), path, seed) for seed in range(4)) > 0.2


def test_a_branch_for_other_lengths_stays_whole(tmp_path: Path) -> None:
    """ONNX Runtime refuses a branch that it knows not to fit; this one it must not get to know."""
    model, path = for_one_length(), tmp_path / "model.onnx"
    onnx.save(model, path)
    graph = load(path, input_shapes={"x": ("batch", 5, 4)})
    channels = analyze(graph)
    assert sorted(group.size for group in channels.groups) == [8]
    assert any("does not fit" in lock.reason for lock in channels.ledger)
    cut = shrink(channels, {0: np.arange(3)})
    write_onnx(cut, tmp_path / "cut.onnx")
    feeds = {"x": np.ones((2, 5, 4), np.float32), "flag": np.array(True)}
    (found,) = run(onnx.load(tmp_path / "cut.onnx"), feeds)
    np.testing.assert_allclose(Session(cut).run(feeds)["y"], found, rtol=1e-5)
    again = load(tmp_path / "cut.onnx")
    assert again.params.keys() == cut.params.keys()
    np.testing.assert_allclose(Session(again).run(feeds)["y"], found, rtol=1e-5)


@pytest.mark.parametrize("name", BODIES)
def test_masks_go_into_the_bodies_of_the_file_itself(name: str, tmp_path: Path) -> None:
    """Other weights at what is removed change nothing of the masked file, and something of the file."""
    path = tmp_path / "model.onnx"
    channels = analyze(opened(BODIES[name], path))
    group = max(channels.groups, key=lambda group: group.macs)
    removal = {group.index: np.arange(group.size - 1)}
    masked = masked_file(path, channels, removal)
    assert masked is not None
    feeds = synthetic(channels.graph, 2).inputs
    expected = Session(masked_graph(channels, removal)).run(feeds)
    for found, output in zip(run(masked, feeds), channels.graph.outputs, strict=True):
        np.testing.assert_allclose(found, expected[output], rtol=1e-5, atol=1e-6)
    certificate = certify(path, channels, removal, shrink(channels, removal))
    assert certificate.passed
    wrong = shrink(channels, removal)
    weights = {n: a + np.float32(0.5) for n, a in wrong.params.items() if a.dtype == np.float32 and a.ndim == 2}
    assert not certify(path, channels, removal, wrong.with_params(weights)).passed


@pytest.mark.parametrize("name", BODIES)
def test_recovery_refits_branches_and_leaves_loops(name: str, tmp_path: Path) -> None:
    channels = analyze(opened(BODIES[name], tmp_path / "model.onnx"))
    inputs = synthetic(channels.graph, 64).inputs
    statistics = calibrate(channels, inputs)
    assert any(node.domain == "amcc" for node in channels.graph.nodes)
    inside = {"MatMul_c", "MatMul_f"} if name.endswith("if") else set()
    assert inside <= statistics.consumers.keys()
    removal = {group.index: np.arange(group.size // 2) for group in channels.groups}
    pure = shrink(channels, removal)
    repaired = repair(channels, removal, reconstruct(channels, removal, pure, statistics), inputs)
    looped = {"V", "recurrent", "U"} & repaired.params.keys()
    for weight in looped:
        np.testing.assert_array_equal(repaired.params[weight], pure.params[weight])
    assert any(not np.array_equal(repaired.params[n], pure.params[n]) for n in pure.params)


def test_a_body_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(drawing(), path)
    with pytest.raises(BudgetError) as caught:
        check_prunable(analyze(load(path)))
    assert caught.value.hint == "the body of Loop 'Loop_y' stays as it is: a body draws random numbers"
