"""ResNet-20 and ResNet-56 on CIFAR-10 at half the MACs, without training.

    python benchmarks/cifar.py [NAME...] [--seeds N] [--keep FOLDER]

The search sees the `search` split, recovery the `fit` split without labels, the numbers quoted come from the
`report` split, run here in ONNX Runtime and in PyTorch from the files that amcc wrote, not by amcc.
The previous way - one ratio for all layers, L1 magnitude, no repair - runs in the same table.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import SHARED, amcc, cifar_data, machine, summary, table

WANTED = {"resnet56": 90.2}
LIMIT_SECONDS = 20 * 60


def logits_of_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    """Outputs of an ONNX file, by ONNX Runtime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[a : a + 250]})[0] for a in range(0, len(images), 250)]
    return np.concatenate(parts)


def logits_of_torch(folder: Path, images: np.ndarray) -> np.ndarray:
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


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Top-1, percent."""
    return float((logits.argmax(1) == labels).mean() * 100)


def main() -> int:
    """Compile each; 1 if one falls short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=["resnet20", "resnet56"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave the output folders here")
    parser.add_argument("--options", default="", help="more options for amcc compile")
    arguments = parser.parse_args()
    rows, short = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        data = cifar_data(folder)
        report = np.load(data["report"])
        images, labels = report["input"], report["label"]
        ways = [("amcc", s, arguments.options.split()) for s in range(arguments.seeds)]
        ways += [("uniform, L1, no repair", 0, ["--search", "uniform", "--recover", "none"])]
        for network in arguments.names:
            model = SHARED / "models" / f"{network}.onnx"
            before = accuracy(logits_of_onnx(model, images), labels)
            for way, seed, extra in ways:
                out = folder / f"{network}-{way.split(',')[0]}-{seed}.amcc"
                common = ["--budget", "flops=0.5", "--data", data["search"], "--seed", str(seed), "-o", out, "--force"]
                inputs = ["--calib", data["fit"], "--report-data", data["report"]]
                run = amcc("compile", model, *common, *inputs, *extra)
                if run.code:
                    print(run.err, file=sys.stderr)
                    return 1
                found = summary(out)
                by_onnx = logits_of_onnx(out / "model.onnx", images)
                gap = float(np.abs(by_onnx - logits_of_torch(out, images)).max())
                after, macs = accuracy(by_onnx, labels), found["budget"][0]["ratio"]
                if way == "amcc":
                    short += not (0.49 <= macs <= 0.5 and found["certificate"]["error"] <= 1e-4 and gap <= 1e-4)
                    short += after < WANTED.get(network, 0) or run.seconds > LIMIT_SECONDS
                error, policy = f"{found['certificate']['error']:.1e}", found["policy"]
                figures = [f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f}", f"{macs:.4f}", error]
                rows.append([network, way, seed, *figures, f"{gap:.1e}", policy, f"{run.seconds:.0f}"])
                print(rows[-1], file=sys.stderr, flush=True)
    print(machine())
    head = ["network", "way", "seed", "report top-1 before", "after", "change", "MACs", "certificate"]
    print(table([*head, "ONNX - PyTorch", "policy", "seconds"], rows))
    return int(short > 0)


if __name__ == "__main__":
    sys.exit(main())
