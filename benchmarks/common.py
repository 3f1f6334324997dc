"""What the benchmark scripts share: running the command line, reading its summary, printing a table."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Run:
    """A finished command."""

    code: int
    out: str
    err: str
    seconds: float


def amcc(*arguments: str | Path, timeout: float | None = None) -> Run:
    """Runs `amcc` with these arguments, in this interpreter's environment."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "amcc.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": path},
    )
    return Run(done.returncode, done.stdout, done.stderr, time.perf_counter() - start)


def summary(folder: Path) -> dict[str, Any]:
    """An output folder's summary.json."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def cifar(split: str, out: Path, *options: str) -> Path:
    """Writes a split of CIFAR-10 as the networks in ../shared expect it."""
    script = SHARED / "cifar10" / "cifar10.py"
    subprocess.run(
        [sys.executable, str(script), str(out), "--split", split, "--float", *options], check=True, capture_output=True
    )
    return out


def cifar_data(folder: Path) -> dict[str, Path]:
    """What the networks are compiled and judged with: 5,000 images each to search, to fit and to report on."""
    data = {split: cifar(split, folder / f"{split}.npz") for split in ("search", "report")}
    data["fit"] = cifar("fit", folder / "fit.npz", "--count", "5000")
    return data


def machine() -> str:
    """The machine in words."""
    import onnx
    import onnxruntime
    import torch

    versions = f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])
