from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, shape_inference

from amcc.errors import ModelError
from amcc.frontends.from_onnx import from_onnx
from amcc.ir import Array, Graph, Node, Value, frozen
from amcc.passes import dims
from amcc.passes.protos import read_type
from amcc.passes.rewrite import check_shapes
from amcc.passes.shapes import infer
from tests.onnx_models import drawn, light_models, model, node, operator_cases, runtime, save
from tests.random_graphs import random_network


def inferred(made: onnx.ModelProto, folder: Path, **more: object) -> Graph:
    return infer(from_onnx(save(made, folder)), **more)  # type: ignore[arg-type]


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


# Against onnx's own inference over the whole model, and against what ONNX Runtime computes


@pytest.mark.parametrize("path", light_models(), ids=lambda p: p.stem)
def test_real_topologies_against_onnx(path: Path) -> None:
    graph = infer(from_onnx(path))
    whole = shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    oracle = {info.name: read_type(info.type) for info in (*whole.value_info, *whole.output)}
    for name in graph.producers:
        value = graph.values[name]
        assert value.shape is not None and all(isinstance(d, int) for d in value.shape)
        if name in oracle and oracle[name][1] is not None:
            assert (value.dtype, value.shape) == oracle[name]
    assert {n.op for n in graph.nodes}.isdisjoint({"ConstantOfShape", "Constant", "Shape"})
    check_shapes(graph)


@pytest.mark.shared
def test_trained_networks_have_every_shape(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*.onnx")):
        graph = infer(from_onnx(path))
        for value in graph.values.values():
            assert value.shape is not None and "?" not in value.shape, (path, value)
        assert {n.op for n in graph.nodes}.isdisjoint({"Shape", "Gather", "Unsqueeze", "ConstantOfShape"}), path


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_shapes_are_those_that_come_out(tmp_path_factory: pytest.TempPathFactory, seed: int, length: int) -> None:
    made = random_network(seed, length, dynamic=False)
    graph = inferred(made, tmp_path_factory.mktemp("random"))
    results = run_all(made, graph, {"x": drawn(*map(int, graph.shape("x")))})
    assert {name: graph.shape(name) for name in results} == {name: r.shape for name, r in results.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("RTCFURMS"), st.integers(0, 10**6)), min_size=1, max_size=6))
