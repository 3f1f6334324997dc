"""`amcc pareto` with three budgets against one `amcc compile`: seconds of both, and the ratio; 1 above 1.5.

Seconds of the clock and of the processors: on a machine with other work only the latter say something.

python benchmarks/pareto.py [--digits] [--episodes N]

A ResNet-20 on CIFAR-10 from ../shared, or the digits example with --digits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from common import ROOT, SHARED, Run, amcc, cifar, machine, summary, table

SEED = 0
MOST = 1.5
BUDGETS = ("0.3", "0.5", "0.7")


def inputs(folder: Path, digits: bool) -> tuple[Path, list[str | Path]]:
    """The network, and the options that give its data."""
    if digits:
        example = ROOT / "examples" / "digits"
        return example / "model.onnx", ["--data", example / "val.npz", "--calib", example / "calib.npz"]
    data = cifar("search", folder / "search.npz")
    calib = cifar("fit", folder / "calib.npz", "--count", "1500")
    report = cifar("report", folder / "report.npz", "--count", "5000")
    return SHARED / "models" / "resnet20.onnx", ["--data", data, "--calib", calib, "--report-data", report]


def seconds(out: Path) -> dict[str, float]:
    """By phase, of a folder as `compile` writes it."""
    found: dict[str, float] = summary(out)["timings"]["seconds"]
    return found


def main(digits: bool, episodes: int | None) -> int:
    """Measure; 1 if it takes too long or fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, options = inputs(folder, digits)
        options += ["--seed", str(SEED), "-q", *(["--episodes", str(episodes)] if episodes else [])]
        start = processors()
        one = amcc("compile", model, "--budget", "flops=0.5", *options, "-o", folder / "one")
        middle = processors()
        several = amcc("pareto", model, "--budgets", ",".join(BUDGETS), *options, "-o", folder / "several")
        end = processors()
        if failed(one) or failed(several):
            return 1
        front = json.loads((folder / "several" / "pareto.json").read_text())
        alone, last = summary(folder / "one"), seconds(folder / "several" / front["points"][-1]["folder"])
        phases = [[name, f"{spent:.1f}", f"{last.get(name, 0):.1f}"] for name, spent in seconds(folder / "one").items()]
    print(machine())
    print(table(["phase", "compile, s", "pareto, the last point's clock, s"], phases))
    rows = [["compile", "flops=0.5", *scores(alone["metric"])]]
    rows += [["pareto", point["asked"], *scores(point)] for point in front["points"]]
    print(table(["command", "budget", "search", "report"], rows))
    ratio = several.seconds / one.seconds
    print(f"clock: compile {one.seconds:.0f} s, pareto {several.seconds:.0f} s: {ratio:.2f} times, at most {MOST}")
    spent, more = middle - start, end - middle
    print(f"processors: compile {spent:.0f} s, pareto {more:.0f} s: {more / spent:.2f} times")
    return int(ratio > MOST)


def processors() -> float:
    """Seconds that finished commands have spent on processors so far."""
    times = os.times()
    return times.children_user + times.children_system


def failed(run: Run) -> bool:
    """Whether a command failed; shows why."""
    if run.code:
        print(run.err)
    return bool(run.code)


def scores(metric: dict[str, dict[str, float]]) -> list[str]:
    """The metric of what is shipped, on the search's samples and the report's."""
    return [f"{100 * metric[part]['after']:.2f}" for part in ("search", "report")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--episodes", type=int)
    given = parser.parse_args()
    sys.exit(main(given.digits, given.episodes))
