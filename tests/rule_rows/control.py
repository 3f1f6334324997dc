"""Rows of control flow: a picture chosen, carried through steps, and taken apart and stacked again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row

PICTURE = [2, C, SIDE, SIDE]
STEPS = 3


def described(name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """What goes into a body or comes out of it."""
    return helper.make_tensor_value_info(name, kind, shape)


def branch(b: Builder, nodes: Sequence[onnx.NodeProto], result: str, shape: Sequence[int]) -> onnx.GraphProto:
    """A branch of an If."""
    return helper.make_graph(nodes, f"branch{len(b.nodes)}", [], [described(result, shape)])


def _chosen(b: Builder, x: str) -> str:
    """A convolution where the picture is bright, else its negative."""
    bright = b.op("Greater", b.op("ReduceSum", x, keepdims=0), b.constant(np.float32(0)))
    mixed = helper.make_node("Conv", [x, b.param(C, C, 1, 1)], ["mixed"], name="mix")
    then = branch(b, [mixed], "mixed", PICTURE)
    negative = branch(b, [helper.make_node("Neg", [x], ["negative"], name="negate")], "negative", PICTURE)
    return b.op("If", bright, then_branch=then, else_branch=negative)


def _looped(b: Builder, x: str) -> str:
    """A convolution and a sum, over and over; and what it gives on the way, added up."""
    nodes = [
        helper.make_node("Conv", ["state", b.param(C, C, 1, 1)], ["mixed"], name="mix"),
        helper.make_node("Tanh", ["mixed"], ["bent"], name="bend"),
        helper.make_node("Add", ["bent", x], ["next"], name="add"),
        helper.make_node("Identity", ["go"], ["on"], name="again"),
        helper.make_node("Neg", ["next"], ["seen"], name="look"),
    ]
    inputs = [described("i", [], TensorProto.INT64), described("go", [], TensorProto.BOOL), described("state", PICTURE)]
    outputs = [described("on", [], TensorProto.BOOL), described("next", PICTURE), described("seen", PICTURE)]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    last = b.op("Loop", b.constant(np.array(STEPS)), "", x, outputs=2, body=body)
    return b.op("Add", last, b.reduce("ReduceSum", f"{last[:-1]}1", 0, keep=False))


def _scanned(b: Builder, x: str) -> str:
    """Row by row from below: what came before, mixed, and added to the row; and the sum of all at last."""
    nodes = [
        helper.make_node("MatMul", ["row", b.param(SIDE, SIDE)], ["mixed"], name="mix"),
        helper.make_node("Add", ["mixed", "state"], ["next"], name="add"),
        helper.make_node("Relu", ["next"], ["seen"], name="look"),
    ]
    line = [2, C, SIDE]
    inputs, outputs = [described("state", line), described("row", line)], [described("next", line)]
    body = helper.make_graph(nodes, "body", inputs, [*outputs, described("seen", line)])
    begin = b.reduce("ReduceSum", x, 2, keep=False)
    scan = {"scan_input_axes": [2], "scan_input_directions": [1], "scan_output_axes": [-1]}
    last = b.op("Scan", begin, x, outputs=2, body=body, num_scan_inputs=1, **scan)
    return b.op("Add", b.op("Unsqueeze", last, b.ints(3)), f"{last[:-1]}1")


_LOOP = Row(_looped, macs=2 * STEPS * C * C * SIDE * SIDE)
_SCAN = Row(_scanned, macs=2 * SIDE * C * SIDE * SIDE)

ROWS = {
    "amcc.Select": Row(_chosen, macs=2 * C * C * SIDE * SIDE),
    "amcc.LoopBegin": _LOOP,
    "amcc.LoopEnd": _LOOP,
    "amcc.ScanBegin": _SCAN,
    "amcc.ScanEnd": _SCAN,
}
