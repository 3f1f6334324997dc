"""Budgets of latency from end to end, on made-up devices that say the same whenever they are asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import amcc
from amcc import Measuring
from amcc.bench import Timing
from amcc.budget import Budget
from amcc.deadline import beside
from amcc.errors import BudgetError, Interrupted, UsageError
from amcc.ir import Shape
from tests import devices
from tests.stops import StopAt

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
QUICK: dict[str, Any] = {"search": "lagrange", "recover": "none", "emit": "onnx", "data": DIGITS / "val.npz"}


def compiled(budget: str | list[str], device: Callable[[str], float], **how: Any) -> amcc.api.Result:  # type: ignore[name-defined]
    return amcc.compile(DIGITS / "model.onnx", budget=budget, measuring=Measuring(hook=device), **{**QUICK, **how})


@pytest.mark.parametrize("device", [devices.smooth, devices.treads_of_8])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_what_ships_takes_what_was_asked(device: Callable[[str], float], share: float, tmp_path: Path) -> None:
    result = compiled(f"latency={share}", device, out=tmp_path / "out")
    whole, shipped = device(str(DIGITS / "model.onnx")), device(str(tmp_path / "out" / "model.onnx"))
    assert 0.97 * share <= shipped / whole <= share
    [line] = result.summary.budget
    assert line.resource == "latency" and line.reached <= line.limit
    assert line.original == pytest.approx(1e6 * whole, abs=1) and line.reached == pytest.approx(1e6 * shipped, abs=1)
    timings = result.summary.timings
    assert timings.before is not None and timings.after is not None
    assert (timings.before.low, timings.after.low) == pytest.approx((whole, shipped))
    assert timings.device == f"tests.devices:{device.__name__}"
    assert "latency" in result.summary.inputs
    if device is devices.treads_of_8:
        assert all(group.kept % 8 == 0 for group in result.summary.groups)


def test_an_absolute_latency_with_other_limits() -> None:
    whole = devices.smooth(str(DIGITS / "model.onnx"))
    result = compiled([f"latency={0.6 * whole * 1000:.3f}us", "params=0.4", "memory=0.7"], devices.smooth)
    lines = {line.resource: line for line in result.summary.budget}
    assert list(lines) == ["params", "memory", "latency"]
    assert all(line.reached <= line.limit for line in lines.values())
    assert max(line.reached / line.limit for line in lines.values()) > 0.97


def test_multiples_that_were_asked_for_stand() -> None:
    result = compiled("latency=0.6", devices.treads_of_8, round=6)
    assert all(group.kept % 6 == 0 or group.kept == group.size for group in result.summary.groups)
    assert any(group.kept < group.size for group in result.summary.groups)


def test_the_same_cache_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMCC_CACHE", str(tmp_path / "cache"))
    how = {"search": "refine", "episodes": 12}
    first = compiled("latency=0.5", devices.smooth, out=tmp_path / "first", **how)
    calls: list[str] = []

    def smooth(path: str) -> float:
        calls.append(path)
        return devices.smooth(path)

    smooth.__module__, smooth.__qualname__ = "tests.devices", "smooth"
    second = compiled("latency=0.5", smooth, out=tmp_path / "second", **how)
    assert first.summary.files == second.summary.files
    assert len(calls) == 2, "only what ships is measured again, beside the original"


def test_a_search_that_was_stopped_goes_on_by_the_same_table(tmp_path: Path) -> None:
    how: dict[str, Any] = {"search": "refine", "episodes": 16}
    whole = compiled("latency=0.5", devices.smooth, out=tmp_path / "whole", **how)
    with pytest.raises(Interrupted):
        compiled("latency=0.5", devices.smooth, out=tmp_path / "stopped", observer=StopAt(9), **how)
    assert (tmp_path / "stopped.journal.jsonl").is_file()
    again = compiled("latency=0.5", devices.smooth, out=tmp_path / "stopped", **how)
    assert again.summary.files == whole.summary.files


def test_out_of_reach_says_what_was_measured() -> None:
    with pytest.raises(
        BudgetError, match=r"latency=\S+ms is out of reach: the smallest network takes .* of the original"
    ):
        compiled("latency=0.001", devices.smooth)
    with pytest.raises(BudgetError, match=r"the smallest network takes 1 ms .*1.0000 of the original"):
        compiled("latency=0.9", devices.constant)


def test_the_least_latency_under_a_guarantee(tmp_path: Path) -> None:
    result = amcc.compile(
        DIGITS / "model.onnx",
        min_metric=0.5,
        minimise="latency",
        episodes=8,
        search="uniform",
        data=DIGITS / "val.npz",
        calib=DIGITS / "calib.npz",
        report_data=DIGITS / "val.npz",
        recover="none",
        emit="onnx",
        measuring=Measuring(hook=devices.smooth),
        out=tmp_path / "out",
    )
    assert result.summary.guarantee is not None and result.summary.guarantee.minimised == "latency"
    [line] = result.summary.budget
    assert line.reached == line.limit < line.original
    assert Budget.parse(line.asked)
    shipped = devices.smooth(str(tmp_path / "out" / "model.onnx"))
    assert line.reached == pytest.approx(1e6 * shipped, abs=1)
    applied = amcc.apply(tmp_path / "out", DIGITS / "model.onnx", emit="onnx")
    assert applied.summary.budget == (), "a plan that is put on a network is not held to anybody's clock"


def test_a_front_of_latencies(tmp_path: Path) -> None:
    found = amcc.pareto(
        DIGITS / "model.onnx",
        budgets="0.5,0.8",
        resource="latency",
        search="lagrange",
        recover="none",
        emit="onnx",
        data=DIGITS / "val.npz",
        measuring=Measuring(hook=devices.treads_of_8),
        out=tmp_path / "out",
    )
    whole = devices.treads_of_8(str(DIGITS / "model.onnx"))
    for point, share in zip(found.front.points, (0.5, 0.8), strict=True):
        shipped = devices.treads_of_8(str(tmp_path / "out" / point.folder / "model.onnx"))
        assert 0.95 * share <= shipped / whole <= share
        assert point.reached == pytest.approx(1e6 * shipped, abs=1)


class Clocked:
    """A device that answers from a list."""

    def __init__(self, *ratios: float, local: bool = True) -> None:
        self.left = list(ratios)

    def __str__(self) -> str:
        return "made up"

    def compare(self, models: Mapping[str, Path], shapes: Mapping[str, Shape]) -> list[Timing]:
        ratio = self.left.pop(0)
        return [Timing(name, ms, 0.0, ms, ms, 1) for name, ms in (("before", 2.0), ("after", 2.0 * ratio))]


def shipped(monkeypatch: pytest.MonkeyPatch, ratios: Sequence[float], asked: str | None) -> float:
    monkeypatch.setattr("amcc.deadline.Local", Clocked)
    latency: Any = type("L", (), {"device": Clocked(*ratios)})()
    files = {"before": Path("a"), "after": Path("b")}
    before, after = beside(latency, files, {}, None if asked is None else Budget.parse(asked))
    assert not latency.device.left, "every process was needed"
    return after.low / before.low


def test_the_last_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped(monkeypatch, [0.495], "latency=0.5") == pytest.approx(0.495)
    assert shipped(monkeypatch, [0.45, 0.49, 0.55], "latency=0.5") == pytest.approx(0.49)
    assert shipped(monkeypatch, [0.505], "latency=1ms") == pytest.approx(0.505)
    assert shipped(monkeypatch, [0.9], None) == pytest.approx(0.9)
    with pytest.raises(
        BudgetError, match=r"latency=0.5 was missed: the result takes 1.1 ms, 0.5500 of the original"
    ) as missed:
        shipped(monkeypatch, [0.53, 0.55, 0.6], "latency=0.5")
    assert missed.value.exit_code == 3
    with pytest.raises(BudgetError, match="is not faster than the original"):
        shipped(monkeypatch, [1.0], None)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "amcc", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.parametrize(
    ("hook", "code", "says"),
    [
        ("tests.devices:broken", 2, "raised ConnectionError: the phone is gone"),
        ("tests.devices:constant", 3, "the smallest network takes 1 ms"),
        ("tests.devices:nothing", 2, "has no 'nothing'"),
    ],
)
def test_errors_on_the_command_line(hook: str, code: int, says: str, tmp_path: Path) -> None:
    budget = ["--budget", "latency=0.5", "--search", "uniform", "--recover", "none"]
    done = command("plan", DIGITS / "model.onnx", *budget, "--latency-hook", hook, "-o", tmp_path / "plan.json")
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_latency_without_a_unit_or_a_provider_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="a latency needs a unit"):
        compiled("latency=3", devices.smooth)
    with pytest.raises(UsageError, match="--latency-provider"):
        amcc.compile(DIGITS / "model.onnx", budget="latency=0.5", measuring=Measuring(provider="No"), **QUICK)
