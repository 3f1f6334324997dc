"""The zoo, with amcc, Torch-Pruning and onnxsim side by side: what comes through, how far, how fast, and why not.

python benchmarks/coverage.py --zoo FOLDER --log FILE.jsonl [--only GLOB] [--tools amcc,tp,onnxsim] [--jobs N]
python benchmarks/coverage.py --zoo FOLDER --log FILE.jsonl --report [--markdown FILE.md] [--csv FILE.csv]

FOLDER holds what `python -m zoo.export` wrote, or any ONNX files. Every tool meets every network in a process of
its own, with limits on CPU seconds and memory. The log keeps a line for each; what it has for the same version of a
tool and the same file is not run again, unless --again is given. Torch-Pruning and onnxsim, with torchvision, timm
and transformers, may live in an environment of their own: --peer-python.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from _coverage.jobs import Found, Job, Limits, Log, Reporter, run_all
from common import ROOT

if TYPE_CHECKING:
    from zoo import Entry

TOOLS = ("amcc", "tp", "onnxsim")
PACKAGES = {"tp": "torch-pruning", "onnxsim": "onnxsim"}
VARIANTS = ("onnx", "raw", "old")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, metavar="FOLDER", help="the exported networks")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE.jsonl", help="a line for each job that ended")
    parser.add_argument("--only", default="*", metavar="GLOB", help="networks or files")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="files of a network: onnx, raw, old")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--jobs", type=int, default=1, help="at once")
    parser.add_argument("--seconds", type=float, default=120, help="CPU seconds a job")
    parser.add_argument("--memory", type=float, default=8, help="GB a job")
    parser.add_argument("--largest", type=float, default=float("inf"), metavar="MB", help="skip larger files")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--amcc", type=Path, default=ROOT, metavar="FOLDER", help="the amcc that is measured")
    parser.add_argument("--again", action="store_true", help="also what the log has")
    parser.add_argument("--unless-ok", action="store_true", help="not what was ok in an earlier version of the tool")
    parser.add_argument("--report", action="store_true", help="run nothing, write the tables from the log")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--triage", type=Path, help="a page on what amcc does not do yet")
    parser.add_argument("--one", choices=TOOLS, help=argparse.SUPPRESS)
    return parser.parse_args()


def jobs(given: argparse.Namespace) -> Iterator[Job]:
    """What is asked for: each file with amcc and onnxsim, each network's module with Torch-Pruning."""
    tools, variants = given.tools.split(","), given.variants.split(",")
    versions = {tool: version(tool, given) for tool in tools}
    modules = {name for name, entry in _catalogue().items() if entry.build is not None} if "tp" in tools else set()
    files = sorted(given.zoo.glob("*.onnx"), key=lambda path: (path.stat().st_size, path.name))
    for path in files:
        network, variant = split_name(path)
        asked = any(fnmatch.fnmatch(name, given.only) for name in (network, path.name, path.stem))
        if not asked or variant not in variants or path.stat().st_size > given.largest * 1e6:
            continue
        for tool in tools:
            if tool != "tp":
                yield Job(tool, network, variant, path, versions[tool])
            elif network in modules and variant == "onnx":
                yield Job(tool, network, "module", None, versions[tool])


def split_name(path: Path) -> tuple[str, str]:
    """A network's name and which of its files this is: `net.raw.onnx` is ("net", "raw")."""
    name, _, variant = path.stem.rpartition(".")
    return (name, variant) if variant in VARIANTS else (path.stem, "onnx")


def _catalogue() -> dict[str, Entry]:
    from zoo import catalogue

    return catalogue()


def version(tool: str, given: argparse.Namespace) -> str:
    """Of amcc the commit, of a peer its package's version."""
    if tool == "amcc":
        stated = given.amcc / "COMMIT"
        if stated.is_file():
            return stated.read_text().strip()
        git = ["git", "-C", str(given.amcc)]
        commit = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True).stdout
        changed = subprocess.run(
            [*git, "status", "--porcelain", "amcc", "passes", "frontends", "backends"], capture_output=True, text=True
        )
        return commit.strip() + "+" * bool(changed.stdout)
    code = f"import importlib.metadata as m; print(m.version('{PACKAGES[tool]}'))"
    done = subprocess.run([given.peer_python, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{given.peer_python} has no {PACKAGES[tool]}: name an interpreter with --peer-python")
    return done.stdout.strip()


def one(given: argparse.Namespace) -> int:
    """A job's own process: one tool, on the file or network that --only names."""
    report = Reporter()
    target = given.only
    if given.one == "amcc":
        from _coverage.amcc_job import run

        run(Path(target), report)
    elif given.one == "tp":
        from _coverage.torch_pruning_job import run as run_tp

        run_tp(target, report)
    else:
        from _coverage.onnxsim_job import run as run_onnxsim

        run_onnxsim(Path(target), report)
    return 0


def main() -> int:
    given = arguments()
    if given.one:
        return one(given)
    log = Log(given.log)
    if not given.report:
        _run(given, log)
    from _coverage.tables import write

    known = {name: (entry.source, entry.family) for name, entry in _catalogue().items()}
    return write(log.latest(), known, {"markdown": given.markdown, "csv": given.csv, "triage": given.triage})


def _run(given: argparse.Namespace, log: Log) -> None:
    def command(job: Job) -> list[str]:
        target = str(job.file) if job.file else job.network
        python = sys.executable if job.tool == "amcc" else given.peer_python
        return [python, __file__, "--one", job.tool, "--only", target, "--zoo", str(given.zoo), "--log", os.devnull]

    def show(line: Found) -> None:
        nearest = f"reach {line['reach']:.3f}" if "reach" in line else ""
        facts = [line["status"], f"{line['cpu']:.0f} s", f"{line['peak']} MB", nearest, line.get("cause", "")]
        print(f"{line['tool']:8}{line['network']:40}{line['variant']:8}", *facts, flush=True)

    path = os.pathsep.join(filter(None, [str(given.amcc), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    limits = Limits(given.seconds, int(given.memory * 2**30))
    skipped = log.fine if given.unless_ok else log.has
    todo = [job for job in jobs(given) if given.again or not skipped(job)]
    run_all(todo, command, environment, log, limits, at_once=given.jobs, show=show)


if __name__ == "__main__":
    sys.exit(main())
