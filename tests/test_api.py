"""The whole chain from Python, on a network small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import amcc
from amcc.errors import Interrupted, OutputError, UsageError
from amcc.ir import Array
from amcc.plan import Plan
from amcc.summary import Summary
from tests import tiny_models
from tests.stops import Killed, StopAt

FAST: dict[str, Any] = {"search": "uniform", "recover": "none", "threads": 1}
SEARCH: dict[str, Any] = {"search": "ddpg", "episodes": 24, "recover": "none", "threads": 1, "seed": 3}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def data() -> dict[str, Array]:
    return tiny_models.samples(90)


def run(model: Path | onnx.ModelProto, inputs: Array) -> Array:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    result: Array = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(
        None, {"input": inputs}
    )[0]
    return result


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in ("summary.json", "report.html")}


def without_timings(folder: Path) -> dict[str, Any]:
    return Summary.read(folder).model_dump(exclude={"timings"})


def test_compile(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    result = amcc.compile(model, budget="flops=0.5", data=data, out=tmp_path / "o.amcc", **FAST)
    summary = result.summary
    line = summary.budget[0]
    assert line.reached <= line.limit == line.original // 2 and line.reached == summary.totals.macs.after
    assert summary.certificate.passed and summary.certificate.error < 1e-5
    assert summary.metric.name == "top1"
    assert summary.metric.search is not None and summary.metric.search.before == 1.0
    assert summary.metric.report is not None and summary.metric.report.source.startswith("report part (30 of 90")

    x = data["input"]
    shipped = tmp_path / "o.amcc" / "model.onnx"
    onnx.checker.check_model(str(shipped), full_check=True)
    np.testing.assert_allclose(run(shipped, x), run(result.onnx(), x), atol=1e-5)
    assert shipped.stat().st_size < 0.7 * model.stat().st_size
    assert Plan.read(tmp_path / "o.amcc") == result.plan
    assert Summary.read(tmp_path / "o.amcc") == summary
    assert str(summary).startswith("model.onnx: flops=0.5") and "report split" in str(summary)


def test_macs_of_the_result_counted_by_hand(model: Path, data: dict[str, Array]) -> None:
    result = amcc.compile(model, budget="flops=0.5", data=data, **FAST)
    shapes = {name: array.shape for name, array in result.graph.params.items()}
    macs = sum(64 * int(np.prod(shapes[f"conv{i}.weight"])) for i in (1, 2, 3)) + int(np.prod(shapes["fc.weight"]))
    assert result.summary.totals.macs.after == macs
    assert result.folder is None


def test_pure_slices_are_slices(model: Path, data: dict[str, Array]) -> None:
    result = amcc.compile(model, budget="params=0.4", data=data, **FAST)
    weights = tiny_models.weights()
    plan = {group.name: group for group in result.plan.groups}["conv2.weight"]
    kept = [i for i in range(plan.size) if i not in plan.removed]
    outer = {group.name: group for group in result.plan.groups}["conv1.weight"]
    inputs = [i for i in range(outer.size) if i not in outer.removed]
    np.testing.assert_array_equal(result.graph.params["conv2.weight"], weights["conv2.weight"][kept][:, inputs])


def test_several_budgets_at_once(model: Path, data: dict[str, Array]) -> None:
    result = amcc.compile(model, budget=["flops=0.6", "params=800"], data=data, **FAST)
    lines = {line.resource: line for line in result.summary.budget}
    assert lines["params"].limit == 800
    assert all(line.reached <= line.limit for line in lines.values())


def test_the_same_bytes_every_time(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    for name in ("a", "b"):
        amcc.compile(model, budget="flops=0.5", data=data, out=tmp_path / name, **SEARCH)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert {"model.onnx", "plan.json", "journal.jsonl"} <= set(contents(tmp_path / "a"))
    assert without_timings(tmp_path / "a") == without_timings(tmp_path / "b")


@pytest.mark.parametrize("episode", [1, 7, 20, 24])
@pytest.mark.parametrize("error", [Killed, KeyboardInterrupt])
def test_a_search_goes_on_where_it_was(
    model: Path, data: dict[str, Array], tmp_path: Path, episode: int, error: type[BaseException]
) -> None:
    amcc.compile(model, budget="flops=0.5", data=data, out=tmp_path / "whole", **SEARCH)
    parts: dict[str, Any] = {"budget": "flops=0.5", "data": data, "out": tmp_path / "parts", **SEARCH}
    with pytest.raises(Killed if error is Killed else Interrupted):
        amcc.compile(model, observer=StopAt(episode, error), **parts)
    journal = tmp_path / "parts.journal.jsonl"
    assert not (tmp_path / "parts").exists() and journal.read_text().count("\n") == episode + 1
    journal.write_bytes(journal.read_bytes()[:-5])
    amcc.compile(model, **parts)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole") and not journal.exists()


def test_ship_on_interrupt(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    result = amcc.compile(
        model,
        budget="flops=0.5",
        data=data,
        out=tmp_path / "o",
        ship_on_interrupt=True,
        observer=StopAt(5),
        **SEARCH,
    )
    assert sum(line.evaluations for line in result.summary.policies) == 5
    assert any("stopped after 5 of 24 episodes" in warning for warning in result.summary.warnings)
    assert (tmp_path / "o" / "model.onnx").is_file()


def test_another_search_needs_a_fresh_journal(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": data, "out": tmp_path / "o", **SEARCH}
    with pytest.raises(Interrupted):
        amcc.compile(model, budget="flops=0.5", observer=StopAt(3), **options)
    with pytest.raises(UsageError, match="another search"):
        amcc.compile(model, budget="flops=0.6", **options)
    amcc.compile(model, budget="flops=0.6", fresh=True, **options)


def test_without_data_inputs_are_made_up(model: Path) -> None:
    summary = amcc.compile(model, budget="flops=0.5", **FAST).summary
    assert summary.metric.name == "fidelity"
    assert summary.metric.report is not None and summary.metric.report.before == 1.0 > summary.metric.report.after
    assert any("synthetic" in warning for warning in summary.warnings)


def test_calibration_inputs_alone_are_data_without_labels(model: Path, data: dict[str, Array]) -> None:
    summary = amcc.compile(model, budget="flops=0.5", calib={"input": data["input"]}, **FAST).summary
    assert summary.metric.name == "fidelity" and any("--calib" in warning for warning in summary.warnings)


def test_a_report_set_of_its_own(model: Path, data: dict[str, Array]) -> None:
    half = {name: array[:40] for name, array in data.items()}
    other = {name: array[40:] for name, array in data.items()}
    summary = amcc.compile(model, budget="flops=0.5", data=half, calib=half, report_data=other, **FAST).summary
    assert summary.metric.search is not None and summary.metric.search.samples == 40
    assert summary.metric.report is not None and summary.metric.report.samples == 50


def test_locks_rounding_and_least_widths(model: Path, data: dict[str, Array]) -> None:
    found = amcc.compile(model, budget="flops=0.6", data=data, lock=["conv1.weight"], **FAST).plan
    assert [group.name for group in found.groups] == ["conv2.weight"]
    found = amcc.compile(model, budget="flops=0.6", data=data, round=4, **FAST).plan
    assert all(group.kept in (4, 8) for group in found.groups)
    with pytest.raises(amcc.errors.BudgetError, match="smallest reachable"):
        amcc.compile(model, budget="flops=0.5", data=data, min_keep=0.9, **FAST)
    found = amcc.compile(model, budget="flops=0.5", data=data, min_keep=5, **FAST).plan
    assert all(group.kept >= 5 for group in found.groups)


def test_plan_apply_and_verify(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    whole = amcc.compile(model, budget="flops=0.5", data=data, out=tmp_path / "whole", **FAST)
    plan = amcc.plan(model, budget="flops=0.5", data=data, out=tmp_path / "plan.json", **FAST)
    assert plan == whole.plan == Plan.read(tmp_path / "plan.json")
    with pytest.raises(OutputError, match="already there"):
        amcc.plan(model, budget="flops=0.5", data=data, out=tmp_path / "plan.json", **FAST)

    applied = amcc.apply(tmp_path / "plan.json", model, out=tmp_path / "applied", threads=1)
    assert (tmp_path / "applied" / "model.onnx").read_bytes() == (tmp_path / "whole" / "model.onnx").read_bytes()
    assert applied.summary.recover == "none" and applied.summary.budget == whole.summary.budget

    retrained = tiny_models.save(tmp_path / "retrained.onnx", seed=9)
    other = amcc.apply(plan, retrained, threads=1)
    assert other.graph.params["conv2.weight"].shape == whole.graph.params["conv2.weight"].shape

    checks = amcc.verify(model, tmp_path / "whole").checks
    assert any("certificate repeated" in check for check in checks)


def test_inspect_and_bench(model: Path) -> None:
    found = amcc.inspect(model)
    assert found.totals.macs == 64 * (8 * 27 + 2 * 8 * 72) + 32
    assert found.totals.params == sum(array.size for array in tiny_models.weights().values())
    assert {group.name: group.size for group in found.groups} == {"conv1.weight": 8, "conv2.weight": 8}
    assert {lock.value for lock in found.ledger} == {"input", "logits"}
    timings = amcc.bench([model], runs=3, threads=1)
    assert timings[0].runs == 3 and 0 < timings[0].fastest <= timings[0].median


def test_metric_of_the_users(model: Path, data: dict[str, Array]) -> None:
    def negative_distance(outputs: dict[str, Array], labels: Array | None) -> float:
        return -float(np.square(outputs["logits"]).mean())

    summary = amcc.compile(model, budget="flops=0.5", data=data, metric=negative_distance, **FAST).summary
    assert summary.metric.name == "negative_distance"
    assert summary.metric.search is not None and summary.metric.search.before < 0


def test_recovery_brings_outputs_back(model: Path, data: dict[str, Array]) -> None:
    inputs = {"input": data["input"]}
    options: dict[str, Any] = {"budget": "flops=0.6", "data": inputs, "metric": "fidelity", "threads": 1}
    repaired = amcc.compile(model, search="lagrange", **options).summary
    pure = amcc.compile(model, search="uniform", recover="none", **options).summary
    assert repaired.recover == "full" and repaired.calibration is not None
    assert repaired.metric.report is not None and pure.metric.report is not None
    assert repaired.metric.report.after > pure.metric.report.after + 0.1
    assert repaired.metric.search is not None and repaired.metric.search.pure is not None
    assert repaired.metric.search.after > repaired.metric.search.pure


def test_the_same_bytes_with_recovery_and_after_a_stop(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    options: dict[str, Any] = {"budget": "flops=0.5", "data": data, **SEARCH, "recover": "full", "episodes": 12}
    amcc.compile(model, out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        amcc.compile(model, out=tmp_path / "parts", observer=StopAt(8), **options)
    amcc.compile(model, out=tmp_path / "parts", **options)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
    assert amcc.verify(model, tmp_path / "parts").certificate.passed
