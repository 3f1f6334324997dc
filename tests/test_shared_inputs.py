"""Networks whose inputs have no batch axis in common, from file to certified result, with ONNX Runtime as oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def two_symbols() -> Built:
    nodes, params = perceptron("x", "h", "w")
    more, more_params = perceptron("y", "g", "v")
    nodes += more
    shapes = {"x": ["batch", 8], "y": ["tokens", 8]}
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
    np.savez(tmp_path / "d.npz", **samples(shapes))
    data = str(tmp_path / "d.npz") if given else None
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
    found = api.compile(path, budget="flops=0.5", episodes=12, out=tmp_path / "out.amcc")
    assert found.summary.certificate.error <= found.summary.certificate.tolerance
    np.savez(tmp_path / "d.npz", **samples(shapes))
    data = str(tmp_path / "d.npz")
    again = [
        api.compile(path, budget="flops=0.5", search="lagrange", data=data, out=tmp_path / f"{i}.amcc") for i in "ab"
    ]
    first, second = ((tmp_path / f"{i}.amcc" / "model.onnx").read_bytes() for i in "ab")
    assert first == second and again[0].summary.metric.search.before == 1.0
