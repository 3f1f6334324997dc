"""Rows of linear operators: `rows @ matrix + offset` is what ONNX Runtime gives at the same positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.backends.runtime import Session
from amcc.frontends.from_onnx import from_proto
from amcc.ir import Array, Graph
from amcc.passes.recovery.linear import linears
from amcc.passes.recovery.patches import draw, inputs_at, outputs_at
from amcc.passes.shapes import infer
from tests.onnx_models import drawn, model, node
from tests.random_graphs import random_network


def graph_of(
    op: str, x: tuple[int | str, ...], params: dict[str, Array], *, swap: bool = False, **attributes: Any
) -> Graph:
    names = [*params, "x"] if swap else ["x", *params]
    return infer(from_proto(model([node(op, names, "y", **attributes)], {"x": x}, ["y"], params)))


def check(graph: Graph, inputs: dict[str, Array], limit: int = 7) -> int:
    """Compare every linear node of a graph with ONNX Runtime; gives their number."""
    found = linears(graph)
    values = [v for linear in found.values() for v in (linear.x, linear.y)]
    if not found:
        return 0
    got = Session(graph, outputs=values, threads=1).run(inputs)
    for linear in found.values():
        x, y = got[linear.x], got[linear.y]
        at = draw(linear, x, y.shape, limit, np.random.default_rng(0))
        rows, wanted = inputs_at(linear, x, at), outputs_at(linear, y, at)
        matrix, offset = linear.matrix(graph), linear.offset(graph)
        assert rows.shape == (*matrix.shape[:1], wanted.shape[1], matrix.shape[2])
        made = rows @ matrix.transpose(0, 2, 1) + (0 if offset is None else offset[:, None])
        np.testing.assert_allclose(made, wanted, rtol=1e-3, atol=1e-4 * max(1, float(np.abs(wanted).max())))
        for name, array in linear.params(graph, matrix, offset).items():
            np.testing.assert_allclose(array, graph.params[name], rtol=1e-6)
    return len(found)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((4, 3, 9, 8), (5, 3, 3, 3), {}),
    "padded, strided, dilated": (
        (4, 3, 11, 12),
        (5, 3, 3, 2),
        {"pads": [1, 2, 0, 1], "strides": [2, 3], "dilations": [2, 1]},
    ),
    "grouped": ((4, 6, 7, 7), (4, 3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((4, 6, 7, 7), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "one dimension": ((4, 3, 15), (5, 3, 4), {"pads": [2, 1], "strides": [3]}),
    "three dimensions": ((2, 3, 5, 4, 6), (5, 3, 2, 3, 1), {"pads": [1, 1, 0, 0, 1, 2]}),
    "same upper": ((4, 3, 9, 8), (5, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    "same lower": ((4, 3, 9, 8), (5, 3, 4, 2), {"auto_pad": "SAME_LOWER"}),
    "valid": ((4, 3, 9, 8), (5, 3, 3, 3), {"auto_pad": "VALID"}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("limit", [3, 10_000])
def test_convolution(case: str, limit: int) -> None:
    x, w, attributes = CONVOLUTIONS[case]
    graph = graph_of("Conv", ("batch", *x[1:]), {"w": drawn(*w), "b": drawn(w[0])}, **attributes)
    assert check(graph, {"x": drawn(*x, seed=1)}, limit) == 1


TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((4, 3, 5, 6), (3, 4, 3, 2), {}),
    "strided": ((4, 3, 5, 6), (3, 4, 3, 4), {"strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 2]}),
    "dilated": ((4, 3, 5, 6), (3, 4, 3, 2), {"strides": [2, 1], "dilations": [2, 3]}),
    "grouped": ((4, 6, 5, 5), (6, 2, 3, 3), {"group": 3, "strides": [2, 2]}),
    "same upper": ((4, 3, 5, 6), (3, 4, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((4, 3, 5, 6), (3, 4, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "sized": ((4, 3, 5, 6), (3, 4, 3, 3), {"output_shape": [10, 13], "strides": [2, 2]}),
    "one dimension": ((4, 3, 5), (3, 4, 3), {"strides": [2]}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution(case: str) -> None:
    x, w, attributes = TRANSPOSED[case]
    outputs = w[1] * attributes.get("group", 1)
    graph = graph_of("ConvTranspose", x, {"w": drawn(*w), "b": drawn(outputs)}, **attributes)
    assert check(graph, {"x": drawn(*x, seed=1)}, 50) == 1


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm(trans_a: int, trans_b: int) -> None:
    x, w = ((5, 6) if trans_a else (6, 5)), ((4, 5) if trans_b else (5, 4))
    params = {"w": drawn(*w), "c": drawn(1, 4)}
    graph = graph_of("Gemm", x, params, transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)
    assert check(graph, {"x": drawn(*x, seed=1)}) == 1


@pytest.mark.parametrize("x", [(6, 5), (6, 7, 5), (2, 3, 7, 5)])
def test_matmul(x: tuple[int, ...]) -> None:
    assert check(graph_of("MatMul", x, {"w": drawn(5, 4)}), {"x": drawn(*x, seed=1)}) == 1


@pytest.mark.parametrize("x", [(5, 6), (3, 5, 7), (2, 3, 5, 7)])
def test_matmul_with_the_weight_on_the_left(x: tuple[int, ...]) -> None:
    assert check(graph_of("MatMul", x, {"w": drawn(4, 5)}, swap=True), {"x": drawn(*x, seed=1)}) == 1


def test_bias_added_behind_a_matmul() -> None:
    nodes = [node("MatMul", ["x", "w"], "p"), node("Add", ["b", "p"], "q"), node("Relu", ["q"], "y")]
    graph = infer(from_proto(model(nodes, {"x": ["n", 7, 5]}, ["y"], {"w": drawn(5, 4), "b": drawn(4)})))
    (linear,) = linears(graph).values()
    assert (linear.bias, linear.y) == ("b", "q")
    assert check(graph, {"x": drawn(3, 7, 5)}) == 1


def test_weight_behind_transpositions() -> None:
    nodes = [
        node("Transpose", ["w"], "w1", perm=[1, 0]),
        node("MatMul", ["x", "w1"], "p"),
        node("Relu", ["p"], "r"),
        node("Transpose", ["v"], "v1", perm=[2, 0, 1]),
        node("Conv", ["r", "v1"], "y"),
    ]
    params = {"w": drawn(4, 5), "v": drawn(3, 2, 6)}  # the kernel of 2 lies in the middle of the weight
    graph = from_proto(model(nodes, {"x": ["n", 3, 5]}, ["y"], params))
    values = {name: value for name, value in infer(graph).values.items() if name in graph.values}
    graph = graph.replace(values={**graph.values, **values})  # as captured from torch: nothing is folded
    assert {linear.weight for linear in linears(graph).values()} <= {"w", "v"}
    graph = infer(graph)
    assert check(graph, {"x": drawn(3, 3, 5)}) >= 1


def test_weights_of_several_nodes_are_left_alone() -> None:
    nodes = [node("MatMul", ["x", "w"], "p"), node("Relu", ["p"], "r"), node("MatMul", ["r", "w"], "y")]
    assert linears(infer(from_proto(model(nodes, {"x": ["n", 5]}, ["y"], {"w": drawn(5, 5)})))) == {}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks(seed: int) -> None:
    made: onnx.ModelProto = random_network(seed, 6)
    graph = infer(from_proto(made))
    check(graph, {"x": drawn(4, 3, 8, 8, seed=seed % 1000)})
