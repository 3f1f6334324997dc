"""Workers against one: two processes of one thread each, and two actors on Ray; same bytes, and how long.

python benchmarks/workers.py [REPEATS] [EPISODES]

ResNet-20 of ../shared on CIFAR-10, or, where that is missing, the digits of the examples; calibrated once, then
searched in each way by turns, with a journal. Seconds are the search's, the start of its workers included; Ray's
cluster runs already. The fastest run of each way counts. Needs two free cores: the load is printed beside.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import ROOT, SHARED, cifar, machine, table

sys.path.insert(0, str(ROOT))
os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}

from amcc.budget import Budget
from amcc.progress import Clock, Silent
from amcc.settings import Settings
from amcc.stages import DataSpec, Notes
from amcc.study import Study, find, hire, open_subject, prepare

SHARE, OVERHEAD = 0.6, 1.1


def study(folder: Path, episodes: int) -> tuple[str, Study]:
    """The network's name, and the network calibrated on one thread."""
    settings = Settings(search="refine", episodes=episodes, seed=0, threads=1)
    if (SHARED / "models").is_dir():
        title, model = "ResNet-20", SHARED / "models" / "resnet20.onnx"
        fit = cifar("fit", folder / "fit.npz", "--count", "500")
        data = DataSpec(cifar("search", folder / "search.npz", "--count", "2000"), fit)
    else:
        title, examples = "digits", ROOT / "examples" / "digits"
        model, data = examples / "model.onnx", DataSpec(examples / "val.npz", examples / "calib.npz")
    clock = Clock(Silent())
    return title, prepare(open_subject(model, None, None, settings, clock), data, settings, clock, Notes())


@contextmanager
def ray_cluster() -> Iterator[str | None]:
    """The address of a Ray of two cores on this machine; None where Ray is not installed."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        yield None
        return
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield str(nodes.address)
    finally:
        nodes.shutdown()


def main(repeats: int, episodes: int) -> int:
    """Measure and compare; 1 if a claim does not hold."""
    ways: dict[str, dict[str, Any]] = {"one": {}, "two workers": {"workers": 2}}
    seconds: dict[str, list[float]] = {}
    journals = set()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, ray_cluster() as address:
        folder = Path(name)
        title, ready = study(folder, episodes)
        if address is not None:
            ways["two actors on Ray"] = {"workers": 2, "ray": address}
        for _ in range(repeats):
            for way, options in ways.items():
                journal = folder / "journal.jsonl"
                with hire(replace(ready, settings=replace(ready.settings, **options))) as own:
                    began = time.perf_counter()
                    find(own, Budget.parse("flops=0.5"), journal, ship_on_interrupt=False)
                    seconds.setdefault(way, []).append(time.perf_counter() - began)
                journals.add(journal.read_bytes())
                journal.unlink()
    best = {way: min(runs) for way, runs in seconds.items()}
    rows = [
        [way, f"{best[way]:.1f}", f"{best[way] / best['one']:.2f}", " ".join(f"{taken:.1f}" for taken in runs)]
        for way, runs in seconds.items()
    ]
    print(f"{title}, {episodes} episodes, {repeats} runs each by turns; load before: {load:.1f}")
    print(machine())
    print(table(["", "s", "of one", "all runs, s"], rows))
    holds = {"the same journals, byte by byte": len(journals) == 1}
    holds[f"two workers take at most {SHARE} of the time of one"] = best["two workers"] <= SHARE * best["one"]
    if address is not None:
        more = best["two actors on Ray"] / best["two workers"]
        holds[f"Ray takes at most {OVERHEAD} times as long as local workers ({more:.2f})"] = more <= OVERHEAD
    print(table(["claim", ""], [[claim, "holds" if true else "DOES NOT HOLD"] for claim, true in holds.items()]))
    return int(not all(holds.values()))


if __name__ == "__main__":
    sys.exit(main(*(int(given) for given in (*sys.argv[1:], *("3", "64")[len(sys.argv) - 1 :]))))
