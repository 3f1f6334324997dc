"""Does the search's score rank plans as the shipped networks do? Spearman's rank correlation over many plans.

    python benchmarks/proxy.py --log FILE.jsonl [--plans 51] [--report]

ResNet-20 at half the MACs: rules, plans around them at three distances, and random ones. Each plan is repaired and
fitted block by block as it would be shipped, and judged on the 5,000 images of the `search` split; the search's score
is what it sees of the first 1,000 of them. The log keeps a line for each plan.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import SHARED, cifar, machine, table

NAME, BUDGET, WANTED = "resnet20", "flops=0.5", 0.9


def ranks(values: list[float]) -> np.ndarray:
    """Ranks, equal values sharing their mean."""
    array = np.asarray(values)
    order = array.argsort().argsort().astype(float)
    for value in np.unique(array):
        order[array == value] = order[array == value].mean()
    return order


def spearman(one: list[float], other: list[float]) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def plans(problem: Any, count: int) -> list[np.ndarray]:
    """Rules, then what lies around them and, every fifth, a random walk."""
    from amcc.search import rules
    from amcc.search.environment import Environment
    from amcc.search.fit import fit
    from amcc.search.lagrange import lagrange
    from amcc.search.noise import disturbed

    random, environment = np.random.default_rng(1), Environment(problem)
    found = [rules.uniform(problem), rules.magnitude(problem)]
    found += [lagrange(problem, evenness) for evenness in (0.05, 0.1, 0.2, 0.4, 0.0)]
    while (number := len(found)) < count:
        if number % 5 == 0:
            found.append(fit(problem, environment.walk(lambda state, step: random.random())))
        else:
            near = found[(0, 3, 4, 6)[number % 4]]
            found.append(fit(problem, disturbed(problem, near, (0.03, 0.1, 0.2)[number % 3], random)))
    return found


def measure(log: Path, count: int) -> None:
    """Judge the plans that the log does not have."""
    from amcc.budget import Budget
    from amcc.data import load_data
    from amcc.metric import Evaluator
    from amcc.passes.recovery import reconstruct_blocks, repair
    from amcc.problems import problem_of
    from amcc.progress import Clock, Silent
    from amcc.settings import Settings
    from amcc.stages import DataSpec, Notes, candidate
    from amcc.study import open_subject, prepare

    done = len(log.read_text().splitlines()) if log.exists() else 0
    with tempfile.TemporaryDirectory() as name:
        search = cifar("search", Path(name) / "search.npz")
        calib = cifar("fit", Path(name) / "fit.npz", "--count", "5000")
        settings, clock = Settings(round=1), Clock(Silent())
        subject = open_subject(SHARED / "models" / f"{NAME}.onnx", None, None, settings, clock)
        study = prepare(subject, DataSpec(search, calib, search), settings, clock, Notes())
        judge = Evaluator(subject.graph, load_data(search, subject.graph), None)
        problem = problem_of(subject, study.learned, Budget.parse(BUDGET), settings, study.scorer)
        inputs = study.splits.calibration.inputs
        for keep in plans(problem, count)[done:]:
            removal = subject.channels.removal(keep, study.learned.orders)
            cut = candidate(subject, study.learned, removal)
            repaired = repair(subject.channels, removal, cut, inputs)
            shipped = reconstruct_blocks(subject.channels, removal, repaired, inputs)
            scores = {"reconstructed": judge.score(cut), "repaired": judge.score(repaired)}
            line = {"keep": keep.tolist(), "search": study.scorer(keep), **scores, "shipped": judge.score(shipped)}
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")


def main() -> int:
    """Measure or report; 1 where the search's score ranks worse than is claimed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--plans", type=int, default=51)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if not arguments.report:
        measure(arguments.log, arguments.plans)
    lines = [json.loads(line) for line in arguments.log.read_text().splitlines()]
    shipped = [line["shipped"] for line in lines]
    rows = [
        [key, f"{spearman([x[key] for x in lines], shipped):.3f}"] for key in ("reconstructed", "search", "repaired")
    ]
    print(machine())
    print(f"{len(lines)} plans of {NAME} at {BUDGET}, shipped top-1 {min(shipped):.2%} to {max(shipped):.2%}")
    print(table(["score", "Spearman's rank correlation with the shipped network's"], rows))
    return int(float(rows[1][1]) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
