"""Kills a search with SIGKILL at random moments and resumes it; run as a script.

    python tests/search_kills.py FOLDER SEED POLICY:WORKERS:KILLS...

For each policy, with so many workers and kills, leaves in FOLDER/POLICY-WORKERS `whole.json` and `whole.jsonl` (result
and journal of an undisturbed run without workers), `killed.json` and `killed.jsonl` (of the run that was killed, with
workers if there are several), and prints a line: how many lines the journal had after each kill. Forks, so that torch
is loaded only once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch._dynamo  # noqa: F401  optimizers load it; once, before the forks

import amcc.search.agent  # noqa: F401
from amcc.ir import Array
from amcc.search import search
from amcc.workers.local import Processes
from amcc.workers.pool import Pool
from tests.search_problems import Chain

EPISODES = 60


@dataclasses.dataclass(frozen=True)
class Slow:
    """The score of a chain after a while that differs from plan to plan."""

    chain: Chain

    def __call__(self, keep: Array) -> float:
        time.sleep(0.002 + 0.001 * (int(keep.sum()) % 7))
        return self.chain.score(keep)


def child(folder: Path, name: str, policy: str, workers: int) -> int:
    """Start a search in a process of its own; its number."""
    process = os.fork()
    if process:
        return process
    chain = Chain(4, seed=1)
    slow = Slow(chain)
    problem = dataclasses.replace(chain.problem("flops=0.5"), score=slow)
    with Pool(lambda: Processes(slow, "the score", workers)) as pool:
        result = search(
            problem,
            policy,
            episodes=EPISODES,
            seed=3,
            journal=folder / f"{name}.jsonl",
            fingerprint="f00d",
            scores_of=pool.map if workers > 1 else None,
        )
    facts = [[r.policy, r.keep, r.score] for r in (result.best, *result.records)]
    (folder / f"{name}.json").write_text(json.dumps(facts))
    os._exit(0)


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def kill(folder: Path, draw: random.Random, policy: str, workers: int, kills: int) -> list[int]:
    """Kill a search so many times and let it end; the lines in its journal after each kill."""
    os.waitpid(child(folder, "whole", policy, 1), 0)
    journal, found = folder / "killed.jsonl", []
    for _ in range(kills):
        if lines(journal) > EPISODES // 2:
            journal.unlink()
        wanted = lines(journal) + draw.randrange(1, 12)
        process = child(folder, "killed", policy, workers)
        while lines(journal) < wanted:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.03))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        found.append(lines(journal))
    os.waitpid(child(folder, "killed", policy, workers), 0)
    return found


def main(folder: Path, seed: int, cases: list[str]) -> None:
    for case in cases:
        policy, workers, kills = case.split(":")
        own = folder / f"{policy}-{workers}"
        own.mkdir()
        print(*kill(own, random.Random(seed), policy, int(workers), int(kills)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
