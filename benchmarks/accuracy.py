"""What is left of the accuracy of trained networks at a budget, without training, against uniform ratios.

    python benchmarks/accuracy.py --log FILE.jsonl [NAME...] [--ways amcc,uniform,layers,slices] [--seeds 3]
    python benchmarks/accuracy.py --log FILE.jsonl --report

The search and recovery see one half of the data (recovery no labels), the numbers come from the other half, run
here in ONNX Runtime and in PyTorch from the files that amcc wrote, not by amcc. The log keeps a line for each
run that ended; what it has is not run again.

Ways: `amcc`, its defaults; `layers`, the same with `--recover layers`; `uniform`, one ratio for all groups
and the same recovery; `slices`, one ratio, L1 magnitude, no recovery.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import SHARED, amcc, cifar, machine, summary, table

WAYS: dict[str, list[str]] = {
    "amcc": [],
    "layers": ["--recover", "layers"],
    "uniform": ["--search", "uniform"],
    "slices": ["--search", "uniform", "--recover", "none"],
}


@dataclass(frozen=True)
class Case:
    """A network with its data.

    Attributes:
        search, report: splits of CIFAR-10, or the side in pixels of the ImageNet samples.
        most: the loss allowed, in points, at half the MACs; None for none of its own.
        half: whether it may lose at most half of what uniform ratios lose.
    """

    search: str | int
    report: str | int
    scale: str = "imagenet"
    budgets: tuple[str, ...] = ("flops=0.5",)
    most: float | None = None
    half: bool = False


CASES = {
    "resnet56": Case("search", "report", most=1.5),
    "resnet20": Case("search", "report", most=3.5, half=True),
    "plain10": Case("search", "report", scale="half", most=2.5),
    "mobilenet_w050": Case("holdout", "test", half=True),
    "mobilenet_v1_w050_160_imagenet": Case(160, 160, budgets=("flops=0.7", "flops=0.5"), half=True),
    "mobilenet_v2_w100_224_imagenet": Case(224, 224, budgets=("flops=0.7", "flops=0.5"), half=True),
}


def data_of(case: Case, folder: Path) -> dict[str, Path]:
    """The files for `--data`, `--calib` and the report."""
    if isinstance(case.search, int):
        found = {name: folder / f"imagenet-{name}-{case.search}.npz" for name in ("search", "report")}
        for name, first in (("search", 0), ("report", 1)):
            if not found[name].exists():
                write_samples(found[name], first, case.search)
        return {**found, "fit": found["search"]}
    files = {name: folder / f"{split}-{case.scale}.npz" for name, split in splits_of(case)}
    for name, split in splits_of(case):
        if not files[name].exists():
            cifar(split, files[name], "--scale", case.scale, *(("--count", "5000") if name == "fit" else ()))
    return files


def splits_of(case: Case) -> tuple[tuple[str, str], ...]:
    """Which split of CIFAR-10 is what."""
    return (("search", str(case.search)), ("report", str(case.report)), ("fit", "fit"))


def write_samples(out: Path, first: int, side: int) -> None:
    """Every other ImageNet sample, as the networks expect it; class 0 is the background."""
    from PIL import Image

    files = sorted((SHARED / "imagenet1k_samples").glob("*.jpg"))[first::2]
    pictures = [Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR) for file in files]
    pixels = np.stack([np.asarray(picture, np.float32) for picture in pictures]).transpose(0, 3, 1, 2)
    labels = np.array([int(file.name.split("_")[0]) + 1 for file in files])
    np.savez(out, input=(pixels - 128) / 128, label=labels)


def outputs_of_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    """Outputs of an ONNX file, by ONNX Runtime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[a : a + 250]})[0] for a in range(0, len(images), 250)]
    return np.concatenate(parts)


