"""Does what `--max-drop` promises hold? Networks of CIFAR-10 over several seeds, each checked on unseen images.

    python benchmarks/guarantee.py [NAME...] [--seeds N] [--first SEED] [--max-drop 0.5%] [--options TEXT] [--keep DIR]

amcc sees the `search` split (search and guard parts) and, without labels, the `fit` split. The `report` split is run
here in ONNX Runtime from the files that amcc wrote, not by amcc. Exits with 1 where it drops by more than was promised.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from cifar import accuracy, logits_of_onnx
from common import SHARED, amcc, cifar_data, machine, summary, table

UNSHOWN = 3


def main() -> int:
    """Compile each; 1 if a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=["resnet56"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--max-drop", default="0.5%")
    parser.add_argument("--keep", type=Path, help="leave the output folders here")
    parser.add_argument("--options", default="", help="more options for amcc compile")
    arguments = parser.parse_args()
    rows, broken, unshown = [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        data = cifar_data(folder)
        report = np.load(data["report"])
        images, labels = report["input"], report["label"]
        for network in arguments.names:
            model = SHARED / "models" / f"{network}.onnx"
            before = accuracy(logits_of_onnx(model, images), labels)
            for seed in range(arguments.first, arguments.first + arguments.seeds):
                out = folder / f"{network}-drop-{seed}.amcc"
                common = ["--max-drop", arguments.max_drop, "--data", data["search"], "--seed", str(seed), "-o", out]
                inputs = ["--calib", data["fit"], "--report-data", data["report"], "--force"]
                run = amcc("compile", model, *common, *inputs, *arguments.options.split())
                if run.code not in (0, UNSHOWN):
                    print(run.err, file=sys.stderr)
                    return 1
                if run.code == UNSHOWN:
                    unshown += 1
                    rows.append([network, seed, "-", "nothing ships", "-", "-", "-", "-", f"{run.seconds:.0f}"])
                else:
                    found = summary(out)
                    line = found["guarantee"]
                    drop = before - accuracy(logits_of_onnx(out / "model.onnx", images), labels)
                    held = drop <= 100 * line["limit"]
                    broken += not held
                    passed = f"{sum(c['passed'] for c in line['candidates'])} of {len(line['candidates'])}"
                    guarded = [f"{100 * (line['before'] - line['after']):+.2f}", f"{100 * line['bound']:.2f}"]
                    figures = [f"{found['budget'][0]['ratio']:.4f}", passed, *guarded, f"{drop:+.2f}"]
                    rows.append([network, seed, *figures, "yes" if held else "NO", f"{run.seconds:.0f}"])
                print(rows[-1], file=sys.stderr, flush=True)
    print(machine())
    head = ["network", "seed", "MACs", "plans passed", "drop on the guard part", "bound", "drop on unseen", "holds"]
    print(table([*head, "seconds"], rows))
    print(f"\n{len(rows) - broken - unshown} of {len(rows)} held, {broken} broken, {unshown} not shown")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
