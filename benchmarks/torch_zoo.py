"""The zoo as PyTorch: what `amcc convert` writes, beside ONNX Runtime, read back, and one training step.

python benchmarks/torch_zoo.py --zoo FOLDER --log FILE.jsonl [--only GLOB] [--largest MB] [--hours H] [--again]
python benchmarks/torch_zoo.py --zoo FOLDER --log FILE.jsonl --report [--markdown FILE.md]

FOLDER holds what `python -m zoo.export` wrote, or any ONNX files; the smallest come first. Every file has a process
of its own, with limits on CPU seconds and memory, unless --together says otherwise. The log keeps a line for each, and
what it has is not run again unless --again is given. Exits 1 where a claim does not hold for what was run.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _coverage.jobs import Found, Job, Limits, Log, Reporter, run_all
from common import ROOT

STATUSES = ("ok", "untrained", "refused", "wrong", "crash", "timeout", "memory")
WANTED, TOLERANCE = 0.95, 1e-4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--only", default="*", metavar="GLOB", help="files")
    parser.add_argument("--largest", type=float, default=float("inf"), metavar="MB", help="skip larger files")
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no file after this long")
    parser.add_argument("--seconds", type=float, default=120, help="CPU seconds a file")
    parser.add_argument("--memory", type=float, default=8, help="GB a file")
    parser.add_argument("--jobs", type=int, default=1, help="at once")
    parser.add_argument("--together", action="store_true", help="in this process, without limits: for small files")
    parser.add_argument("--again", action="store_true", help="also what the log has")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table from the log")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def files(given: argparse.Namespace) -> list[Path]:
    """What is asked for, the smallest first."""
    found = [path for path in given.zoo.glob("*.onnx") if fnmatch.fnmatch(path.name, given.only)]
    found = [path for path in found if path.stat().st_size <= given.largest * 1e6]
    return sorted(found, key=lambda path: (path.stat().st_size, path.name))


def run(given: argparse.Namespace, log: Log) -> None:
    begin = time.monotonic()

    def command(job: Job) -> list[str]:
        return [sys.executable, __file__, "--one", str(job.file), "--zoo", str(given.zoo), "--log", os.devnull]

    def show(line: Found) -> None:
        print(f"{line['status']:10}{line['network']:44}{line['cpu']:.0f} s", line.get("cause", ""), flush=True)

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    jobs = (Job("torch", file.stem, "onnx", file, "") for file in files(given))
    todo = (job for job in jobs if given.again or not log.has(job))
    todo = (job for job in todo if time.monotonic() - begin < given.hours * 3600)
    if given.together:
        for job in todo:
            line = {**job.key, **_here(job)}
            log.add(line)
            show(line)
        return
    run_all(todo, command, environment, log, Limits(given.seconds, int(given.memory * 2**30)), show=show)


class Kept:
    """What a job reports, kept in this process."""

    def __init__(self) -> None:
        self.found: Found = {}

    def __call__(self, **facts: Any) -> None:
        self.found |= facts

    def crashed(self, error: BaseException) -> None:
        self(status="crash", cause=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _here(job: Job) -> Found:
    import torch
    from _coverage.emit_job import run as convert_one

    torch.set_num_threads(1)
    begin, kept = time.process_time(), Kept()
    assert job.file is not None
    convert_one(job.file, kept)
    return {**kept.found, "cpu": round(time.process_time() - begin, 2)}


def report(given: argparse.Namespace, log: Log) -> int:
    lines = log.latest()
    tally = Counter(line["status"] for line in lines)
    emitted = [line for line in lines if line["status"] in ("ok", "untrained")]
    smooth = [line for line in emitted if not line.get("quantised")]
    errors = [line["error"] for line in smooth if line.get("error") is not None]
    trained = sum(line["status"] == "ok" for line in smooth)
    claims = {
        "written as PyTorch, outputs compared": (len(emitted) / max(len(lines), 1), WANTED),
        "state dict there and back": (
            sum(bool(line.get("round_trip")) for line in emitted) / max(len(emitted), 1),
            1.0,
        ),
        "finite gradients for every parameter, quantised networks aside": (trained / max(len(smooth), 1), 1.0),
    }
    text = [f"{len(lines)} files of {len(list(given.zoo.glob('*.onnx')))} in the zoo, the smallest first.\n"]
    text += ["| " + " | ".join(STATUSES) + " |", "|---" * len(STATUSES) + "|"]
    text += ["| " + " | ".join(str(tally[status]) for status in STATUSES) + " |\n"]
    text += ["| claim | found | wanted |", "|---|---|---|"]
    text += [f"| {claim} | {found:.1%} | >= {wanted:.0%} |" for claim, (found, wanted) in claims.items()]
    largest = f"{max(errors, default=0):.1e}"
    text += [f"| largest difference to ONNX Runtime, not quantised | {largest} | <= {TOLERANCE:.0e} |\n"]
    text += ["| file | came out as | why |", "|---|---|---|"]
    rest = sorted(
        (line for line in lines if line["status"] != "ok"), key=lambda line: (line["status"], line["network"])
    )
    text += [f"| {e['network']} | {e['status']} | {e.get('cause', '').replace('|', '/')[:200]} |" for e in rest]
    unchecked = [line for line in emitted if line.get("error") is None]
    text += [f"| {line['network']} | not compared | {line.get('unchecked', '')[:200]} |" for line in unchecked]
    print("\n".join(text))
    if given.markdown:
        given.markdown.write_text("\n".join(text) + "\n", encoding="utf-8")
    return 0 if all(found >= wanted for found, wanted in claims.values()) else 1


def main() -> int:
    given = arguments()
    if given.one:
        import torch
        from _coverage.emit_job import run as convert_one

        torch.set_num_threads(1)
        convert_one(given.one, Reporter())
        return 0
    log = Log(given.log)
    if not given.report:
        run(given, log)
        return 0
    return report(given, log)


if __name__ == "__main__":
    sys.exit(main())
