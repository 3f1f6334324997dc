"""A compilation with workers: the bytes of one without, whatever the metric; Ctrl-C; kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import amcc
from amcc.errors import DataError, UsageError
from amcc.progress import Silent
from amcc.summary import Summary
from tests import tiny_models
from tests.test_workers import gone
from tests.worker_functions import constant

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")
ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
TINY: dict[str, Any] = {"budget": "flops=0.5", "search": "refine", "episodes": 12, "recover": "none", "threads": 1}


def contents(folder: Path) -> dict[str, object]:
    """All that two runs must share."""
    timed = {"summary.json", "report.html", "pareto.html"}
    files: dict[str, object] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in timed
    }
    for path in folder.rglob("summary.json"):
        files[path.parent.name] = Summary.read(path).model_dump(exclude={"timings"})
    return files


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "model.onnx")


def test_the_number_of_workers_and_threads_changes_no_byte(tmp_path: Path) -> None:
    found = []
    for options in ({"threads": 2}, {"threads": 1, "workers": 2}):
        folder = tmp_path / str(len(found)) / "digits.amcc"
        amcc.compile(
            DIGITS / "model.onnx",
            budget="flops=0.5",
            data=DIGITS / "val.npz",
            calib=DIGITS / "calib.npz",
            search="refine",
            episodes=10,
            calib_samples=48,
            eval_samples=64,
            seed=3,
            out=folder,
            **options,
        )
        found.append(contents(folder))
    assert "model.onnx" in found[0] and "journal.jsonl" in found[0]
    assert found[0] == found[1]


def test_neither_with_several_budgets(model: Path, tmp_path: Path) -> None:
    data, found = tiny_models.samples(90), []
    for workers in (None, 3):
        folder = tmp_path / str(workers) / "tiny.pareto"
        options = {**TINY, "episodes": 36, "workers": workers, "out": folder}
        del options["budget"]
        amcc.pareto(model, budgets=[0.4, 0.6], data=data, **options)
        found.append(contents(folder))
    assert found[0] == found[1]


def test_neither_under_a_guarantee(model: Path, tmp_path: Path) -> None:
    data, found = tiny_models.samples(900), []
    for workers in (None, 2):
        folder = tmp_path / str(workers) / "tiny.amcc"
        options = {**TINY, "budget": None, "max_drop": 0.9, "episodes": 40, "workers": workers}
        amcc.compile(model, data=data, out=folder, **options)
        found.append(contents(folder))
    assert found[0] == found[1]


class Policies(Silent):
    """Says in which processes the phases were."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def phase(self, text: str) -> None:
        self.texts.append(text)


def test_any_metric_that_can_be_sent(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, scale = tiny_models.samples(90), 2.0

    def own(outputs: Any, labels: Any) -> float:
        return scale * constant(outputs, labels)

    for metric in ("tests.worker_functions:constant", constant, own, lambda outputs, labels: -1.0):
        seen = Policies()
        one, two = (
            amcc.compile(model, data=data, metric=metric, workers=workers, observer=seen, **TINY)
            for workers in (None, 2)
        )
        assert one.plan == two.plan and one.summary.metric == two.summary.metric
        assert [text for text in seen.texts if "searching" in text] == ["searching", "searching with 2 workers"]
    captured = capfd.readouterr()
    assert "a metric may print" in captured.out and "a metric may print" in captured.err


def test_a_metric_that_cannot_be_sent_is_one_clear_error(model: Path) -> None:
    lock = threading.Lock()

    def own(outputs: Any, labels: Any) -> float:
        return float(lock.locked())

    with pytest.raises(UsageError, match=r"by 'own' cannot be sent to workers: .*module:function"):
        amcc.compile(model, data=tiny_models.samples(90), metric=own, workers=2, **TINY)


def test_a_metric_that_fails_in_a_worker(model: Path) -> None:
    calls = [0]

    def own(outputs: Any, labels: Any) -> float:
        calls[0] += 1
        return 1.0 if calls[0] < 3 else 1 / 0

    with pytest.raises(DataError, match="metric 'own' raised ZeroDivisionError"):
        amcc.compile(model, data=tiny_models.samples(90), metric=own, workers=2, **TINY)


def children(process: int) -> list[int]:
    """The numbers of a process's workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found.append(int(path.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_stopped_on_the_command_line_it_leaves_no_process_and_goes_on(tmp_path: Path, sent: signal.Signals) -> None:
    np.savez(tmp_path / "data.npz", **tiny_models.samples(90))  # type: ignore[arg-type]
    model, out = tiny_models.save(tmp_path / "model.onnx"), tmp_path / "o.amcc"
    journal = tmp_path / "o.amcc.journal.jsonl"
    options = {"--budget": "flops=0.5", "--data": tmp_path / "data.npz", "--search": "refine", "--episodes": 200}
    options |= {"--recover": "none", "--workers": 2, "-o": out}
    words = [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, "-m", "amcc", "compile", str(model), *words]
    run: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "stderr": subprocess.PIPE, "text": True}
    # a group of its own, as a terminal gives it: Ctrl-C reaches all of it
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, process_group=0, **run) as process:
        while process.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") > 5):
            time.sleep(0.005)
        workers = children(process.pid)
        os.killpg(process.pid, sent)
        _, said = process.communicate(timeout=60)
    assert len(workers) == 2 and gone(workers)
    assert process.returncode == (130 if sent is signal.SIGINT else -sent)
    assert "Traceback" not in said and (sent is not signal.SIGINT or "run the same command again" in said)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, timeout=120, **run)
    assert done.returncode == 0, done.stderr
    whole = amcc.plan(
        model, budget="flops=0.5", data=tmp_path / "data.npz", search="refine", episodes=200, recover="none"
    )
    assert json.loads((out / "plan.json").read_text())["groups"] == json.loads(whole.model_dump_json())["groups"]
    assert not journal.exists()
