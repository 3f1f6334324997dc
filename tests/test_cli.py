"""The command line: output, streams, exit codes, speed, and a search that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import amcc
from amcc import api
from amcc.cli import app
from tests import tiny_models

ROOT = Path(__file__).resolve().parent.parent
FAST = ("--search", "uniform", "--recover", "none", "--threads", "1")
BUDGET = ("--budget", "flops=0.5")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_models.save(tmp_path / "model.onnx")
    np.savez(tmp_path / "val.npz", **tiny_models.samples(90))  # type: ignore[arg-type]
    return tmp_path


def amcc_cli(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def process(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "amcc.cli", *arguments]
    return subprocess.Popen(command, env=environment, preexec_fn=_heeding_interrupts, **options)


def _heeding_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and so do their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "amcc", "--version"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode() == f"amcc {amcc.__version__}\n"


def test_compile_prints_tables_and_writes_the_folder(folder: Path) -> None:
    result = amcc_cli("compile", "model.onnx", *BUDGET, "--data", "val.npz", *FAST)
    for part in (
        "conv1.weight",
        "MACs",
        "latency",
        "top1",
        "report split",
        "certificate",
        "within reach",
        "model.amcc",
    ):
        assert part in result.stdout
    assert "measuring the original" in result.stderr and "measuring the original" not in result.stdout
    names = {p.name for p in (folder / "model.amcc").iterdir()}
    assert {"model.onnx", "plan.json", "summary.json", "report.html"} <= names
    assert not list(folder.glob(".*")) and not list(folder.glob("*.jsonl"))


def test_quiet_and_json(folder: Path) -> None:
    result = amcc_cli("compile", "model.onnx", *BUDGET, *FAST, "--quiet", "--json", "-o", "out")
    assert result.stderr == ""
    assert json.loads(result.stdout) == json.loads((folder / "out" / "summary.json").read_text())


def test_every_command_from_plan_to_verify(folder: Path) -> None:
    amcc_cli("plan", "model.onnx", *BUDGET, "--data", "val.npz", *FAST, "-o", "plan.json")
    printed = amcc_cli("plan", "model.onnx", *BUDGET, "--data", "val.npz", *FAST).stdout
    assert printed == (folder / "plan.json").read_text()
    amcc_cli("apply", "plan.json", "model.onnx", "--threads", "1")
    assert "certificate repeated" in amcc_cli("verify", "model.onnx", "model.amcc").stdout
    bench = json.loads(amcc_cli("bench", "model.onnx", "model.amcc", "--runs", "3", "--threads", "1", "--json").stdout)
    assert [line["model"] for line in bench] == ["model.onnx", "model.amcc"] and all(
        line["median"] > 0 for line in bench
    )
    assert "against the first" in amcc_cli("bench", "model.onnx", "--runs", "3", "--threads", "1").stdout


def test_inspect(folder: Path) -> None:
    text = amcc_cli("inspect", "model.onnx").stdout
    for part in ("Conv_c", "GlobalAveragePool", "conv2.weight", "graph output", "batchx8x8x8", "MACs out of reach"):
        assert part in text
    found = json.loads(amcc_cli("inspect", "model.onnx", "--json").stdout)
    schema = json.loads(amcc_cli("schema", "ir").stdout)
    jsonschema.validate(found, schema)
    assert found["version"] == 1 and len(found["nodes"]) == 9


@pytest.mark.parametrize("name", ["ir", "plan", "summary", "pareto"])
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(amcc_cli("schema", name).stdout))


def test_version_and_help() -> None:
    assert amcc_cli("--version").stdout == f"amcc {amcc.__version__}\n"
    assert "compile" in amcc_cli("--help").stdout


def test_help_is_light() -> None:
    """It loads none of the heavy libraries; `benchmarks/speed.py` measures its time."""
    code = (
        "import sys; sys.argv = ['amcc', '--help']\n"
        "import amcc.cli\n"
        "try: amcc.cli.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'numpy', 'pydantic', 'rich') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert output.splitlines()[-1] == b"[]"


def test_a_fault_of_amcc_is_one_line_unless_debugged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(api, "inspect", broken)
    text = amcc_cli("inspect", "model.onnx", code=1).stderr
    assert text.startswith("amcc: a fault of amcc: ZeroDivisionError") and text.count("\n") == 1
    monkeypatch.setenv("AMCC_DEBUG", "")
    assert "Traceback" in amcc_cli("--debug", "inspect", "model.onnx", code=1).stderr
    os.environ.pop("AMCC_DEBUG", None)


def test_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "inspect", interrupted)
    assert amcc_cli("inspect", "model.onnx", code=130).stderr == "amcc: interrupted\n"


SEARCH = (
    "compile",
    "model.onnx",
    *BUDGET,
    "--data",
    "val.npz",
    "--recover",
    "none",
    "--episodes",
    "100",
    "--threads",
    "1",
)


def episodes(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") - 1 if journal.is_file() else 0


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "stops"), [(signal.SIGKILL, (5, 25)), (signal.SIGINT, (15,))])
def test_a_search_that_is_stopped_goes_on(folder: Path, kill: signal.Signals, stops: tuple[int, ...]) -> None:
    assert process(*SEARCH, "-q", "-o", "whole", stdout=subprocess.DEVNULL).wait() == 0
    journal = folder / "parts.journal.jsonl"
    runs = 0
    for stop in stops:
        with process(*SEARCH, "-q", "-o", "parts", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
            while running.poll() is None and episodes(journal) < stop:
                time.sleep(0.001)
            running.send_signal(kill)
            running.wait()
            if (folder / "parts").exists():
                break
            runs += 1
            assert running.returncode == (130 if kill == signal.SIGINT else -signal.SIGKILL)
            if kill == signal.SIGINT:
                assert running.stderr is not None and b"go on" in running.stderr.read()
    assert runs > 0
    if not (folder / "parts").exists():
        assert process(*SEARCH, "-q", "-o", "parts", stdout=subprocess.DEVNULL).wait() == 0
    for name in ("model.onnx", "plan.json", "journal.jsonl"):
        assert (folder / "parts" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert not journal.exists()
