"""A search killed with SIGKILL at random moments and taken up again, against one left alone: same plan, same bytes.

python benchmarks/kill_and_resume.py [KILLS] [--policy NAME] [--workers N]

The search that is left alone has no workers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, SHARED, amcc, cifar, machine, table

SEED = 0
EPISODES = 120


def command(folder: Path, out: Path, policy: str, workers: int = 1) -> list[str]:
    """The compilation under test, recovery included."""
    options = {"--budget": "flops=0.5", "--data": folder / "search.npz", "--calib": folder / "calib.npz", "-o": out}
    options |= {"--episodes": EPISODES, "--eval-samples": 500, "--calib-samples": 300, "--seed": SEED}
    options |= {"--search": policy, "--workers": workers}
    pairs = [str(part) for option in options.items() for part in option]
    return ["compile", str(SHARED / "models" / "resnet20.onnx"), *pairs]


def hashes(out: Path) -> dict[str, str]:
    """Of the files that must not differ."""
    names = ("model.onnx", "plan.json", "model.safetensors", "model.py", "journal.jsonl")
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}


def lines(journal: Path) -> int:
    """Episodes written so far."""
    return journal.read_bytes().count(b"\n") if journal.is_file() else 0


def kill_once(arguments: list[str], journal: Path, wanted: int, wait: float, log: Path) -> tuple[bool, int]:
    """Start, kill some time after an episode; whether it was still running, and the episodes then."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    wanted = max(wanted, lines(journal) + 1)
    with log.open("ab") as sink:
        process = subprocess.Popen([sys.executable, "-m", "amcc.cli", *arguments], stdout=sink, stderr=sink, env=env)
        while process.poll() is None and lines(journal) < wanted:
            time.sleep(0.005)
        time.sleep(wait)
        running = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    return running, lines(journal)


def main(kills: int, policy: str, workers: int) -> int:
    """Kill and compare; 1 if anything differs."""
    moment = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cifar("search", folder / "search.npz", "--count", "1000")
        cifar("fit", folder / "calib.npz", "--count", "300")
        calm = amcc(*command(folder, folder / "calm.amcc", policy))
        if calm.code:
            print(calm.err)
            return 1
        out, rows = folder / "killed.amcc", []
        journal = out.with_name(out.name + ".journal.jsonl")
        for number, wanted in enumerate(sorted(moment.choices(range(1, EPISODES - EPISODES // 4), k=kills))):
            wait = moment.uniform(0, 0.25)
            arguments = command(folder, out, policy, workers)
            running, episodes = kill_once(arguments, journal, wanted, wait, folder / "log")
            rows.append([number + 1, "in the search" if running else "too late", episodes])
            if not running:
                print((folder / "log").read_text()[-2000:])
                return 1
        last = amcc(*command(folder, out, policy, workers))
        if last.code:
            print(last.err)
            return 1
        same = {key: value == hashes(out)[key] for key, value in hashes(folder / "calm.amcc").items()}
    print(f"policy {policy}, {workers} workers; {machine()}")
    print(table(["kill", "when", "lines in the journal then"], rows))
    print(table(["file", "same bytes"], [[key, "yes" if value else "NO"] for key, value in same.items()]))
    print(f"{calm.seconds:.0f} s undisturbed")
    return int(not all(same.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", nargs="?", type=int, default=20)
    parser.add_argument("--policy", default="ddpg")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    sys.exit(main(given.kills, given.policy, given.workers))
