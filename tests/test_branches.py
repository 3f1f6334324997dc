"""Control flow: an If of a known condition is its branch; what else has bodies is carried through and locked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from amcc.frontends.from_onnx import from_onnx
from amcc.ir import Graph
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


def network(condition: str) -> onnx.ModelProto:
    """A convolution, an If and a convolution; the condition is a shape's or the picture's."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["h"], name="front"),
        helper.make_node("Shape" if condition == "shape" else "Abs", ["h"], ["s"]),
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


def opened(model: onnx.ModelProto, path: Path) -> Graph:
    onnx.save(model, path)
    return infer(from_onnx(path))


def test_an_if_of_a_known_condition_is_its_branch(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    graph = opened(network("shape"), path)
    assert [node.op for node in graph.nodes] == ["Conv", "Conv", "Mul", "Conv"]
    assert [g.size for g in analyze(graph).groups] == [6, 6]
    for seed in range(3):
        check(network("shape"), path, seed)


def test_an_if_that_run_time_decides_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    channels = analyze(opened(network("picture"), path))
    assert not channels.groups
    lock = next(lock for lock in channels.ledger if lock.op == "If")
    assert (lock.node, lock.value, lock.axis) == ("if", "h", 1)
    assert "body" in lock.reason
    check(network("picture"), path, 0)


@pytest.mark.parametrize("op", ["Loop", "Scan"])
def test_bodies_of_loops_are_locked(op: str, tmp_path: Path) -> None:
    """What is captured, what is carried and what is scanned stays; the rest of the network does not."""
    info = helper.make_tensor_value_info
    body_inputs = [info("state", TensorProto.FLOAT, [2, 6, 8, 8])]
    body_outputs = [info("next", TensorProto.FLOAT, [2, 6, 8, 8])]
    body_nodes = [helper.make_node("Add", ["state", "h"], ["next"])]
    if op == "Loop":
        body_inputs = [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), *body_inputs]
        body_outputs = [info("on", TensorProto.BOOL, []), *body_outputs]
        body_nodes.append(helper.make_node("Identity", ["go"], ["on"]))
        loop = helper.make_node("Loop", ["count", "", "h"], ["y"], name="loop")
    else:
        body_inputs.append(info("row", TensorProto.FLOAT, [6, 8, 8]))
        body_nodes[0].input[1] = "row"
        loop = helper.make_node("Scan", ["h", "h"], ["y"], name="loop", num_scan_inputs=1)
    loop.attribute.append(
        helper.make_attribute("body", helper.make_graph(body_nodes, "body", body_inputs, body_outputs))
    )
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["g"]),
        helper.make_node("Conv", ["g", "w0"], ["h"]),
        loop,
        helper.make_node("Conv", ["y", "w1"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loop",
        [info("x", TensorProto.FLOAT, [2, 3, 8, 8])],
        [info("z", TensorProto.FLOAT, [2, 4, 8, 8])],
        [
            _weight("first", 5, 3, 1, 1),
            _weight("w0", 6, 5, 1, 1),
            _weight("w1", 4, 6, 1, 1),
            numpy_helper.from_array(np.int64(3), "count"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "model.onnx"
    channels = analyze(opened(model, path))
    assert [(g.name, g.size) for g in channels.groups] == [("first", 5)]
    assert any(lock.op == op and "body" in lock.reason for lock in channels.ledger)
    check(model, path, 1)
