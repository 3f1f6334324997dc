"""Several budgets from one search: folders, bytes, kills and errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

import amcc
from amcc.cli import app
from amcc.errors import BudgetError, Interrupted, OutputError, UsageError
from amcc.front import Front
from amcc.jsontext import dumps
from amcc.pareto import Pareto
from amcc.schema import schema
from amcc.summary import Summary
from tests import tiny_models
from tests.stops import Killed, StopAt

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
NAMES = ("flops-0.3", "flops-0.5", "flops-0.7")
ALL: dict[str, Any] = {
    "budgets": "0.5,0.3,0.7",
    "data": DIGITS / "val.npz",
    "calib": DIGITS / "calib.npz",
    "episodes": 15,
    "calib_samples": 48,
    "eval_samples": 64,
    "threads": 1,
    "seed": 3,
}
TINY: dict[str, Any] = {"budgets": [0.4, 0.6], "episodes": 18, "recover": "none", "threads": 1}
TIMED = {"summary.json", "report.html", "pareto.html"}


def contents(folder: Path) -> dict[str, object]:
    """All that two runs must share."""
    files: dict[str, object] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in TIMED
    }
    for path in folder.rglob("summary.json"):
        files[path.parent.name] = Summary.read(path).model_dump(exclude={"timings"})
    return files


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pareto") / "front"


@pytest.fixture(scope="module")
def digits(out: Path) -> Pareto:
    return amcc.pareto(DIGITS / "model.onnx", out=out, **ALL)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "model.onnx")


def test_folders_and_front(digits: Pareto, out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {*NAMES, "journal.jsonl", "pareto.json", "pareto.html"}
    assert not out.with_name("front.journal.jsonl").exists()
    assert [result.folder for result in digits.results] == [out / name for name in NAMES]
    assert Front.read(out) == digits.front
    jsonschema.validate(digits.front.model_dump(mode="json"), schema("pareto"))
    assert (out / "pareto.json").read_text() == dumps(digits.front)
    assert (out / "journal.jsonl").read_text().count("\n") == 1 + 15 + 2


def test_points_meet_their_budgets_and_never_score_below_a_tighter_one(digits: Pareto, out: Path) -> None:
    points = digits.front.points
    assert [point.folder for point in points] == list(NAMES)
    assert [point.limit for point in points] == [digits.front.original.macs * tenths // 10 for tenths in (3, 5, 7)]
    for point, result in zip(points, digits.results, strict=True):
        summary = Summary.read(out / point.folder)
        assert summary == result.summary
        assert summary.totals.macs.after == point.reached == point.cost.macs <= point.limit
        assert summary.finalists[0].score == point.score and summary.finalists[0].samples == point.samples
        assert sum(line.evaluations for line in summary.policies) in (5, 6, 7)
        assert point.uniform is not None and point.uniform <= point.searched
    assert all(one.score <= other.score and one.searched <= other.searched for one, other in pairwise(points))
    seconds = [result.summary.timings.seconds for result in digits.results]
    assert len({times["search"] for times in seconds}) == 1


def test_folders_are_whole(digits: Pareto, out: Path) -> None:
    with np.load(DIGITS / "val.npz") as data:
        inputs, labels = data["input"], data["label"]
    for name, result in zip(NAMES, digits.results, strict=True):
        assert any("certificate repeated" in text for text in amcc.verify(DIGITS / "model.onnx", out / name).checks)
        session = onnxruntime.InferenceSession(out / name / "model.onnx", providers=["CPUExecutionProvider"])
        top1 = float((session.run(None, {"input": inputs})[0].argmax(1) == labels).mean())
        measured = result.summary.metric.report
        assert measured is not None and abs(top1 - measured.after) < 0.1 and top1 > 0.5
        assert (out / name / "model.py").is_file() and (out / name / "report.html").is_file()


def test_page(digits: Pareto, out: Path) -> None:
    page = (out / "pareto.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 4  # three plots, the legend
    for part in ("original", "uniform", "Latency", 'href="flops-0.3/report.html"', "flops=0.7"):
        assert part in page
    assert "http" not in page and "<script" not in page and "nan" not in page
    assert page.count('r="6"') == 4 - 1  # the original, in each plot


@pytest.mark.slow
def test_same_seed_same_bytes_with_recovery_and_after_a_kill(digits: Pareto, out: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        amcc.pareto(DIGITS / "model.onnx", out=tmp_path / "again", observer=StopAt(9, Killed), **ALL)
    amcc.pareto(DIGITS / "model.onnx", out=tmp_path / "again", **ALL)
    assert contents(tmp_path / "again") == contents(out)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_same_seed_same_bytes_even_after_kills(model: Path, tmp_path: Path) -> None:
    amcc.pareto(model, out=tmp_path / "whole", **TINY)
    for episode, error, seen in ((1, Killed, Killed), (13, KeyboardInterrupt, Interrupted), (20, Killed, Killed)):
        with pytest.raises(seen):
            amcc.pareto(model, out=tmp_path / "parts", observer=StopAt(episode, error), **TINY)
        assert not (tmp_path / "parts").exists()
        assert (tmp_path / "parts.journal.jsonl").read_text().count("\n") == 1 + episode
    amcc.pareto(model, out=tmp_path / "parts", **TINY)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "parts", "whole"}


def test_pure_slices_without_data(model: Path, tmp_path: Path) -> None:
    found = amcc.pareto(model, out=tmp_path / "o", **TINY)
    scores = [point.search.after for point in found.front.points if point.search is not None]
    assert len(scores) == 2 and scores == sorted(scores)
    assert scores == [point.score for point in found.front.points] == [point.searched for point in found.front.points]
    assert all("synthetic" in result.summary.warnings[0] for result in found.results)
    again = amcc.pareto(model, **TINY)
    assert again.folder is None and again.front == found.front


def test_other_resources_and_one_rule(model: Path) -> None:
    found = amcc.pareto(model, **{**TINY, "budgets": "3kB, 60%"}, resource="size", search="uniform")
    assert [point.folder for point in found.front.points] == ["size-3kB", "size-60%"]
    assert found.front.points[0].cost.bytes <= 3000 == found.front.points[0].limit
    assert found.front.evaluations == 2


def test_ctrl_c_ships_what_was_found(model: Path, tmp_path: Path) -> None:
    found = amcc.pareto(model, out=tmp_path / "o", ship_on_interrupt=True, observer=StopAt(1), **TINY)
    assert found.front.evaluations == 1
    assert found.front.points[0].cost == found.front.points[1].cost
    assert "stopped after 1 of 21 episodes" in " ".join(found.results[1].summary.warnings)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"budgets": "0.01,0.02,0.5"}, BudgetError, r"flops=0.01, flops=0.02: .* smallest reachable is flops=\d+"),
        ({"budgets": "0.5,50%"}, UsageError, "flops=0.5 and flops=50% are the same"),
        ({"budgets": ""}, UsageError, "no budgets"),
        ({"budgets": "0.5,1.5"}, UsageError, "above 1"),
        ({"budgets": "0.5,,0.7"}, UsageError, "not a positive number"),
        ({"resource": "energy"}, UsageError, "--resource"),
        ({"search": "ddpg"}, UsageError, "one budget only"),
        ({"episodes": 0}, UsageError, "--episodes"),
    ],
)
def test_errors(model: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        amcc.pareto(model, out=tmp_path / "o", **{**TINY, **options})
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_folder_in_the_way(model: Path, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine").touch()
    with pytest.raises(OutputError, match="already there"):
        amcc.pareto(model, out=tmp_path / "o", **TINY)
    with pytest.raises(OutputError, match="not written by amcc"):
        amcc.pareto(model, out=tmp_path / "o", force=True, **TINY)
    (tmp_path / "o" / "mine").unlink()
    for _ in range(2):
        amcc.pareto(model, out=tmp_path / "o", force=True, **{**TINY, "search": "uniform"})
    assert len(Front.read(tmp_path / "o").points) == 2


def cli(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["pareto", *arguments])
    assert result.exit_code == code, result.output
    return result


OPTIONS = ("--search", "uniform", "--recover", "none", "--threads", "1")


def test_command(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = cli("model.onnx", "--budgets", "0.4,0.6", *OPTIONS).stdout
    for part in ("original", "flops=0.4", "flops=0.6", "fidelity", "uniform", "model.pareto", "synthetic"):
        assert part in text
    printed = cli("model.onnx", "--budgets", "0.4", "--budgets", "0.6", *OPTIONS, "--force", "--json", "-q")
    assert printed.stderr == "" and printed.stdout == (tmp_path / "model.pareto" / "pareto.json").read_text()
    refused = cli("model.onnx", "--budgets", "0.001,0.5", *OPTIONS, "-o", "other", code=3).stderr
    assert "flops=0.001: " in refused and "flops=0.5" not in refused


@pytest.mark.slow
def test_a_killed_process_goes_on(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "amcc", "pareto", "model.onnx", "--budgets", "0.4,0.6", "--recover", "none"]
    command += ["--episodes", "30", "--threads", "1", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def process(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, "-o", out], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    assert process("whole").wait() == 0
    journal = tmp_path / "parts.journal.jsonl"
    for lines in (7, 20):
        with process("parts") as running:
            while running.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") > lines):
                time.sleep(0.001)
            running.send_signal(signal.SIGKILL)
    assert process("parts").wait() == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
