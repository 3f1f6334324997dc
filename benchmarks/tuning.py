"""A short training after half the FLOPs are gone: accuracy on images that nothing else saw.

    python benchmarks/tuning.py --log FILE.jsonl --folder FOLDER [NAME...] [--seeds 3]
    python benchmarks/tuning.py --log FILE.jsonl --report

Compiles and tunes by the command line, one after the other, and judges the written files in ONNX Runtime and in
PyTorch, not by amcc. Trained on the training split; the search sees one half of the rest, the numbers come from
the other. The folder keeps the data, the compiled networks and the checkpoints: a run that was stopped goes on. The log
keeps a line for each run that ended; what it has is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import outputs_of_onnx, outputs_of_torch, percent
from common import SHARED, Run, amcc, cifar, machine, summary, table

MINUTES = 60.0


@dataclass(frozen=True)
class Case:
    """A network, its data and what is wanted.

    Attributes:
        train, search, report: splits of CIFAR-10.
        most: the loss allowed, in points.
        minutes: that compiling and training may take on two cores; None where nothing is said.
        epochs, rate: of the training.
    """

    train: str = "train"
    search: str = "search"
    report: str = "report"
    scale: str = "imagenet"
    most: float = 0.0
    minutes: float | None = None
    epochs: int = 12
    rate: float = 0.005


CASES = {
    "resnet56": Case(most=0.3, minutes=MINUTES, epochs=8),
    "plain10": Case(scale="half"),
    "mobilenet_w050": Case(train="fit", search="holdout", report="test", epochs=20, rate=0.01),
    "resnet20": Case(most=0.6, epochs=20, rate=0.01),
}


def data_of(case: Case, folder: Path) -> dict[str, Path]:
    """The files for `--train`, `--data`, `--calib` and `--report-data`."""
    splits = {"train": case.train, "search": case.search, "report": case.report, "fit": "fit"}
    found = {}
    for name, split in splits.items():
        count = ("--count", "5000") if name == "fit" else ()
        found[name] = folder / f"{name}-{split}-{case.scale}.npz"
        if not found[name].exists():
            cifar(split, found[name], "--scale", case.scale, *count)
    return found


def done(run: Run) -> float:
    """Seconds of a command that ended well."""
    if run.code:
        raise SystemExit(run.err)
    return run.seconds


def measured(network: str, seed: int, compiling: list[str], tuning: list[str], folder: Path) -> dict[str, Any]:
    """Compile and tune once; what came out."""
    case, model = CASES[network], SHARED / "models" / f"{network}.onnx"
    data = data_of(case, folder)
    compiled, tuned = folder / f"{network}-{seed}.amcc", folder / f"{network}-{seed}-tuned.amcc"
    clock = compiled.with_suffix(".seconds")
    if not clock.exists():
        inputs = ["--data", data["search"], "--calib", data["fit"], "--report-data", data["report"]]
        common = ["--budget", "flops=0.5", "--seed", str(seed), "-o", compiled, "--force"]
        clock.write_text(str(done(amcc("compile", model, *common, *inputs, *compiling))))
    common = ["--train", data["train"], "--teacher", model, "--report-data", data["report"], "--seed", str(seed)]
    own = {"--epochs": case.epochs, "--rate": case.rate}
    options = [str(part) for option in own.items() if option[0] not in tuning for part in option]
    seconds = done(amcc("tune", compiled, *common, *options, *tuning, "-o", tuned, "--force"))
    report = np.load(data["report"])
    images, labels = report["input"], report["label"]
    before, cut, after = (
        outputs_of_onnx(path, images) for path in (model, compiled / "model.onnx", tuned / "model.onnx")
    )
    found = summary(tuned)
    line = found["tuning"][-1]
    return {
        "network": network,
        "seed": seed,
        "compiling": compiling,
        "tuning": tuning,
        "before": percent(before.argmax(1) == labels),
        "cut": percent(cut.argmax(1) == labels),
        "after": percent(after.argmax(1) == labels),
        "held_out": [line["original"], line["before"], *(epoch["metric"] for epoch in line["curve"])],
        "rates": [epoch["rate"] for epoch in line["curve"]],
        "losses": [epoch["loss"] for epoch in line["curve"]],
        "kept": line["kept"],
        "augment": line["augment"],
        "error": line["error"],
        "ratio": found["budget"][0]["ratio"],
        "torch": float(np.abs(after - outputs_of_torch(tuned, images)).max()),
        "images": len(labels),
        "compiled_in": round(float(clock.read_text()), 1),
        "tuned_in": round(seconds, 1),
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def rows_of(lines: list[dict[str, Any]]) -> Iterator[tuple[list[str], bool]]:
    """A row for each network, and whether what is claimed of it holds."""
    for network, case in CASES.items():
        own = [line for line in lines if line["network"] == network]
        if not own:
            continue
        lost = np.array([line["before"] - line["after"] for line in own])
        minutes = [(line["compiled_in"] + line["tuned_in"]) / 60 for line in own]
        right = bool(lost.mean() <= case.most) and all(line["ratio"] <= 0.5 and line["error"] <= 1e-4 for line in own)
        right &= case.minutes is None or max(minutes) <= case.minutes
        wanted = f"at most {case.most} below" if case.most else "no loss"
        wanted += f" in {case.minutes:.0f} min" if case.minutes is not None else ""
        yield (
            [
                network,
                str(len(own)),
                f"{own[0]['before']:.2f}",
                f"{np.mean([line['cut'] for line in own]):.2f}",
                f"{np.mean([line['after'] for line in own]):.2f}",
                f"{lost.mean():.2f} ({lost.min():.2f} to {lost.max():.2f})",
                f"{max(line['ratio'] for line in own):.4f}",
                f"{max(line['error'] for line in own):.0e}",
                f"{max(line['torch'] for line in own):.0e}",
                ", ".join(own[0]["augment"]),
                str(len(own[0]["losses"])),
                f"{np.mean([line['compiled_in'] for line in own]) / 60:.1f}",
                f"{np.mean([line['tuned_in'] for line in own]) / 60:.1f}",
                f"{wanted}: {'yes' if right else 'NO'}",
            ],
            right,
        )


def main() -> int:
    """Run what the log does not have, or print its table; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="for data, compiled networks and checkpoints")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--compile-options", default="", help="more options for amcc compile")
    parser.add_argument("--tune-options", default="", help="more options for amcc tune")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.log.read_text().splitlines()] if given.log.exists() else []
    if not given.report:
        if given.folder is None:
            parser.error("--folder is needed")
        given.folder.mkdir(parents=True, exist_ok=True)
        for seed in range(given.seeds):
            for network in given.names:
                if (network, seed) in [(line["network"], line["seed"]) for line in lines]:
                    continue
                options = given.compile_options.split(), given.tune_options.split()
                lines.append(measured(network, seed, *options, given.folder))
                with given.log.open("a") as log:
                    log.write(json.dumps(lines[-1]) + "\n")
    found = list(rows_of(lines))
    print(machine())
    head = ["network", "seeds", "top-1 before", "cut", "trained", "lost", "MACs", "ONNX - module", "ONNX - model.py"]
    head += ["augmented by", "epochs", "minutes to compile", "to train", "wanted"]
    print(table(head, [row for row, _ in found]))
    return int(not all(right for _, right in found))


if __name__ == "__main__":
    sys.exit(main())
