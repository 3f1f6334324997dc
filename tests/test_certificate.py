"""The certificate finds what it is there to find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from amcc.certificate import certify, difference, last_sums, with_original_weights
from amcc.errors import VerificationError
from amcc.frontends.from_onnx import from_onnx
from amcc.ir import Graph
from amcc.masking import masked_file, masked_graph
from amcc.passes.channels import Channels, analyze
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer
from tests.random_graphs import Builder


@pytest.fixture
def classifier(tmp_path: Path) -> tuple[Path, Channels]:
    """Two convolutions, a head whose softmax is saturated."""
    b = Builder(1)
    hidden = b.op("Relu", b.op("Conv", "x", b.param(8, 3, 3, 3), b.param(8), pads=[1] * 4))
    y = b.op("Conv", hidden, b.param(6, 8, 3, 3), b.param(6))
    logits = b.op("Gemm", b.op("Flatten", b.op("GlobalMaxPool", y)), b.param(6, 4))
    out = b.op("Softmax", b.op("Mul", logits, b.constant(np.float32(1e4))))
    model = b.model()
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(out, 1, [2, 4]))
    path = tmp_path / "classifier.onnx"
    onnx.save(model, path)
    return path, analyze(infer(from_onnx(path)))


REMOVAL = {0: np.array([1, 2, 5]), 1: np.array([0])}


def test_file_and_graph_give_the_same_error(classifier: tuple[Path, Channels]) -> None:
    path, channels = classifier
    shrunk = shrink(channels, REMOVAL)
    by_file = certify(path, channels, REMOVAL, shrunk)
    by_graph = certify(channels.graph, channels, REMOVAL, shrunk)
    assert by_file.passed and by_graph.passed
    assert by_file.outputs.keys() == by_graph.outputs.keys()
    assert by_file.error <= 1e-5


def test_the_file_may_hold_constants_that_are_empty_lists(classifier: tuple[Path, Channels]) -> None:
    path, channels = classifier
    model = onnx.load(path)
    empty = onnx.helper.make_node("Constant", [], ["nothing"])
    empty.attribute.append(onnx.helper.make_attribute("value_ints", [], attr_type=onnx.AttributeProto.INTS))
    zeros = onnx.helper.make_node("ConstantOfShape", ["nothing"], ["zero"])
    added = onnx.helper.make_node("Add", ["x", "zero"], ["x0"])
    model.graph.node[0].input[0] = "x0"
    for position, node in enumerate((empty, zeros, added)):
        model.graph.node.insert(position, node)
    onnx.save(model, path)
    masked = masked_file(path, channels, REMOVAL)
    assert masked is not None
    constant = next(node for node in masked.graph.node if node.output[0] == "nothing")
    assert onnx.numpy_helper.to_array(constant.attribute[0].t).shape == (0,)


def test_a_body_may_give_a_name_of_the_outside_another_meaning(classifier: tuple[Path, Channels]) -> None:
    """ONNX Runtime's optimiser writes such files; surgery on them would take one tensor for the other."""
    path, channels = classifier
    model = onnx.load(path)
    taken = model.graph.initializer[0].name
    bodies = []
    for name in (taken, "other"):
        constant = onnx.numpy_helper.from_array(np.ones(3, np.float32), name)
        ends = [onnx.helper.make_tensor_value_info(f"of_{name}", 1, [3])]
        body = [onnx.helper.make_node("Neg", [name], [f"of_{name}"])]
        bodies.append(onnx.helper.make_graph(body, name, [], ends, [constant]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(
        onnx.helper.make_node("If", ["yes"], ["branch"], then_branch=bodies[0], else_branch=bodies[1])
    )
    onnx.save(model, path)
    assert masked_file(path, channels, REMOVAL) is None
    assert certify(path, channels, REMOVAL, shrink(channels, REMOVAL)).passed


def test_a_saturated_output_hides_nothing(classifier: tuple[Path, Channels]) -> None:
    path, channels = classifier
    shrunk = shrink(channels, REMOVAL)
    (logits,) = last_sums(shrunk)
    name = shrunk.producers[logits].inputs[1]
    wrong = shrunk.with_params({name: shrunk.params[name] * np.float32(1.01)})
    found = certify(path, channels, REMOVAL, wrong)
    assert found.outputs[shrunk.outputs[0]] <= 1e-4
    assert not found.passed
    with pytest.raises(VerificationError, match=f"output '{logits}' .* differs from the masked original"):
        found.demand()


@pytest.mark.parametrize("param", ["w0", "w1", "w2", "w3"])
def test_every_wrong_weight_is_found(classifier: tuple[Path, Channels], param: str) -> None:
    path, channels = classifier
    shrunk = shrink(channels, REMOVAL)
    wrong = shrunk.with_params({param: shrunk.params[param] + np.float32(0.01)})
    assert not certify(path, channels, REMOVAL, wrong).passed


def test_the_masked_file_zeroes_what_is_read_of_removed_units(classifier: tuple[Path, Channels]) -> None:
    path, channels = classifier
    model = masked_file(path, channels, REMOVAL)
    assert model is not None
    masks = [onnx.numpy_helper.to_array(i) for i in model.graph.initializer if "/mask/" in i.name]
    assert [np.flatnonzero(m.ravel() == 0).tolist() for m in masks] == [[1, 2, 5], [0]]


def test_a_file_with_other_nodes_is_masked_as_a_graph(classifier: tuple[Path, Channels], tmp_path: Path) -> None:
    path, channels = classifier
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = [f"other_{o}" for o in node.output]
        node.input[:] = [f"other_{i}" if i.startswith("t") else i for i in node.input]
    model.graph.output[0].name = f"other_{model.graph.output[0].name}"
    onnx.save(model, tmp_path / "renamed.onnx")
    assert masked_file(tmp_path / "renamed.onnx", channels, REMOVAL) is None
    assert masked_graph(channels, REMOVAL).nodes != channels.graph.nodes


def test_repaired_weights_are_put_back(classifier: tuple[Path, Channels]) -> None:
    _, channels = classifier
    pure = shrink(channels, REMOVAL)
    repaired: Graph = pure.with_params({"w2": pure.params["w2"] * np.float32(2)})
    assert np.array_equal(with_original_weights(repaired, pure).params["w2"], pure.params["w2"])
    other = shrink(channels, {0: np.array([1])})
    with pytest.raises(VerificationError, match="would change from"):
        with_original_weights(other, pure)


def test_difference_is_relative_and_strict() -> None:
    ones = np.ones(3, np.float32)
    assert difference(ones * 200, ones * 100) == pytest.approx(1.0)
    assert difference(ones[:2], ones) == float("inf")
    assert difference(np.array([1, np.nan]), np.array([1.0, 1.0])) == float("inf")
    assert difference(np.array([1, np.nan]), np.array([1.0, np.nan])) == 0.0
    assert difference(np.array([1, 2]), np.array([1, 3])) == 0.5
    assert difference(np.zeros(2), np.zeros(2)) == 0.0
    assert difference(ones * 2e-7, ones * 8e-7, 1.0) == pytest.approx(6e-7)


def test_a_sigmoid_near_zero_is_measured_against_its_range(tmp_path: Path) -> None:
    """The runtime's sigmoid is off by some 1e-7, whatever it gives."""
    rng = np.random.default_rng(0)
    shapes = {"first": (256, 8), "second": (384, 256), "third": (400, 384)}
    weights = {n: (rng.standard_normal(s) / np.sqrt(s[1])).astype(np.float32) for n, s in shapes.items()}
    weights["shift"] = np.full(400, -17, np.float32)
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "first"], ["a"], transB=1),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("Gemm", ["b", "second"], ["c"], transB=1),
        onnx.helper.make_node("Relu", ["c"], ["d"]),
        onnx.helper.make_node("Gemm", ["d", "third", "shift"], ["e"], transB=1),
        onnx.helper.make_node("Sigmoid", ["e"], ["f"]),
        onnx.helper.make_node("Unsqueeze", ["f", "end"], ["g"]),
        onnx.helper.make_node("ReduceMean", ["g", "end"], ["y"], keepdims=0),
    ]
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", ["n", 8]), ("y", None))]
    constants = [onnx.numpy_helper.from_array(v, n) for n, v in {**weights, "end": np.array([-1])}.items()]
    graph = onnx.helper.make_graph(nodes, "sigmoid", ends[:1], ends[1:], constants)
    path = tmp_path / "sigmoid.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    channels = analyze(infer(from_onnx(path)))
    removal = {index: np.arange(0, group.size, 3) for index, group in enumerate(channels.groups)}
    found = certify(path, channels, removal, shrink(channels, removal))
    assert found.outputs["y"] <= 1e-6
    assert found.passed
