"""onnx's own tests of every operator, with amcc's PyTorch backend and with onnx2torch as the backend under test.

python benchmarks/onnx_backend.py --cases FOLDER --write
python benchmarks/onnx_backend.py --cases FOLDER --log FILE.jsonl [--backend NAME] [--only GLOB] [--again]
python benchmarks/onnx_backend.py --cases FOLDER --log FILE.jsonl --report [--markdown FILE.md]

The first line writes the node cases of the installed onnx package into a folder; the simple and the PyTorch suites
lie in the package. A case counts where it is of the standard domain, on numbers of 8 bits and more or bool, and not
random. The log keeps a line for each case and backend; what it has is not run again, unless --again is given.
onnx2torch may live in an environment of its own: --peer-python. Exits 1 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from _onnx_backend.cases import SUITES, Case, cases, write
from common import ROOT

WORKER = ROOT / "benchmarks/_onnx_backend/worker.py"
OURS, PEER = "amcc", "onnx2torch"
STATUSES = ("pass", "refused", "error", "rounding", "disputed", "wrong")
WANTED = 0.9


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--write", action="store_true", help="write the cases and run nothing")
    parser.add_argument("--log", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--backend", choices=(OURS, PEER), default=OURS)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has onnx2torch")
    parser.add_argument("--only", default="*", metavar="GLOB", help="cases, as suite/name")
    parser.add_argument("--again", action="store_true", help="also what the log has")
    parser.add_argument("--unless-passed", action="store_true", help="also what the log has, but not what passed")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table from the log")
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


class Worker:
    """A process that judges one case after another; one that dies is replaced."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._command, self._environment = command, environment
        self._process: subprocess.Popen[str] | None = None

    def judge(self, case: Case) -> dict[str, str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        print(case.folder, file=process.stdin, flush=True)
        process.stdout.readline()
        answer = process.stdout.readline()
        if answer:
            found: dict[str, str] = json.loads(answer)
            return found
        return {"status": "error", "why": f"the process ended with {process.wait()}"}

    def end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


def run(given: argparse.Namespace, listed: Iterable[Case]) -> None:
    latest = {(line["backend"], line["case"]): line["status"] for line in lines(given.log)}
    done = {key for key, result in latest.items() if result == "pass" or not given.unless_passed}
    python = sys.executable if given.backend == OURS else given.peer_python
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])) if given.backend == OURS else ""
    worker = Worker([python, str(WORKER), given.backend], {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    with given.log.open("a", encoding="utf-8") as file:
        for case in listed:
            if case.left_out or not fnmatch.fnmatch(case.name, given.only):
                continue
            if not given.again and (given.backend, case.name) in done:
                continue
            line = {"backend": given.backend, "case": case.name, "ops": case.ops, **worker.judge(case)}
            print(json.dumps(line), file=file, flush=True)
            if line["status"] != "pass":
                print(line["status"], case.name, line["why"], flush=True)
    worker.end()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def status(line: dict[str, Any]) -> str:
    """A wrong answer that ONNX Runtime gives too is disputed."""
    return "disputed" if line["status"] == "wrong" and line.get("onnxruntime") == "yes" else line["status"]


def report(given: argparse.Namespace, listed: Sequence[Case]) -> int:
    """Print the table; 1 where a claim does not hold."""
    import onnx

    latest = {(line["backend"], line["case"]): line for line in lines(given.log)}
    counted = [case for case in listed if not case.left_out]
    found = {
        backend: {case.name: latest[backend, case.name] for case in counted if (backend, case.name) in latest}
        for backend in (OURS, PEER)
    }
    tables = [f"onnx {onnx.__version__}: {len(counted)} cases count of {len(listed)}.\n"]
    tables += _by_suite(counted, found)
    why = Counter(case.left_out for case in listed if case.left_out)
    tables.append("\nLeft out: " + ", ".join(f"{reason} ({count})" for reason, count in why.most_common()) + ".\n")
    tables += _not_passed(found[OURS])
    text = "\n".join(tables)
    print(text)
    if given.markdown:
        given.markdown.write_text(text + "\n", encoding="utf-8")
    tally = {backend: Counter(map(status, found[backend].values())) for backend in found}
    ours = tally[OURS]
    claims = (ours["pass"] >= WANTED * len(counted), not ours["wrong"], ours["pass"] > tally[PEER]["pass"])
    return 0 if all(claims) else 1


def _by_suite(counted: Sequence[Case], found: dict[str, dict[str, Any]]) -> list[str]:
    rows = [
        "| suite | cases | backend | passed | " + " | ".join(STATUSES[1:]) + " |",
        "|---" * (len(STATUSES) + 3) + "|",
    ]
    for suite in (*SUITES, "all"):
        of = [case for case in counted if suite in (case.suite, "all")]
        for backend, results in found.items():
            tally = Counter(status(results[case.name]) for case in of if case.name in results)
            share = f"{tally['pass']} ({tally['pass'] / max(len(of), 1):.1%})"
            rest = " | ".join(str(tally[s]) for s in STATUSES[1:])
            rows.append(f"| {suite} | {len(of)} | {backend} | {share} | {rest} |")
    return rows


def _not_passed(results: dict[str, Any]) -> list[str]:
    rows = [f"What {OURS} does not pass:\n", "| case | came out as | why |", "|---|---|---|"]
    for name, line in results.items():
        if line["status"] != "pass":
            rows.append(f"| {name} | {status(line)} | {line['why'].replace('|', '/')} |")
    return rows


def main() -> int:
    given = arguments()
    if given.write:
        write(given.cases)
        return 0
    listed = list(cases(given.cases))
    if given.report:
        return report(given, listed)
    run(given, listed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