def test_symbolic_shapes_hold_at_any_batch(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    made = moved(steps)
    graph = inferred(made, tmp_path_factory.mktemp("moved"))
    for batch in (1, 5):
        for name, result in run_all(made, graph, {"x": drawn(batch, 6, 4)}).items():
            assert tuple(dims.evaluate(d, {"batch": batch}) for d in graph.shape(name)) == result.shape


def run_all(made: onnx.ModelProto, graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """Every value that the graph makes outside of bodies, computed from the original file."""
    made = onnx.ModelProto.FromString(made.SerializeToString())
    outside = {name for node in made.graph.node for name in node.output}
    names = [name for name in graph.producers if name in outside]
    outputs = {o.name for o in made.graph.output}
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    return dict(zip(names, runtime(made.SerializeToString()).run(names, feeds), strict=True))


def moved(steps: list[tuple[str, int]]) -> onnx.ModelProto:
    """A chain of operators that move, merge, repeat and drop the dimensions of `[batch, 6, 4]`."""
    nodes: list[onnx.NodeProto] = []
    params: dict[str, Array] = {}
    at, rank = "x", 3
    for index, (kind, pick) in enumerate(steps):
        to, axis = f"v{index}", pick % rank
        params[f"axes{index}"] = ints(axis)
        if kind == "R":
            nodes.append(node("Relu", [at], to))
        elif kind == "T":
            nodes.append(node("Transpose", [at], to, perm=np.random.default_rng(pick).permutation(rank).tolist()))
        elif kind == "C":
            nodes.append(node("Concat", [at, at], to, axis=axis))
        elif kind == "F":
            nodes.append(node("Flatten", [at], to, axis=axis))
            rank = 2
        elif kind == "U":
            nodes.append(node("Unsqueeze", [at, f"axes{index}"], to))
            rank += 1
        elif kind == "M" and rank > 1:
            nodes.append(node("ReduceMean", [at], to, axes=[axis], keepdims=0))
            rank -= 1
        elif kind == "S" and rank > 1:
            params[f"axes{index}"] = ints(*[0] * axis, -1)
            nodes.append(node("Reshape", [at, f"axes{index}"], to))
            rank = axis + 1
        else:
            nodes.append(node("Neg", [at], to))
        at = to
    return model(nodes, {"x": ["batch", 6, 4]}, [at], params)


# Dynamic dimensions


def test_multiples_of_the_batch(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", ["x", "merge"], "merged"),
        node("Reshape", ["merged", "flat"], "flattened"),
        node("Concat", ["x", "x"], "doubled", axis=0),
        node("MatMul", ["flattened", "w"], "y"),
    ]
    params = {"merge": ints(-1, 8), "flat": ints(-1, 4), "w": drawn(4, 2)}
    graph = inferred(model(nodes, {"x": ["batch", 3, 8]}, ["y", "doubled"], params), tmp_path)
    assert graph.shape("merged") == ("3*batch", 8)
    assert graph.shape("y") == ("6*batch", 2)
    assert graph.shape("doubled") == ("2*batch", 3, 8)


def test_several_symbols_are_told_apart(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["a", "b"], "m"), node("Flatten", ["m"], "y", axis=2), node("Transpose", ["m"], "t")]
    made = model(nodes, {"a": ["N", "L", 4], "b": ["N", 4, "M"]}, ["y", "t"])
    graph = infer(from_onnx(save(made, tmp_path), input_shapes={"a": ("N", "L", 4), "b": ("N", 4, "M")}))
    assert graph.shape("y") == ("L*N", "M")
    assert graph.shape("t") == ("M", "L", "N")


def test_an_unnamed_batch_gets_a_name(tmp_path: Path) -> None:
    graph = inferred(model([node("Relu", ["x"], "y")], {"x": [None, 4]}, ["y"]), tmp_path)
    assert graph.shape("x") == graph.shape("y") == ("batch", 4)


def test_a_fixed_batch_folds_what_depends_on_it(tmp_path: Path) -> None:
    nodes = [node("Shape", ["x"], "s"), node("ConstantOfShape", ["s"], "zeros"), node("Add", ["x", "zeros"], "y")]
    made = model(nodes, {"x": ["N", 4]}, ["y"])
    assert [n.op for n in inferred(made, tmp_path).nodes] == ["Shape", "ConstantOfShape", "Add"]
    fixed = inferred(made, tmp_path, input_shapes={"x": (5, 4)})
    assert [n.op for n in fixed.nodes] == ["Add"]
    assert fixed.params["zeros"].shape == (5, 4)


def test_dimensions_that_are_no_multiple_are_unknown(tmp_path: Path) -> None:
    graph = inferred(
        model([node("Concat", ["x", "c"], "y", axis=0)], {"x": ["N", 2]}, ["y"], {"c": drawn(1, 2)}), tmp_path
    )
    assert graph.shape("y") == ("?", 2)


def test_open_dimensions_are_asked_for() -> None:
    values = {"x": Value("x", "float32", (1, "?")), "y": Value("y", "", None)}
    graph = Graph((Node("r", "Relu", ("x",), ("y",)),), ("x",), ("y",), values, {}, {"": 17})
    with pytest.raises(ModelError, match="--input-shape x=1xSIZE"):
        infer(graph)
    assert infer(graph, input_shapes={"x": (1, 6)}).shape("y") == (1, 6)


# Folding


def shape_chain(reshape_inputs: list[str]) -> list[onnx.NodeProto]:
    """`x.view(x.size(0), ...)` as torch spells it."""
    return [
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "zero"], "n", axis=0),
        node("Unsqueeze", ["n", "axes"], "n1"),
        node("Concat", reshape_inputs, "target", axis=0),
        node("Reshape", ["x", "target"], "y"),
    ]


@pytest.mark.parametrize(
    ("rest", "expected", "shape"),
    [
        ([-1], [0, -1], ("batch", 24)),
        ([24], [0, 24], ("batch", 24)),
        ([2, 3, 4], [0, 2, 3, 4], ("batch", 2, 3, 4)),
    ],
)
def test_reshape_targets_become_constant(
    tmp_path: Path, rest: list[int], expected: list[int], shape: tuple[object, ...]
) -> None:
    params = {"zero": np.array(0, np.int64), "axes": ints(0), "rest": ints(*rest)}
    made = model(shape_chain(["n1", "rest"]), {"x": ["batch", 6, 4]}, ["y"], params)
    graph = inferred(made, tmp_path)
    (reshape,) = graph.nodes
    assert graph.params[reshape.inputs[1]].tolist() == expected
    assert graph.shape("y") == shape


def test_a_moved_batch_becomes_minus_one(tmp_path: Path) -> None:
    params = {"zero": np.array(0, np.int64), "axes": ints(0), "rest": ints(24)}
    graph = inferred(model(shape_chain(["rest", "n1"]), {"x": ["batch", 6, 4]}, ["y"], params), tmp_path)
    assert graph.params[graph.nodes[0].inputs[1]].tolist() == [24, -1]


