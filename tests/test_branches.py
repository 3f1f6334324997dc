"""An If of a known condition is its branch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.shapes import infer
from tests.test_exactness import check

RANDOM = np.random.default_rng(0)


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RANDOM.standard_normal(shape).astype(np.float32), name)


def _branch(name: str, op: str, *more: onnx.TensorProto) -> onnx.GraphProto:
    """Reads `h` from outside; both branches call what they make `made`."""
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node(op, ["h", *(tensor.name for tensor in more)], ["made"], name="inner"),
        helper.make_node("Mul", ["made", "two"], ["result"], name="outer"),
    ]
    out = helper.make_tensor_value_info("result", TensorProto.FLOAT, [2, 6, 8, 8])
    return helper.make_graph(nodes, name, [], [out], list(more))


def network() -> onnx.ModelProto:
    """A convolution, an If of a condition on a shape, and a convolution."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["h"], name="front"),
        helper.make_node("Shape", ["h"], ["s"]),
        helper.make_node("ReduceMax", ["s"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["f", "limit"], ["c"]),
        helper.make_node(
            "If",
            ["c"],
            ["y"],
            name="if",
            then_branch=_branch("then", "Relu"),
            else_branch=_branch("else", "Conv", _weight("own", 6, 6, 1, 1)),
        ),
        helper.make_node("Conv", ["y", "w1"], ["z"], name="back"),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4, 8, 8])],
        [_weight("w0", 6, 3, 1, 1), _weight("w1", 4, 6, 1, 1), numpy_helper.from_array(np.float32(20), "limit")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_an_if_of_a_known_condition_is_its_branch(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    graph = infer(from_onnx(path))
    assert [node.op for node in graph.nodes] == ["Conv", "Conv", "Mul", "Conv"]
    assert [g.size for g in analyze(graph).groups] == [6, 6]
    for seed in range(3):
        check(network(), path, seed)
