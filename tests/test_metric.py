"""Scores against numbers worked out by hand, and metrics that misbehave."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amcc import api
from amcc.data import Dataset
from amcc.errors import DataError, UsageError
from amcc.fidelity import Fidelity
from amcc.ir import Array, Graph
from amcc.metric import Evaluator, Top1
from tests import tiny_models
from tests.onnx_models import model, node, save

GRAPH = tiny_models.graph()


def dataset(labels: Array | None = None, count: int = 10) -> Dataset:
    inputs = np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32)
    return Dataset({"input": inputs}, labels, "made", "0" * 64)


class Fixed:
    """Answers every batch from a table of outputs, in order."""

    def __init__(self, **outputs: Array) -> None:
        self._outputs = outputs
        self._at = 0

    def __call__(self, graph: Graph) -> Fixed:
        return Fixed(**self._outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        start, self._at = self._at, self._at + len(feeds["input"])
        return {name: array[start : self._at] for name, array in self._outputs.items()}


def test_top1_in_onnx_runtime() -> None:
    """The evaluator against a session of its own, over several batches."""
    samples = tiny_models.samples(150)
    wrong = samples["label"].copy()
    wrong[:30] = (wrong[:30] + 1) % tiny_models.CLASSES
    data = Dataset({"input": samples["input"]}, wrong, "made", "0" * 64)
    evaluator = Evaluator(GRAPH, data, threads=1)
    assert evaluator.name == "top1" and evaluator.original == pytest.approx(120 / 150)

    other = tiny_models.onnx_model(seed=5)
    session = onnxruntime.InferenceSession(other.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = (session.run(None, {"input": samples["input"]})[0].argmax(1) == wrong).mean()
    assert evaluator.score(GRAPH.with_params(tiny_models.weights(5))) == pytest.approx(expected)


def test_a_fixed_batch_is_run_in_parts() -> None:
    samples = tiny_models.samples(11)
    data = Dataset({"input": samples["input"]}, samples["label"], "made", "0" * 64)
    assert Evaluator(tiny_models.graph(batch=4), data, threads=1).original == 1.0


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1, 1), (6, 1, 1, 4)])
def test_top1_takes_every_spelling_of_a_class_axis(shape: tuple[int, ...]) -> None:
    logits = np.eye(4)[[0, 1, 2, 3, 0, 1]].reshape(shape)
    assert Top1(np.array([0, 1, 2, 3, 1, 0]))({"logits": logits}) == pytest.approx(4 / 6)


def test_fidelity_is_one_for_the_original_and_is_as_defined() -> None:
    random = np.random.default_rng(0)
    reference = random.standard_normal((50, 4)) + 3
    shifted = reference + 0.5 * random.standard_normal(reference.shape)
    fidelity = Fidelity({"y": reference})
    assert fidelity({"y": reference}) == 1.0
    error = ((shifted - reference) ** 2).mean() / ((reference - reference.mean(0)) ** 2).mean()
    assert fidelity({"y": shifted}) == pytest.approx(1 / (1 + error))


@given(st.integers(0, 99), st.floats(0, 10))
def test_fidelity_falls_as_the_error_grows(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    reference, noise = random.standard_normal((20, 3)), random.standard_normal((20, 3))
    fidelity = Fidelity({"y": reference})
    near, far = fidelity({"y": reference + scale * noise}), fidelity({"y": reference + (scale + 1) * noise})
    assert 0 < far < near <= 1


def test_fidelity_of_integers_nan_and_constants() -> None:
    classes = np.array([1, 2, 3, 4])
    assert Fidelity({"c": classes})({"c": np.array([1, 2, 0, 0])}) == pytest.approx(1 / 1.5)
    assert Fidelity({"y": np.ones((3, 2))})({"y": np.full((3, 2), np.nan)}) == 0.0
    assert Fidelity({"y": np.ones((3, 2))})({"y": np.full((3, 2), 2.0)}) == pytest.approx(0.5)


def test_without_labels_the_metric_is_fidelity() -> None:
    evaluator = Evaluator(GRAPH, dataset(), threads=1)
    assert evaluator.name == "fidelity" and evaluator.original == 1.0
    assert 0 < evaluator.score(GRAPH.with_params(tiny_models.weights(5))) < 1


def test_outputs_without_a_row_a_sample_come_from_runs_of_one() -> None:
    class Scalar(Fixed):
        def __call__(self, graph: Graph) -> Scalar:
            return Scalar()

        def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
            return {"loss": next(iter(feeds.values())).sum()}

    found = Evaluator(GRAPH, dataset(), runner=Scalar()).outputs(GRAPH)["loss"]
    assert found.dtype == object and len(found) == 10


@pytest.mark.parametrize(
    ("labels", "metric", "message"),
    [
        (None, "top1", "needs labels"),
        (np.full(10, 4), None, "4 classes"),
        (np.zeros(10), None, "integers"),
    ],
)
def test_labels_that_do_not_fit(labels: Array | None, metric: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Evaluator(GRAPH, dataset(labels), metric, threads=1)


USER = """
def mean(outputs, labels): return outputs["logits"].mean()
def broken(outputs, labels): return outputs["absent"]
def nan(outputs, labels): return float("nan")
def text(outputs, labels): return "good"
def array(outputs, labels): return outputs["logits"]
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "amcc_user_metric.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "amcc_user_metric", raising=False)
    return "amcc_user_metric"