def test_layout_of_parameters_is_folded_at_any_size(tmp_path: Path) -> None:
    weight = drawn(300, 400)
    nodes = [
        node("Transpose", ["w"], "t"),
        node("Unsqueeze", ["b", "axes"], "b2"),
        node("Cast", ["h"], "h32", to=TensorProto.FLOAT),
        node("MatMul", ["x", "t"], "m"),
        node("Add", ["m", "b2"], "a"),
        node("Mul", ["a", "h32"], "y"),
    ]
    params = {"w": weight, "b": drawn(300), "axes": ints(0), "h": drawn(300).astype(np.float16)}
    graph = inferred(model(nodes, {"x": ["batch", 400]}, ["y"], params), tmp_path)
    assert [n.op for n in graph.nodes] == ["MatMul", "Add", "Mul"]
    np.testing.assert_array_equal(graph.params["t"], weight.T)
    assert np.shares_memory(graph.params["t"], from_onnx(tmp_path / "model.onnx").params["w"]) is False
    assert set(graph.params) == {"t", "b2", "h32"}


def test_folding_can_leave_weights_alone(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["w"], "t"), node("MatMul", ["x", "t"], "m"), node("Add", ["k", "one"], "k1")]
    nodes.append(node("Reshape", ["m", "k1"], "y"))
    params = {"w": drawn(3, 4), "k": ints(-1, 2), "one": ints(0, 1)}
    graph = inferred(model(nodes, {"x": ["batch", 4]}, ["y"], params), tmp_path, fold_params=False)
    assert [n.op for n in graph.nodes] == ["Transpose", "MatMul", "Reshape"]
    assert set(graph.params) == {"w", "k1"}


def test_weight_normalisation_is_folded(tmp_path: Path) -> None:
    v, g = drawn(8, 3, 3, 3), drawn(8, 1, 1, 1, seed=1)
    nodes = [
        node("ReduceL2", ["v"], "norm", axes=[1, 2, 3]),
        node("Div", ["v", "norm"], "unit"),
        node("Mul", ["g", "unit"], "w"),
        node("Conv", ["x", "w"], "y"),
    ]
    graph = inferred(model(nodes, {"x": ["batch", 3, 8, 8]}, ["y"], {"v": v, "g": g}), tmp_path)
    expected = g * v / np.sqrt((v**2).sum((1, 2, 3), keepdims=True))
    np.testing.assert_allclose(graph.params["w"], expected, rtol=1e-5)
    assert [n.op for n in graph.nodes] == ["Conv"]


@pytest.mark.slow
def test_folded_operators_give_what_onnx_expects(tmp_path: Path) -> None:
    """onnx's own test of every operator, its inputs made parameters."""
    compared = 0
    for case in operator_cases():
        inputs, outputs = case.data_sets[0] if case.data_sets else ((), ())
        if not inputs or not all(isinstance(array, np.ndarray) for array in (*inputs, *outputs)):
            continue
        made = onnx.ModelProto.FromString(case.model.SerializeToString())
        tensors = [numpy_helper.from_array(a, i.name) for a, i in zip(inputs, made.graph.input, strict=False)]
        names = [output.name for output in made.graph.output]
        del made.graph.input[:], made.graph.output[:]
        made.graph.initializer.extend(tensors)
        made.graph.node.extend(node("NonZero", [name], f"read {name}") for name in names)
        made.graph.output.extend(
            helper.make_tensor_value_info(f"read {name}", TensorProto.INT64, None) for name in names
        )
        try:
            params = inferred(made, tmp_path).params
        except ModelError as error:  # the test is about NaN
            assert "NaN" in str(error)
            continue
        for name, expected in zip(names, outputs, strict=True):
            if name in params:
                found = params[name]
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape), case.name
                if expected.dtype.kind in "biuf":
                    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6, err_msg=case.name)
                compared += 1
    assert compared > 400


def test_an_identity_keeps_shared_parameters_shared(tmp_path: Path) -> None:
    nodes = [node("Identity", ["w"], "w2"), node("MatMul", ["x", "w"], "a"), node("MatMul", ["a", "w2"], "y")]
    graph = inferred(model(nodes, {"x": ["batch", 4]}, ["y"], {"w": drawn(4, 4)}), tmp_path)
    assert list(graph.params) == ["w"]
    assert [n.inputs[1] for n in graph.nodes] == ["w", "w"]


def test_a_large_shared_parameter_is_not_doubled(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["w"], "t"), node("Gather", ["w", "x"], "e"), node("MatMul", ["e", "t"], "y")]
    made = model(nodes, {}, ["y"], {"w": drawn(1000, 100)})
    made.graph.input.append(helper.make_tensor_value_info("x", TensorProto.INT64, ["batch"]))
    assert [n.op for n in inferred(made, tmp_path).nodes] == ["Transpose", "Gather", "MatMul"]


