"""Budgets of latency: what was asked, what the table says, and what is measured in fresh processes.

    python benchmarks/latency.py [NAME...] [--asked 0.5,0.7] [--threads 1]

Each network is compiled without data and without repair (only its speed is of interest), with a table measured anew.
What ships is then measured here, beside the original, by a few lines that know nothing of amcc: three processes,
networks taking turns, the tenth percentile; the middle process counts. Once by the clock on the wall, and once by the
thread's own, which other work on the machine does not disturb; on a quiet machine they agree. Ends with 1 if the
second ratio is more than 3% from what was asked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import SHARED, amcc, machine, summary, table

NETWORKS = ["resnet20", "resnet56", "plain10", "mobilenet_w050", "mobilenet_v1_w050_160_imagenet"]
NETWORKS += ["mobilenet_v2_w100_224_imagenet"]
CLOSE = 0.03
PROCESSES = 3

ALONE = """
import json, sys, time
import numpy as np, onnxruntime as ort
ready = []
for path in sys.argv[2:]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[1])
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in session.get_inputs()}
    ready.append((session, {n: np.random.default_rng(0).random(s, np.float32) for n, s in shapes.items()}))
times, began = [[] for _ in ready], time.perf_counter()
while time.perf_counter() - began < 3 or len(times[0]) < 20:
    for (session, feeds), spent in zip(ready, times):
        for run in range(6):
            start = time.perf_counter(), time.process_time()
            session.run(None, feeds)
            spent += [(time.perf_counter() - start[0], time.process_time() - start[1])] if run else []
print(json.dumps([(1000 * np.percentile(spent, 10, axis=0)).tolist() for spent in times]))
"""


def measured(threads: int, *files: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Milliseconds of two files, by the wall's clock and by the process's."""
    found = []
    for _ in range(PROCESSES):
        arguments = [sys.executable, "-c", ALONE, str(threads), *map(str, files)]
        found.append(json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout))
    (wall, other) = (sorted((b[clock], a[clock]) for b, a in found) for clock in (0, 1))
    middle = [sorted(pairs, key=lambda pair: pair[1] / pair[0])[PROCESSES // 2] for pairs in (wall, other)]
    return middle[0], middle[1]


def said(model: Path, folder: Path, threads: int) -> float:
    """What the table alone says of the plan that shipped, as a share of the original."""
    from amcc.frontends.load import load
    from amcc.latency.clock import latency_of
    from amcc.latency.device import Local
    from amcc.passes.channels import analyze
    from amcc.passes.cost import CostModel
    from amcc.plan import Plan
    from amcc.planning import removal_of

    channels = analyze(load(model))
    shapes = {name: channels.graph.shape(name) for name in channels.graph.inputs}
    kept, _ = latency_of(channels, Local(threads=threads), shapes)
    removal = removal_of(Plan.read(folder / "plan.json"), channels)
    return CostModel(channels, pace=kept.pace()).of_removal(removal).latency / kept.whole


def main() -> int:
    """Compile and measure each; 1 if one is too far from what was asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NETWORKS)
    parser.add_argument("--asked", default="0.5,0.7")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    rows, far = [], 0
    with tempfile.TemporaryDirectory() as name:
        os.environ["AMCC_CACHE"] = str(Path(name) / "cache")
        for network in given.names:
            model = SHARED / "models" / f"{network}.onnx"
            for asked in map(float, given.asked.split(",")):
                out = Path(name) / f"{network}-{asked}.amcc"
                options = ["--search", "lagrange", "--recover", "none", "--emit", "onnx", "--calib-samples", "64"]
                budget = ["--budget", f"latency={asked}", "--latency-threads", str(given.threads), "-o", out]
                run = amcc("compile", model, *budget, *options, "--eval-samples", "64")
                if run.code:
                    print(network, asked, run.err.strip().splitlines()[-1], file=sys.stderr)
                    rows.append([network, asked, *[""] * 7, f"exit {run.code}", f"{run.seconds:.0f}"])
                    far += 1
                    continue
                found = summary(out)
                wall, (before, after) = measured(given.threads, model, out / "model.onnx")
                ratio, macs = after / before, found["totals"]["macs"]
                far += abs(ratio / asked - 1) > CLOSE
                kept = [line["kept"] for line in found["groups"]]
                shares = [said(model, out, given.threads), found["budget"][0]["ratio"]]
                figures = [f"{share:.3f}" for share in (macs["after"] / macs["before"], *shares)]
                times = [f"{before:.3f}", f"{after:.3f}", f"{ratio:.3f} ({1 / ratio:.2f}x)", f"{wall[1] / wall[0]:.3f}"]
                eights = f"{np.mean([k % 8 == 0 for k in kept]):.0%}"
                rows.append([network, asked, *figures, *times, eights, f"{run.seconds:.0f}"])
                print(rows[-1], file=sys.stderr, flush=True)
    print(machine())
    head = [
        "network",
        "asked",
        "MACs left",
        "table says",
        "plan when run",
        "original ms",
        "shipped ms",
        "fresh processes",
        "by the clock on the wall",
    ]
    print(table([*head, "groups at multiples of 8", "seconds"], rows))
    return int(far > 0)


if __name__ == "__main__":
    sys.exit(main())