def test_metrics_of_the_users(user: str) -> None:
    outputs = np.random.default_rng(0).standard_normal((10, 4))
    evaluator = Evaluator(GRAPH, dataset(), f"{user}:mean", runner=Fixed(logits=outputs))
    assert evaluator.original == pytest.approx(outputs.mean()) and evaluator.name == f"{user}:mean"


@pytest.mark.parametrize(
    ("function", "message"),
    [("broken", "raised KeyError"), ("nan", "gave nan"), ("text", "gave str"), ("array", "gave ndarray")],
)
def test_metrics_of_the_users_that_fail(user: str, function: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Evaluator(GRAPH, dataset(), f"{user}:{function}", runner=Fixed(logits=np.ones((10, 4))))


def test_unknown_metric() -> None:
    with pytest.raises(UsageError, match="no metric is called 'f1'"):
        Evaluator(GRAPH, dataset(), "f1", threads=1)


def test_fidelity_of_outputs_whose_shapes_depend_on_the_data() -> None:
    reference = np.empty(2, object)
    reference[:] = [np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])]
    fidelity = Fidelity({"boxes": reference})
    assert fidelity({"boxes": reference}) == 1.0
    shorter = reference.copy()
    shorter[0] = reference[0][:1]
    assert fidelity.errors({"boxes": shorter}).tolist() == [0.5, 0.0]
    shorter[0] = reference[0][:0]
    assert fidelity.errors({"boxes": shorter}).tolist() == [1.0, 0.0]
    joined = np.stack([reference[0], reference[0]])
    assert Fidelity({"y": joined}).errors({"y": joined[:, :1]}).tolist() == [0.5, 0.5]


def test_outputs_as_long_as_the_data_say(tmp_path: Path) -> None:
    """The rows above zero: how many there are differs from sample to sample and between the networks."""
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((6, 8)), "b": rng.standard_normal((8, 1))}
    nodes = [
        node("MatMul", ["x", "a"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "b"], ["score"]),
        node("Squeeze", ["score", "last"], ["flat"]),
        node("Greater", ["flat", "zero"], ["above"]),
        node("Compress", ["x", "above"], ["y"], axis=0),
    ]
    constants = {n: w.astype(np.float32) for n, w in weights.items()} | {"last": np.array([0, 2])}
    constants["zero"] = np.zeros((), np.float32)
    path = save(model(nodes, {"x": [1, 5, 6]}, {"y": [None, 6]}, constants), tmp_path)
    result = api.compile(path, budget="flops=0.5", search="uniform", recover="none")
    assert 0 < result.summary.metric.report.after < result.summary.metric.report.before == 1.0
