from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from amcc.backends.runtime import Session
from amcc.errors import DataError, ModelError
from amcc.frontends.from_onnx import from_onnx
from amcc.ir import Array, Graph, Node, Value, frozen
from amcc.passes.shapes import infer
from tests.onnx_models import drawn, model, node, runtime, save

WEIGHTS = {"w": drawn(8, 3, 3, 3), "m": drawn(8, 5)}


def network(batch: int | str = "batch", dtype: str = "float32") -> Graph:
    """Conv, Relu, pooling, MatMul: input [batch, 3, 6, 6], output [batch, 5]."""
    nodes = (
        Node("conv", "Conv", ("x", "w"), ("c",), {"pads": (1, 1, 1, 1)}),
        Node("relu", "Relu", ("c",), ("r",)),
        Node("pool", "ReduceMean", ("r",), ("p",), {"axes": (2, 3), "keepdims": 0}),
        Node("fc", "MatMul", ("p", "m"), ("y",)),
    )
    params = {name: frozen(array.astype(dtype)) for name, array in WEIGHTS.items()}
    values = {name: Value(name, "", None) for name in "crpy"} | {"x": Value("x", dtype, (batch, 3, 6, 6))}
    values |= {name: Value(name, dtype, array.shape) for name, array in params.items()}
    return infer(Graph(nodes, ("x",), ("y",), values, params, {"": 17}))


