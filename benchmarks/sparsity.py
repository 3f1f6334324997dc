"""Weights set to zero, with tuning and without, against global magnitude pruning by PyTorch.

    python benchmarks/sparsity.py --log FILE.jsonl [NAME...] [--shares 0.4,0.2] [--ways amcc,torch] [--seeds 3]
    python benchmarks/sparsity.py --log FILE.jsonl --folder FOLDER --ways amcc,tuned
    python benchmarks/sparsity.py --log FILE.jsonl --report

The search sees one half of CIFAR-10's test pictures, recovery 5,000 training pictures without labels, tuning all
training pictures with theirs; the numbers come from the other half, run here in ONNX Runtime. The log keeps a line
for each run that ended; what it has is not run again. A folder keeps what is compiled and the checkpoints of
trainings, so that a run that was stopped goes on. A share is of all parameters.

Ways: `amcc`, its defaults with `--granularity weight`; `magnitude`, the same search without recovery; `tuned`, as
`amcc` and then `amcc tune`; `torch`, `torch.nn.utils.prune.global_unstructured` with `L1Unstructured` over the same
layers, down to as many weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import outputs_of_onnx, percent
from common import SHARED, Run, amcc, cifar, machine, summary, table
from tuning import CASES

WAYS = {
    "amcc": ["--granularity", "weight"],
    "magnitude": ["--granularity", "weight", "--recover", "none"],
    "tuned": ["--granularity", "weight"],
    "torch": [],
}
MOST = {("resnet56", 0.4): 0.0, ("resnet56", 0.2): 0.3}
"""Points that may be lost, tuned, at a share of the parameters."""

Key = tuple[str, float, str, int]


def data_of(folder: Path) -> dict[str, Path]:
    """The files for `--data`, `--calib`, the report and tuning."""
    files = {name: folder / f"{name}.npz" for name in ("search", "report", "fit", "train")}
    for name, path in files.items():
        if not path.exists():
            cifar("fit" if name == "fit" else name, path, *(("--count", "5000") if name == "fit" else ()))
    return files


def pruned_by_torch(model: Path, share: float, out: Path) -> None:
    """Leave this share of all parameters, the largest weights of all linear layers together.

    Weights are compared as they were trained, before normalisations were folded into them.
    """
    import onnx
    import torch
    from onnx import numpy_helper
    from safetensors.torch import load_file
    from torch.nn.utils import prune

    network = onnx.load(model)
    arrays = {t.name: t for t in network.graph.initializer}
    weights = {n.input[1] for n in network.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")} & arrays.keys()
    trained, holders = load_file(model.with_suffix(".safetensors")), {}
    for name in sorted(weights):
        holders[name] = torch.nn.Module()
        holders[name].register_parameter("weight", torch.nn.Parameter(trained[name]))
    whole = sum(int(np.prod(t.dims)) for t in arrays.values() if t.data_type == onnx.TensorProto.FLOAT)
    gone = whole - int(share * whole)
    prune.global_unstructured(
        [(holder, "weight") for holder in holders.values()], pruning_method=prune.L1Unstructured, amount=gone
    )
    for name, holder in holders.items():
        left = numpy_helper.to_array(arrays[name]) * (holder.weight != 0).numpy()
        arrays[name].CopyFrom(numpy_helper.from_array(left, name))
    onnx.save(network, out)


def demanded(run: Run) -> float:
    """The seconds of a command that must not fail."""
    if run.code:
        raise SystemExit(run.err)
    return run.seconds


def measured(key: Key, options: list[str], folder: Path) -> dict[str, Any]:
    """Compile, or prune, once; what came out."""
    network, share, way, seed = key
    model, data, case = SHARED / "models" / f"{network}.onnx", data_of(folder), CASES[network]
    out = folder / f"{network}-{share}-{'amcc' if way == 'tuned' else way}-{seed}.amcc"
    clock = out.with_suffix(".seconds")
    found: dict[str, Any] = {}
    if way == "torch":
        written, seconds = folder / "pruned.onnx", 0.0
        pruned_by_torch(model, share, written)
    else:
        if not clock.exists():
            budget = ["--budget", f"params={share}", "--seed", str(seed), "-o", out, "--force"]
            inputs = ["--data", data["search"], "--calib", data["fit"], "--report-data", data["report"]]
            clock.write_text(str(demanded(amcc("compile", model, *budget, *inputs, *WAYS[way], *options))))
        found, written, seconds = summary(out), out / "model.onnx", float(clock.read_text())
        if way == "tuned":
            tuned = out.with_suffix(".tuned.amcc")
            how = ["--train", data["train"], "--epochs", str(case.epochs), "--rate", str(case.rate)]
            given = ["--seed", str(seed), "--teacher", model, "-o", tuned, "--force"]
            seconds += demanded(amcc("tune", out, *how, *given))
            found, written = summary(tuned), tuned / "model.onnx"
    report = np.load(data["report"])
    images, labels = report["input"], report["label"]
    before, after = (outputs_of_onnx(path, images).argmax(1) == labels for path in (model, written))
    return {
        "network": network,
        "share": share,
        "way": way,
        "seed": seed,
        "options": options,
        "epochs": case.epochs if way == "tuned" else 0,
        "before": percent(before),
        "after": percent(after),
        "left": nonzeros(written) / nonzeros(model),
        "policy": found.get("policy", ""),
        "zlib": found["sparsity"]["zlib"]["after"] / found["sparsity"]["zlib"]["before"] if found else None,
        "seconds": round(seconds, 1),
    }


def nonzeros(model: Path) -> int:
    """Numbers other than zero in the floating-point parameters of a file."""
    import onnx
    from onnx import numpy_helper

    arrays = (numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer)
    return sum(int(np.count_nonzero(array)) for array in arrays if array.dtype.kind == "f")


def rows_of(lines: list[dict[str, Any]]) -> Iterator[tuple[list[str], bool]]:
    """A row for each network, share and way, and whether what is claimed of it holds."""
    places = dict.fromkeys((x["network"], x["share"], x["way"]) for x in lines)
    for network, share, way in sorted(places, key=lambda place: (place[0], -place[1], [*WAYS].index(place[2]))):
        own = [x for x in lines if (x["network"], x["share"], x["way"]) == (network, share, way)]
        lost = np.array([x["before"] - x["after"] for x in own])
        most = MOST.get((network, share)) if way == "tuned" else None
        right = max(x["left"] for x in own) <= share + 1e-9 and (most is None or bool(lost.mean() <= most))
        zlib = [x["zlib"] for x in own if x["zlib"] is not None]
        yield (
            [
                network,
                f"{1 - share:.0%}",
                way,
                str(len(own)),
                f"{own[0]['before']:.2f}",
                f"{np.mean([x['after'] for x in own]):.2f}",
                f"{lost.mean():.2f} ({lost.min():.2f} to {lost.max():.2f})",
                f"{max(x['left'] for x in own):.4f}",
                f"{np.mean(zlib):.3f}" if zlib else "",
                ", ".join(dict.fromkeys(x["policy"] for x in own)),
                f"{np.mean([x['seconds'] for x in own]) / 60:.1f}",
                "" if most is None else f"<= {most}: {'yes' if right else 'NO'}",
            ],
            right,
        )


def main() -> int:
    """Run what the log does not have, and print its table; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=["resnet20", "resnet56"])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--ways", default="amcc,torch")
    parser.add_argument("--shares", default="0.4,0.2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for what is compiled; by default a temporary one")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--options", default="", help="more options for amcc compile")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.log.read_text().splitlines()] if arguments.log.exists() else []
    ways, shares = arguments.ways.split(","), [float(text) for text in arguments.shares.split(",")]
    keys = [(n, s, w, seed) for seed in range(arguments.seeds) for n in arguments.names for s in shares for w in ways]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for key in () if arguments.report else keys:
            known = [(x["network"], x["share"], x["way"], x["seed"]) for x in lines]
            if key in known or (key[2] == "torch" and key[3]):  # nothing random in it
                continue
            lines.append(measured(key, arguments.options.split(), folder))
            with arguments.log.open("a") as log:
                log.write(json.dumps(lines[-1]) + "\n")
    found = list(rows_of(lines))
    print(machine())
    head = ["network", "removed", "way", "seeds", "top-1 before", "after", "lost", "left", "zlib", "found by"]
    print(table([*head, "minutes", "wanted"], [row for row, _ in found]))
    return int(not all(right for _, right in found))


if __name__ == "__main__":
    sys.exit(main())
