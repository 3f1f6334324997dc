"""Training in two processes against one, and killed with SIGKILL at random moments against left alone.

python benchmarks/tuning_torchrun.py [--kills 20] [--epochs 3] [--samples 10000]

A ResNet-20 at half its MACs. Two processes: losses and accuracy beside the single one's, and beside another seed's,
whose difference is noise. Killed: after each kill the checkpoint on disk is at most one interval behind, and the last
run ends with the same bytes as the undisturbed one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import outputs_of_onnx, percent
from common import ROOT, SHARED, amcc, cifar, machine, summary, table

SEED = 0
INTERVAL = 5.0
MODEL = SHARED / "models" / "resnet20.onnx"
FILES = ("model.onnx", "model.safetensors", "model.py", "plan.json")


def environment() -> dict[str, str]:
    """One thread a process, so that one and two of them compute alike."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def command(folder: Path, out: Path, given: argparse.Namespace, seed: int = SEED, processes: int = 1) -> list[str]:
    """The training under test."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes] if processes > 1 else []
    options = {"--train": folder / "train.npz", "--teacher": MODEL, "--report-data": folder / "report.npz"}
    options |= {"--epochs": given.epochs, "--seed": seed, "--threads": 1, "--checkpoint-seconds": INTERVAL, "-o": out}
    parts = [sys.executable, *launcher, "-m", "amcc", "tune", folder / "compiled.amcc", "-q"]
    return [str(part) for part in (*parts, *(part for option in options.items() for part in option))]


def trained(arguments: list[str]) -> float:
    """Run to the end; seconds."""
    began = time.perf_counter()
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def hashes(out: Path) -> dict[str, str]:
    """Of the files that must not differ."""
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES if (out / name).is_file()}


def step_of(checkpoint: Path) -> tuple[int, bool]:
    """The step that a checkpoint goes on from, and whether the training has ended."""
    if not checkpoint.is_file():
        return 0, False
    with checkpoint.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    progress = json.loads(header["__metadata__"]["amcc"])["progress"]
    return int(progress["step"]), bool(progress["done"])


def kill_once(arguments: list[str], checkpoint: Path, wait: float) -> dict[str, Any]:
    """Start, kill some time later; how old the checkpoint was then."""
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (before, _), began = step_of(checkpoint), time.time()
    while process.poll() is None and time.time() - began < wait:
        time.sleep(0.02)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    after, ended = step_of(checkpoint)
    written = checkpoint.stat().st_mtime if checkpoint.is_file() else began
    return {
        "seconds": round(wait, 1),
        "running": running,
        "step before": before,
        "step after": after,
        "ended": ended,
        "checkpoint is older by": round(time.time() - max(written, began), 1),
    }


def row(name: str, out: Path, images: np.ndarray, labels: np.ndarray, seconds: float) -> list[Any]:
    """Losses and accuracy of a training."""
    losses = [epoch["loss"] for epoch in summary(out)["tuning"][-1]["curve"]]
    hits = outputs_of_onnx(out / "model.onnx", images).argmax(1) == labels
    return [name, " ".join(f"{loss:.4f}" for loss in losses), f"{percent(hits):.2f}", f"{seconds:.0f}"]


def main() -> int:
    """Compare; 1 if anything does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=10_000)
    given = parser.parse_args()
    moment = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cifar("fit", folder / "train.npz", "--count", str(given.samples))
        cifar("search", folder / "search.npz", "--count", "1000")
        cifar("report", folder / "report.npz")
        inputs = ["--data", folder / "search.npz", "--calib", folder / "train.npz", "--calib-samples", "500"]
        plain = ["--budget", "flops=0.5", "--search", "lagrange", "--recover", "layers"]
        cut = amcc("compile", MODEL, *plain, *inputs, "-o", folder / "compiled.amcc")
        if cut.code:
            raise SystemExit(cut.err)
        report = np.load(folder / "report.npz")
        images, labels = report["input"], report["label"]
        outs = {which: folder / f"{which}.amcc" for which in ("one", "two", "other", "killed")}
        seconds = {
            "one": trained(command(folder, outs["one"], given)),
            "two": trained(command(folder, outs["two"], given, processes=2)),
            "other": trained(command(folder, outs["other"], given, seed=SEED + 1)),
        }
        checkpoint = outs["killed"].with_name("killed.amcc.tuning.safetensors")
        arguments = command(folder, outs["killed"], given)
        kills = []
        while len(kills) < given.kills and not outs["killed"].exists():
            kills.append(kill_once(arguments, checkpoint, moment.uniform(8, 30)))
        if not outs["killed"].exists():
            trained(arguments)
        same = {key: value == hashes(outs["killed"])[key] for key, value in hashes(outs["one"]).items()}
        texts = {"one": "one process", "two": "two processes", "other": "one process, another seed"}
        rows = [row(text, outs[which], images, labels, seconds[which]) for which, text in texts.items()]
        labelled = summary(outs["one"])["metric"]["report"]["before"]
    accuracies = [float(line[2]) for line in rows]
    noise = 100 * (labelled * (1 - labelled) / len(labels)) ** 0.5
    close = abs(accuracies[0] - accuracies[1]) <= max(abs(accuracies[0] - accuracies[2]), noise)
    kept = all(one["checkpoint is older by"] <= 2 * INTERVAL or one["ended"] or not one["step after"] for one in kills)
    print(machine())
    print(table(["training", "loss by epoch", "top-1 on the report split", "seconds"], rows))
    print(f"the two agree within noise (another seed's difference, or {noise:.2f} points): {'yes' if close else 'NO'}")
    print(table(["kill", *kills[0]], [[number, *one.values()] for number, one in enumerate(kills, start=1)]))
    print(table(["file", "same bytes"], [[key, "yes" if value else "NO"] for key, value in same.items()]))
    return int(not (close and kept and all(same.values())))


if __name__ == "__main__":
    sys.exit(main())