def test_random_and_quantised_operators_are_left_alone(tmp_path: Path) -> None:
    nodes = [
        node("RandomNormalLike", ["c"], "r"),
        node("DequantizeLinear", ["q", "scale"], "d"),
        node("Add", ["x", "r"], "a"),
        node("Add", ["a", "d"], "y"),
    ]
    params = {"c": drawn(4), "q": np.array([1, 2, 3, 4], np.int8), "scale": np.array(0.5, np.float32)}
    graph = inferred(model(nodes, {"x": [4]}, ["y"], params), tmp_path)
    assert [n.op for n in graph.nodes] == ["RandomNormalLike", "DequantizeLinear", "Add", "Add"]


def test_a_constant_that_is_an_output_stays_made(tmp_path: Path) -> None:
    graph = inferred(
        model([node("Neg", ["c"], "z"), node("Relu", ["x"], "y")], {"x": [2]}, ["y", "z"], {"c": drawn(2)}), tmp_path
    )
    assert [n.op for n in graph.nodes] == ["Neg", "Relu"]
    assert graph.shape("z") == (2,)


def test_dead_code_and_unread_outputs_go(tmp_path: Path) -> None:
    nodes = [
        node("Dropout", ["x"], ["y", "mask"]),
        node("Neg", ["x"], "unused"),
        node("MaxPool", ["y"], ["z", "indices"], kernel_shape=[2, 2]),
    ]
    graph = inferred(model(nodes, {"x": [1, 2, 4, 4]}, ["z"], {"lost": drawn(3)}), tmp_path)
    assert [n.outputs for n in graph.nodes] == [("y",), ("z",)]
    assert not graph.params
    assert set(graph.values) == {"x", "y", "z"}


def test_contradictions_leave_shapes_unknown(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], "m"), node("Relu", ["m"], "y")]
    graph = inferred(model(nodes, {"x": [1, 5]}, {"y": None}, {"w": drawn(4, 4)}), tmp_path)
    assert graph.values["y"] == Value("y", "float32", None)


def test_what_the_file_says_fills_the_gaps(tmp_path: Path) -> None:
    nodes = [node("Mystery", ["x"], "m", domain="my.ops"), node("Relu", ["m"], "y")]
    made = model(nodes, {"x": ["batch", 4]}, ["y"], domains={"my.ops": 1})
    made.graph.value_info.append(helper.make_tensor_value_info("m", 1, ["batch", 7]))
    assert inferred(made, tmp_path).shape("y") == ("batch", 7)


def test_repeating_constants_take_no_memory(tmp_path: Path) -> None:
    nodes = [node("ConstantOfShape", ["s"], "d", value=numpy_helper.from_array(np.array([0.5])))]
    nodes += [node("Cast", ["d"], "w", to=TensorProto.FLOAT), node("MatMul", ["x", "w"], "y")]
    graph = inferred(model(nodes, {"x": ["batch", 40000]}, ["y"], {"s": ints(40000, 40000)}), tmp_path)
    assert graph.params["w"].shape == (40000, 40000)
    assert graph.params["w"].strides == (0, 0)


def test_large_tensors_of_dynamic_size_are_never_made(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], "s"),
        node("ConstantOfShape", ["s"], "zeros"),
        node("Cast", ["zeros"], "cast", to=TensorProto.DOUBLE),
        node("Transpose", ["cast"], "t"),
        node("Add", ["t", "one"], "y"),
    ]
    made = model(nodes, {"x": ["N", 512, 512, 512]}, ["y"], {"one": np.array(1.0)}, dtype=TensorProto.DOUBLE)
    tracemalloc.start()
    graph = inferred(made, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    assert graph.shape("y") == (512, 512, 512, "N")


def test_inference_of_its_own_result_changes_nothing(tmp_path: Path) -> None:
    graph = infer(from_onnx(light_models()[0]))
    again = infer(graph)
    assert (again.nodes, again.values) == (graph.nodes, graph.values)


def test_thousands_of_nodes_take_seconds() -> None:
    count = 5000
    names = ["x", *(f"v{i}" for i in range(count))]
    kinds = [("Relu", ()), ("Conv", ("w",)), ("Add", ("x",))]
    nodes = tuple(Node(f"n{i}", kinds[i % 3][0], (names[i], *kinds[i % 3][1]), (names[i + 1],)) for i in range(count))
    values = {name: Value(name, "", None) for name in names}
    values |= {"x": Value("x", "float32", ("batch", 4, 8, 8)), "w": Value("w", "float32", (4, 4, 1, 1))}
    graph = Graph(nodes, ("x",), (names[-1],), values, {"w": frozen(drawn(4, 4, 1, 1))}, {"": 17})
    start = time.process_time()
    assert infer(graph).shape(names[-1]) == ("batch", 4, 8, 8)
    assert time.process_time() - start < 8