def by_numpy(x: Array) -> Array:
    """The same network, from its definition."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    hidden = np.maximum(np.einsum("nchwij,ocij->nohw", windows, WEIGHTS["w"].astype(np.float64)), 0)
    return np.asarray(hidden.mean((2, 3)) @ WEIGHTS["m"])


def test_it_computes_what_the_operators_say() -> None:
    x = drawn(4, 3, 6, 6)
    np.testing.assert_allclose(Session(network(), threads=1).run({"x": x})["y"], by_numpy(x), rtol=1e-4, atol=1e-5)


def test_intermediate_values_can_be_had() -> None:
    session = Session(network(), outputs=["r", "y", "c", "x", "m"], threads=1)
    found = session.run({"x": drawn(2, 3, 6, 6)})
    assert list(found) == ["r", "y", "c", "x", "m"]
    np.testing.assert_array_equal(found["r"], np.maximum(found["c"], 0))
    np.testing.assert_array_equal(found["m"], WEIGHTS["m"])
    assert Session(network(), outputs=["p"], threads=1).run({"x": drawn(2, 3, 6, 6)})["p"].shape == (2, 8)


def test_a_value_that_does_not_exist() -> None:
    with pytest.raises(ModelError, match="no value 'ghost'"):
        Session(network(), outputs=["ghost"])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 11))
def test_a_fixed_batch_runs_any_number_of_samples(batch: int, count: int) -> None:
    x = drawn(count, 3, 6, 6)
    expected = Session(network(), threads=1).run({"x": x})["y"]
    found = Session(network(batch), threads=1).run({"x": x})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_outputs_that_do_not_divide_into_samples_are_repeated(tmp_path: Path) -> None:
    made = model([node("ReduceSum", ["x"], "y", keepdims=0)], {"x": [2, 3]}, ["y"])
    session = Session(infer(from_onnx(save(made, tmp_path))), threads=1)
    assert session.run({"x": np.ones((2, 3), np.float32)})["y"] == 6
    x = drawn(3, 3)
    last = x[2].sum() * 2  # the last run is padded
    np.testing.assert_allclose(session.run({"x": x})["y"], [x[:2].sum(), x[:2].sum(), last], rtol=1e-5)


def test_several_outputs_a_sample_are_joined_in_order(tmp_path: Path) -> None:
    made = model([node("Reshape", ["x", "s"], "y")], {"x": [2, 3, 4]}, ["y"], {"s": np.array([6, 4])})
    x = drawn(3, 3, 4)
    found = Session(infer(from_onnx(save(made, tmp_path))), threads=1).run({"x": x})["y"]
    np.testing.assert_array_equal(found, x.reshape(9, 4))


# Precision


@pytest.mark.parametrize(
    ("dtype", "runs_as", "tolerance"),
    [
        ("float32", "float32", 1e-5),
        ("float64", "float32", 1e-5),
        ("float16", "float16", 2e-2),
        ("bfloat16", "float32", 5e-2),
    ],
)
def test_precisions_that_the_runtime_lacks_run_in_float32(dtype: str, runs_as: str, tolerance: float) -> None:
    assert ml_dtypes  # registers bfloat16 with numpy
    x = drawn(2, 3, 6, 6)
    session = Session(network(dtype=dtype), threads=1)
    assert session.precision == runs_as
    for fed in (x, x.astype(dtype)):
        found = session.run({"x": fed})["y"]
        assert found.dtype == np.dtype(runs_as)
        np.testing.assert_allclose(found.astype(np.float32), by_numpy(x), rtol=tolerance, atol=tolerance)


def test_a_float64_network_that_the_runtime_has_stays_float64(tmp_path: Path) -> None:
    made = model([node("MatMul", ["x", "w"], "y")], {"x": ["n", 3]}, ["y"], {"w": np.eye(3)}, dtype=TensorProto.DOUBLE)
    session = Session(infer(from_onnx(save(made, tmp_path))), threads=1)
    x = np.random.default_rng(0).standard_normal((2, 3))
    assert session.precision == "float64"
    np.testing.assert_array_equal(session.run({"x": x})["y"], x)


def test_casts_and_constants_change_precision_too(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["i"], "c", to=TensorProto.DOUBLE),
        node("Conv", ["x", "w"], "v"),
        node("ConstantOfShape", ["s"], "z", value=helper.make_tensor("", TensorProto.DOUBLE, [1], [3.0])),
        node("Sum", ["v", "c", "z"], "y"),
    ]
    made = model(nodes, {"x": ["n", 1, 2, 2]}, ["y"], {"w": np.ones((1, 1, 1, 1))}, dtype=TensorProto.DOUBLE)
    made.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, ["n", 1, 2, 2]))
    made.graph.input.append(helper.make_tensor_value_info("s", TensorProto.INT64, [1]))
    session = Session(infer(from_onnx(save(made, tmp_path))), threads=1)
    assert session.precision == "float32"
    feeds = {"x": np.ones((2, 1, 2, 2)), "i": np.full((2, 1, 2, 2), 2), "s": np.array([1])}
    np.testing.assert_array_equal(session.run(feeds)["y"], np.full((2, 1, 2, 2), 6, np.float32))


# Newer operator sets


def test_operator_sets_that_the_runtime_does_not_know_yet(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    made = model(
        [node("Conv", ["x", "w"], "c"), node("DepthToSpace", ["c"], "y", blocksize=2)],
        {"x": ["n", 3, 6, 6]}, ["y"], {"w": WEIGHTS["w"]}, opset=newest, ir_version=onnx.IR_VERSION,
    )  # fmt: skip
    graph = infer(from_onnx(save(made, tmp_path)))
    assert graph.opset == newest
    x = drawn(2, 3, 6, 6)
    made.opset_import[0].version, made.ir_version = 17, 8
    expected = runtime(made.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(Session(graph, threads=1).run({"x": x})["y"], expected)


# Weights are lent, not copied


def test_the_runtime_reads_the_arrays_themselves(tmp_path: Path) -> None:
    weight = drawn(64, 64)
    made = model([node("Add", ["x", "w"], "y")], {"x": [64, 64]}, ["y"], {"w": weight})
    graph = infer(from_onnx(save(made, tmp_path)))
    session = Session(graph, threads=1)
    lent = session._lent.values["w"]
    assert lent.data_ptr() == graph.params["w"].ctypes.data
    x = drawn(64, 64, seed=1)
    np.testing.assert_array_equal(session.run({"x": x})["y"], x + weight)


def test_views_and_repeats_run(tmp_path: Path) -> None:
    graph = network()
    tall = np.broadcast_to(np.float32(0.5), (8, 5))
    graph = graph.with_params({"m": frozen(tall), "w": frozen(drawn(3, 3, 3, 8).T)})
    assert np.isfinite(Session(graph, threads=1).run({"x": drawn(1, 3, 6, 6)})["y"]).all()


# What goes wrong


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, "no data for input 'x'"),
        ({"x": drawn(1, 3, 6)}, "shape"),
        ({"x": drawn(1, 3, 6, 7)}, "shape"),
        ({"x": np.ones((1, 3, 6, 6), complex)}, "complex128"),
        ({"x": np.full((1, 3, 6, 6), "a")}, "data"),
    ],
    ids=["missing", "rank", "size", "complex", "text"],
)
def test_data_that_does_not_fit(feeds: dict[str, Array], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Session(network(), threads=1).run(feeds)


def test_no_samples_for_a_fixed_batch() -> None:
    with pytest.raises(DataError, match="no samples"):
        Session(network(2), threads=1).run({"x": drawn(0, 3, 6, 6)})


def test_an_operator_that_the_runtime_does_not_have() -> None:
    values = {name: Value(name, "float32", (2,)) for name in "xy"}
    mystery = Node("odd", "Mystery", ("x",), ("y",), {}, "my.ops")
    with pytest.raises(ModelError, match="Mystery"):
        Session(Graph((mystery,), ("x",), ("y",), values, {}, {"": 17, "my.ops": 1}))


def test_an_operator_that_fails_is_named(tmp_path: Path) -> None:
    made = model(
        [node("Reshape", ["x", "s"], "y", name="impossible")], {"x": ["n", 6]}, ["y"], {"s": np.array([4, -1])}
    )
    with pytest.raises(ModelError, match="impossible"):
        Session(infer(from_onnx(save(made, tmp_path))), threads=1).run({"x": drawn(1, 6)})
