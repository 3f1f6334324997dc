"""Networks whose inputs have no batch axis in common, from file to certified result, with ONNX Runtime as oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from amcc import api
from amcc.backends.runtime import Session
from amcc.data import Dataset, load_data
from amcc.errors import DataError, ModelError
from amcc.frontends.load import load
from amcc.ir import Array, Graph
from amcc.metric import Evaluator
from amcc.passes.batching import Batching, batching
from amcc.synthetic import synthetic, that_runs
from tests.onnx_models import model, node, runtime, save

Built = tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]
WIDTH = 16


def weights(*shapes: Sequence[int]) -> list[Array]:
    random = np.random.default_rng(5)
    return [(random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32) for shape in shapes]


def perceptron(x: str, to: str, key: str, width: int = WIDTH) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    names = [f"{key}{i}" for i in range(4)]
    first, second, bias = weights([8, width], [width, 4], [width])
    nodes = [
        node("MatMul", [x, names[0]], names[2]),
        node("Add", [names[2], f"{key}bias"], f"{key}added"),
        node("Relu", [f"{key}added"], names[3]),
        node("MatMul", [names[3], names[1]], to),
    ]
    return nodes, {names[0]: first, names[1]: second, f"{key}bias": bias}


def bias_of_no_batch() -> Built:
    nodes, params = perceptron("x", "h", "w")
    nodes.append(node("Add", ["h", "y"], "z"))
    return model(nodes, {"x": ["batch", 8], "y": [4]}, ["z"], params), {"x": (9, 8), "y": (4,)}


def picture_beside_a_table() -> Built:
    conv, after, table, mix = weights([WIDTH, 3, 3, 3], [4, WIDTH, 1, 1], [WIDTH, WIDTH], [WIDTH, 4])
    nodes = [
        node("Conv", ["x", "conv"], "a", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Conv", ["b", "after"], "c"),
        node("GlobalAveragePool", ["c"], "d"),
        node("Flatten", ["d"], "e"),
        node("MatMul", ["z", "table"], "f"),
        node("Relu", ["f"], "g"),
        node("MatMul", ["g", "mix"], "h"),
        node("Gemm", ["e", "h"], "out", transB=1),
    ]
    params = {"conv": conv, "after": after, "table": table, "mix": mix}
    shapes = {"x": (1, 3, 32, 32), "z": (5, 16)}
    return model(nodes, shapes, ["out"], params), {"x": (9, 1, 3, 32, 32), "z": (9, 5, 16)}


def only_fixed_and_unequal() -> Built:
    nodes, params = perceptron("x", "h", "w")
    nodes.append(node("MatMul", ["y", "h"], "z"))
    return model(nodes, {"x": [5, 8], "y": [3, 5]}, ["z"], params), {"x": (9, 5, 8), "y": (9, 3, 5)}


def unused_inputs() -> Built:
    nodes, params = perceptron("x", "h", "w")
    shapes = {"x": [1, 8], "idle": [7, 3], "none": []}
    return model(nodes, shapes, ["h"], params), {"x": (9, 8), "idle": (7, 3), "none": ()}


def unused_beside_a_symbol() -> Built:
    nodes, params = perceptron("x", "h", "w")
    return model(nodes, {"x": ["N", 8], "idle": [1, 3]}, ["h"], params), {"x": (9, 8), "idle": (1, 3)}


def a_scalar() -> Built:
    nodes, params = perceptron("x", "h", "w")
    nodes.append(node("Mul", ["h", "scale"], "z"))
    return model(nodes, {"x": ["batch", 8], "scale": []}, ["z"], params), {"x": (9, 8), "scale": ()}


def a_scalar_and_a_fixed_batch() -> Built:
    nodes, params = perceptron("x", "h", "w")
    nodes += [node("Mul", ["h", "scale"], "z"), node("ReduceMax", ["z"], "peak", keepdims=0)]
    return model(nodes, {"x": [4, 8], "scale": []}, ["z", "peak"], params), {"x": (9, 8), "scale": ()}


def recurrent(batch: int | str, state: int | str) -> onnx.ModelProto:
    w, r, b = weights([1, 24, 8], [1, 24, 8], [1, 48])
    head, params = perceptron("s", "z", "v", 64)
    nodes = [
        node("GRU", ["x", "w", "r", "b", "", "h0"], ["y", "last"], hidden_size=8),
        node("Squeeze", ["y", "one"], "s"),
        *head,
    ]
    params |= {"w": w, "r": r, "b": b, "one": np.array([1])}
    return model(nodes, {"x": [12, batch, 8], "h0": [1, state, 8]}, ["z", "last"], params)


def time_in_front() -> Built:
    return recurrent(1, 1), {"x": (9, 12, 1, 8), "h0": (9, 1, 1, 8)}


def time_in_front_and_a_free_batch() -> Built:
    return recurrent("batch", "batch"), {"x": (12, 9, 8), "h0": (1, 9, 8)}


def time_in_front_and_one_state() -> Built:
    """The batch is free in name alone: ONNX Runtime takes one sample."""
    return recurrent("batch", 1), {"x": (12, 9, 8), "h0": (1, 1, 8)}


def beside_a_fixed_one() -> Built:
    """Again a batch of one alone, and no broadcast."""
    nodes, params = perceptron("x", "h", "w")
    nodes.append(node("Concat", ["h", "y"], "z", axis=1))
    return model(nodes, {"x": ["batch", 8], "y": [1, 4]}, ["z"], params), {"x": (9, 8), "y": (1, 4)}


def beside_a_fixed_number() -> Built:
    nodes, params = perceptron("x", "h", "w")
    more, more_params = perceptron("y", "g", "v")
    nodes += [*more, node("Gemm", ["h", "g"], "z", transB=1)]
    return model(nodes, {"x": ["batch", 8], "y": [6, 8]}, ["z", "g"], params | more_params), {"x": (9, 8), "y": (6, 8)}


def fixed_and_unequal_with_a_scalar() -> Built:
    made, shapes = only_fixed_and_unequal()
    made.graph.node.append(node("Mul", ["z", "scale"], "scaled"))
    made.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))
    made.graph.output.append(helper.make_tensor_value_info("scaled", TensorProto.FLOAT, None))
    return made, {**shapes, "scale": ()}


def two_symbols() -> Built:
    nodes, params = perceptron("x", "h", "w")
    more, more_params = perceptron("y", "g", "v")
    nodes += more
    shapes: dict[str, Sequence[int | str]] = {"x": ["batch", 8], "y": ["tokens", 8]}
    return model(nodes, shapes, ["h", "g"], params | more_params), {"x": (9, 8), "y": (9, 8)}


def two_symbols_multiplied() -> Built:
    made, shapes = two_symbols()
    made.graph.node.append(node("Gemm", ["h", "g"], "z", transB=1))
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    return made, shapes


CASES: list[Callable[[], Built]] = [
    bias_of_no_batch,
    picture_beside_a_table,
    only_fixed_and_unequal,
    fixed_and_unequal_with_a_scalar,
    unused_inputs,
    unused_beside_a_symbol,
    a_scalar,
    a_scalar_and_a_fixed_batch,
    time_in_front,
    time_in_front_and_a_free_batch,
    time_in_front_and_one_state,
    beside_a_fixed_one,
    beside_a_fixed_number,
    two_symbols,
    two_symbols_multiplied,
]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)


def samples(shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    random = np.random.default_rng(1)
    return {n: np.asarray(random.standard_normal(shape)).astype(np.float32) for n, shape in shapes.items()}


def saved(shapes: dict[str, tuple[int, ...]], folder: Path) -> str:
    np.savez(folder / "d.npz", allow_pickle=False, **samples(shapes))
    return str(folder / "d.npz")


def one(graph: Graph) -> dict[str, Array]:
    """A set of inputs that the file takes."""
    how = batching(graph)
    made = synthetic(graph, how.size or 1, seed=3)
    return how.feeds(made.inputs, 0, how.size or 1)


@each
@pytest.mark.parametrize("given", [False, True], ids=["made up", "data"])
def test_compiled_without_recovery(case: Callable[[], Built], given: bool, tmp_path: Path) -> None:
    made, shapes = case()
    path = save(made, tmp_path)
    data = saved(shapes, tmp_path) if given else None
    out = tmp_path / "out.amcc"
    found = api.compile(path, budget="flops=0.5", search="uniform", recover="none", data=data, out=out)
    assert found.summary.certificate.error <= found.summary.certificate.tolerance
    feeds = one(load(path))
    before, after = runtime(path).run(None, feeds), runtime(out / "model.onnx").run(None, feeds)
    assert [a.shape for a in before] == [a.shape for a in after]
    assert [i.shape for i in runtime(path).get_inputs()] == [i.shape for i in runtime(out / "model.onnx").get_inputs()]
    api.verify(path, out)


@each
def test_compiled_with_recovery(case: Callable[[], Built], tmp_path: Path) -> None:
    made, shapes = case()
    path = save(made, tmp_path)
    found = api.compile(path, budget="flops=0.5", episodes=5, threads=1, out=tmp_path / "out.amcc")
    assert found.summary.certificate.error <= found.summary.certificate.tolerance
    data = saved(shapes, tmp_path)
    again = [
        api.compile(path, budget="flops=0.5", search="lagrange", data=data, out=tmp_path / f"{i}.amcc") for i in "ab"
    ]
    first, second = ((tmp_path / f"{i}.amcc" / "model.onnx").read_bytes() for i in "ab")
    searched = again[0].summary.metric.search
    assert first == second and searched is not None and searched.before == 1.0


def graph_of(made: onnx.ModelProto, folder: Path) -> Graph:
    return load(save(made, folder))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"x": ["N", 3], "y": ["M", 2]}, Batching({"x": 0, "y": 0}, symbols=frozenset("NM"))),
        ({"x": ["N", 3], "y": [5, 3]}, Batching({"x": 0}, symbols=frozenset("N"))),
        ({"x": ["N", 3], "y": [1, 3]}, Batching({"x": 0}, one_by_one=True, symbols=frozenset("N"))),
        ({"x": [4, 3], "y": [4], "z": []}, Batching({"x": 0, "y": 0}, size=4)),
        ({"x": [12, "Batch_size", 3], "y": [3]}, Batching({"x": 1}, symbols=frozenset({"Batch_size"}))),
        ({"x": [12, 3], "y": [1, 3]}, Batching({"x": 0, "y": 0}, stacked=True)),
        ({"x": []}, Batching({"x": 0}, stacked=True)),
    ],
)
def test_what_is_batched(shapes: dict[str, list[int | str]], expected: Batching, tmp_path: Path) -> None:
    nodes = [node("Relu", [name], f"{name}_out") for name in shapes]
    found = batching(graph_of(model(nodes, shapes, [f"{name}_out" for name in shapes]), tmp_path))
    assert found == expected


def test_inputs_that_nothing_reads_do_not_decide(tmp_path: Path) -> None:
    shapes = {"x": [2, 3], "idle": [5, 3], "same": [2]}
    found = batching(graph_of(model([node("Relu", ["x"], "y")], shapes, ["y"]), tmp_path))
    assert found == Batching({"x": 0, "same": 0}, size=2)


def test_another_dimension_with_a_symbol_still_needs_a_size(tmp_path: Path) -> None:
    made = model([node("Relu", ["x"], "y")], {"x": [1, "length"]}, ["y"])
    with pytest.raises(ModelError, match="dynamic dimensions beside the batch"):
        load(save(made, tmp_path))


# Data


def stacked(folder: Path) -> Graph:
    return graph_of(picture_beside_a_table()[0], folder)


def test_whole_sets_of_inputs(tmp_path: Path) -> None:
    graph, random = stacked(tmp_path), np.random.default_rng(0)
    pictures = random.standard_normal((6, 1, 3, 32, 32)).astype(np.float32)
    tables = random.standard_normal((6, 5, 16)).astype(np.float32)
    whole = load_data({"x": pictures, "z": tables}, graph)
    short = load_data({"x": pictures[:, 0], "z": tables}, graph)
    for name in "xz":
        np.testing.assert_array_equal(whole.inputs[name], short.inputs[name])
    same = load_data({"x": pictures, "z": tables[0]}, graph, limit=4)
    assert len(same) == 4 and (same.inputs["z"] == tables[0]).all()
    assert len(same.take(np.array([3, 1]))) == 2
    with pytest.raises(DataError, match=r"give \[samples, 5, 16\]"):
        load_data({"x": pictures, "z": tables[:, 0]}, graph)
    with pytest.raises(DataError, match="different numbers of samples"):
        load_data({"x": pictures, "z": tables[:5]}, graph)


def test_one_array_for_all_samples(tmp_path: Path) -> None:
    graph = graph_of(bias_of_no_batch()[0], tmp_path)
    data = load_data(samples({"x": (7, 8), "y": (4,)}), graph, limit=3)
    assert len(data) == 3 and data.inputs["y"].shape == (4,)
    assert data.take(np.array([0])).inputs["y"].shape == (4,)
    with pytest.raises(DataError, match="one array for all samples"):
        load_data(samples({"x": (7, 8), "y": (7, 4)}), graph)
    with pytest.raises(DataError, match="NaN"):
        load_data({"x": np.zeros((3, 8), np.float32), "y": np.full(4, np.nan, np.float32)}, graph)


def test_samples_along_another_axis(tmp_path: Path) -> None:
    graph = graph_of(time_in_front_and_a_free_batch()[0], tmp_path)
    given = samples({"x": (12, 7, 8), "h0": (1, 7, 8)})
    data = load_data(given, graph, limit=5)
    chosen = data.take(np.array([0, 2]))
    assert len(data) == 5 and chosen.inputs["x"].shape == (12, 2, 8) and chosen.inputs["h0"].shape == (1, 2, 8)
    with pytest.raises(DataError, match=r"samples for 'x' have shape \[11, 8\], the model takes \[12, 8\]"):
        load_data(given | {"x": given["x"][1:]}, graph)


@each
def test_made_up_samples_are_independent(case: Callable[[], Built], tmp_path: Path) -> None:
    graph = graph_of(case()[0], tmp_path)
    made, again = synthetic(graph, 5, seed=1), synthetic(graph, 5, seed=1)
    assert len(made) == 5
    for name in graph.inputs:
        np.testing.assert_array_equal(made.inputs[name], again.inputs[name])
    first, second = (made.batching.feeds(made.inputs, i, i + 1) for i in (0, 1))
    assert any(not np.array_equal(first[name], second[name]) for name in graph.inputs)


# Scores


@pytest.mark.parametrize("case", CASES[:-1], ids=lambda case: case.__name__)
def test_scores_see_every_sample_and_every_output(case: Callable[[], Built], tmp_path: Path) -> None:
    """Each row that a metric is given is what ONNX Runtime gives for that sample, run as the file allows."""
    path = save(case()[0], tmp_path)
    graph = load(path)
    made = synthetic(graph, 6, seed=2)
    seen: dict[str, Array] = {}

    def metric(outputs: Mapping[str, Array], _: Array | None) -> float:
        seen.update(outputs)
        return 0.0

    Evaluator(graph, made, metric, threads=1)
    assert set(seen) == set(graph.outputs) and all(len(array) == 6 for array in seen.values())
    size = made.batching.size or 1
    for start in range(0, 6, size):
        chosen = np.minimum(np.arange(start, start + size), 5)
        feeds = made.batching.take(made.inputs, chosen)
        if made.batching.stacked:
            feeds = {name: np.asarray(array[0]) for name, array in feeds.items()}
        session = runtime(path)
        for name, expected in zip(graph.outputs, session.run(None, feeds), strict=True):
            rows = seen[name][start : min(start + size, 6)]
            if expected.size == rows.size:
                axis = next((a for a, d in enumerate(graph.values[name].shape or ()) if isinstance(d, str)), 0)
                expected = np.moveaxis(expected, axis, 0).reshape(rows.shape)
            elif expected.shape[:1] == (size,):
                expected = expected[: len(rows)]
            np.testing.assert_allclose(rows, np.broadcast_to(expected, rows.shape), rtol=1e-4, atol=1e-5)


def test_an_output_that_no_sample_changes_counts(tmp_path: Path) -> None:
    graph = graph_of(beside_a_fixed_number()[0], tmp_path)
    evaluator = Evaluator(graph, synthetic(graph, 4, seed=0), threads=1)
    assert evaluator.original == 1.0
    changed = graph.with_params({"v0": graph.params["v0"] * 2})
    assert evaluator.score(changed) < 0.9


# Inputs that are more than numbers


def crops(offset: float = 0.0) -> onnx.ModelProto:
    """Boxes [index, x, y, x, y]; an offset spoils every made-up index."""
    conv, after = weights([WIDTH, 3, 3, 3], [4, WIDTH, 1, 1])
    nodes = [
        node("Conv", ["x", "conv"], "a", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Gather", ["boxes", "zero"], "i", axis=1),
        node("Add", ["i", "offset"], "j"),
        node("Cast", ["j"], "k", to=TensorProto.INT64),
        node("Gather", ["boxes", "rest"], "corners", axis=1),
        helper.make_node("RoiAlign", ["b", "corners", "k"], ["c"], name="cut", output_height=2, output_width=2),
        node("Conv", ["c", "after"], "y"),
    ]
    params = {
        "conv": conv,
        "after": after,
        "zero": np.array(0),
        "rest": np.arange(1, 5),
        "offset": np.array(offset, np.float32),
    }
    return model(nodes, {"x": [2, 3, 8, 8], "boxes": [2, 5]}, ["y"], params)


@pytest.mark.parametrize("recover", ["none", "full"])
def test_indices_in_a_float_input(recover: str, tmp_path: Path) -> None:
    path = save(crops(), tmp_path)
    for name in "ab":
        found = api.compile(path, budget="flops=0.5", search="uniform", recover=recover, out=tmp_path / name)
        assert found.summary.certificate.error <= found.summary.certificate.tolerance
        assert found.summary.timings.before is not None
        assert any("input 'boxes' holds numbers in [0, 1)" in text for text in found.summary.warnings)
    first, second = ((tmp_path / name / "model.onnx").read_bytes() for name in "ab")
    assert first == second


def test_noise_where_it_runs_and_the_culprit_alone_otherwise(tmp_path: Path) -> None:
    graph = graph_of(crops(), tmp_path)
    session = Session(graph, threads=1)

    def run(data: Dataset) -> Dataset:
        session.run(data.inputs)
        return data

    found = that_runs(graph, 4, run, seed=7)
    assert 0 <= found.inputs["boxes"].min() and found.inputs["boxes"].max() < 1 and found.inputs["x"].min() < 0
    picture = graph_of(beside_a_fixed_number()[0], tmp_path)
    np.testing.assert_array_equal(
        that_runs(picture, 4, lambda data: data, seed=7).inputs["x"], synthetic(picture, 4, seed=7).inputs["x"]
    )


def test_a_network_that_runs_on_real_data_alone(tmp_path: Path) -> None:
    path = save(crops(-7.0), tmp_path)
    with pytest.raises(ModelError, match="give real ones for 'x' and 'boxes' with --data"):
        api.compile(path, budget="flops=0.5", search="uniform", recover="none")
    boxes = np.tile(np.array([7, 1, 1, 6, 6], np.float32), (12, 1))
    boxes[1::2, 0] = 8
    np.savez(tmp_path / "d.npz", x=samples({"x": (12, 3, 8, 8)})["x"], boxes=boxes)
    out, data = tmp_path / "out.amcc", str(tmp_path / "d.npz")
    found = api.compile(path, budget="flops=0.5", search="uniform", recover="none", data=data, out=out)
    assert found.summary.certificate.error <= found.summary.certificate.tolerance
    assert api.verify(path, out, data=data).certificate.passed
    with pytest.raises(ModelError, match="made-up inputs"):
        api.verify(path, out)
