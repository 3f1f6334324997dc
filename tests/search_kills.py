"""Kills a search with SIGKILL at random moments and resumes it; run as a script.

    python tests/search_kills.py FOLDER KILLS SEED

Leaves in FOLDER `whole.json` and `whole.jsonl` (result and journal of an undisturbed run),
`killed.json` and `killed.jsonl` (of the run that was killed), and prints a line a kill: the lines
in the journal afterwards. Forks, so that torch is loaded only once.
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
from tests.search_problems import Chain

EPISODES = 40


def child(folder: Path, name: str) -> int:
    """Start a search in a process of its own; its number."""
    process = os.fork()
    if process:
        return process
    chain = Chain(4, seed=1)
    problem = chain.problem("flops=0.5")

    def score(keep: Array) -> float:
        time.sleep(0.004)
        return chain.score(keep)

    slow = dataclasses.replace(problem, score=score)
    result = search(slow, "ddpg", episodes=EPISODES, seed=3, journal=folder / f"{name}.jsonl", fingerprint="f00d")
    facts = [[r.policy, r.keep, r.score] for r in (result.best, *result.records)]
    (folder / f"{name}.json").write_text(json.dumps(facts))
    os._exit(0)


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def main(folder: Path, kills: int, seed: int) -> None:
    os.waitpid(child(folder, "whole"), 0)
    draw = random.Random(seed)
    journal = folder / "killed.jsonl"
    for _ in range(kills):
        if lines(journal) > EPISODES // 2:
            journal.unlink()
        wanted = lines(journal) + draw.randrange(1, 12)
        process = child(folder, "killed")
        while lines(journal) < wanted:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.03))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        print(lines(journal), flush=True)
    os.waitpid(child(folder, "killed"), 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