def outputs_of_torch(folder: Path, images: np.ndarray) -> np.ndarray:
    """Outputs of the PyTorch artifact, by its own loader."""
    import torch

    spec = importlib.util.spec_from_file_location("compiled", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load(folder).eval()
    with torch.no_grad():
        parts = [network(torch.from_numpy(images[a : a + 250])).numpy() for a in range(0, len(images), 250)]
    return np.concatenate(parts)


def percent(hits: np.ndarray) -> float:
    """A share in percent."""
    return float(hits.mean() * 100)


def measured(network: str, budget: str, way: str, seed: int, options: list[str], folder: Path) -> dict[str, Any]:
    """Compile once; what came out."""
    case, model = CASES[network], SHARED / "models" / f"{network}.onnx"
    data = data_of(case, folder)
    out = folder / "compiled.amcc"
    common = ["--budget", budget, "--seed", str(seed), "-o", out, "--force", "--fresh"]
    inputs = ["--data", data["search"], "--calib", data["fit"], "--report-data", data["report"]]
    run = amcc("compile", model, *common, *inputs, *WAYS[way], *options)
    if run.code:
        raise SystemExit(run.err)
    report = np.load(data["report"])
    images, labels = report["input"], report["label"]
    before, after = outputs_of_onnx(model, images), outputs_of_onnx(out / "model.onnx", images)
    found = summary(out)
    return {
        "network": network,
        "budget": budget,
        "way": way,
        "seed": seed,
        "options": options,
        "before": percent(before.argmax(1) == labels),
        "after": percent(after.argmax(1) == labels),
        "agreement": percent(before.argmax(1) == after.argmax(1)),
        "ratio": found["budget"][0]["ratio"],
        "certificate": found["certificate"]["error"],
        "torch": float(np.abs(after - outputs_of_torch(out, images)).max()),
        "policy": found["policy"],
        "images": len(labels),
        "seconds": round(run.seconds, 1),
    }


def rows_of(lines: list[dict[str, Any]]) -> Iterator[tuple[list[str], bool]]:
    """A row for each network, budget and way, and whether what is claimed of it holds."""
    for network, case in CASES.items():
        for budget in case.budgets:
            own = [line for line in lines if (line["network"], line["budget"]) == (network, budget)]
            lost = {way: np.array([x["before"] - x["after"] for x in own if x["way"] == way]) for way in WAYS}
            for way, losses in lost.items():
                if not len(losses):
                    continue
                of_way = [line for line in own if line["way"] == way]
                share = losses.mean() / lost["uniform"].mean() if len(lost["uniform"]) else float("nan")
                right = all(x["ratio"] <= float(budget.split("=")[1]) and x["certificate"] <= 1e-4 for x in of_way)
                if way == "amcc":
                    right &= case.most is None or budget != "flops=0.5" or bool(losses.mean() <= case.most)
                    right &= not case.half or bool(share <= 0.5)
                wanted = [f"<= {case.most}"] * (case.most is not None) + ["<= 0.5 of uniform"] * case.half
                yield (
                    [
                        network,
                        budget,
                        way,
                        str(len(losses)),
                        f"{of_way[0]['before']:.2f}",
                        f"{np.mean([x['after'] for x in of_way]):.2f}",
                        f"{losses.mean():.2f} ({losses.min():.2f} to {losses.max():.2f})",
                        f"{share:.2f}",
                        f"{np.mean([x['agreement'] for x in of_way]):.1f}",
                        f"{max(x['ratio'] for x in of_way):.4f}",
                        f"{max(x['certificate'] for x in of_way):.0e}",
                        f"{max(x['torch'] for x in of_way):.0e}",
                        ", ".join(dict.fromkeys(x["policy"] for x in of_way)),
                        f"{np.mean([x['seconds'] for x in of_way]) / 60:.1f}",
                        (" and ".join(wanted) + (": yes" if right else ": NO")) if way == "amcc" else "",
                    ],
                    right,
                )


def main() -> int:
    """Run what the log does not have, or print its table; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--ways", default="amcc,uniform")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--options", default="", help="more options for amcc compile")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.log.read_text().splitlines()] if arguments.log.exists() else []
    if not arguments.report:
        with tempfile.TemporaryDirectory() as name:
            for seed in range(arguments.seeds):
                for network in arguments.names:
                    for budget in CASES[network].budgets:
                        for way in arguments.ways.split(","):
                            key = (network, budget, way, seed)
                            if key in [(x["network"], x["budget"], x["way"], x["seed"]) for x in lines]:
                                continue
                            options = arguments.options.split() if way in ("amcc", "layers") else []
                            lines.append(measured(*key, options, Path(name)))
                            with arguments.log.open("a") as log:
                                log.write(json.dumps(lines[-1]) + "\n")
    found = list(rows_of(lines))
    print(machine())
    head = ["network", "budget", "way", "seeds", "top-1 before", "after", "lost", "of uniform's", "agreement", "MACs"]
    print(table([*head, "certificate", "ONNX - PyTorch", "found by", "minutes", "wanted"], [row for row, _ in found]))
    return int(not all(right for _, right in found))


if __name__ == "__main__":
    sys.exit(main())
