"""Workers against one: two processes of one thread each, and two actors on Ray; same bytes, and how long.

python benchmarks/workers.py [REPEATS]

ResNet-20 of ../shared on CIFAR-10, or, where that is missing, the digits of the examples. The three take turns, the
fastest run of each counts, and the search's seconds include the start of its workers. Ray's cluster runs already.
Needs two free cores: the load is printed beside.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import ROOT, SHARED, amcc, cifar, machine, summary, table

SEED = 0
EPISODES = 96
SHARE, OVERHEAD = 0.6, 1.1
FILES = ("model.onnx", "plan.json", "journal.jsonl")


def network(folder: Path) -> tuple[str, Path, dict[str, object]]:
    """A name, an ONNX file and the options that say which data it has."""
    if not (SHARED / "models").is_dir():
        digits = ROOT / "examples" / "digits"
        return "digits", digits / "model.onnx", {"--data": digits / "val.npz", "--calib": digits / "calib.npz"}
    data = {"--data": cifar("search", folder / "search.npz", "--count", "2000")}
    data |= {"--calib": cifar("fit", folder / "fit.npz", "--count", "500")}
    return "ResNet-20", SHARED / "models" / "resnet20.onnx", data


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


def digest(out: Path) -> str:
    """Of the files that must not differ."""
    return hashlib.sha256(b"".join((out / name).read_bytes() for name in FILES)).hexdigest()


def main(repeats: int) -> int:
    """Measure and compare; 1 if a claim does not hold."""
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, ray_cluster() as address:
        folder = Path(name)
        title, model, data = network(folder)
        options = {
            "--budget": "flops=0.5",
            "--search": "refine",
            "--episodes": EPISODES,
            "--seed": SEED,
            "--threads": 1,
        }
        words = [str(word) for pair in {**options, **data}.items() for word in pair]
        ways = {"one": [], "two workers": ["--workers", "2"]}
        if address is not None:
            ways["two actors on Ray"] = ["--workers", "2", "--ray", address]
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        digests = set()
        for repeat in range(repeats):
            for way, more in ways.items():
                out = folder / f"{repeat}-{way.replace(' ', '-')}.amcc"
                run = amcc("compile", model, *words, *more, "-o", out)
                if run.code:
                    print(run.err)
                    return 1
                seconds[way].append((summary(out)["timings"]["seconds"]["search"], run.seconds))
                digests.add(digest(out))
    search = {way: min(taken for taken, _ in runs) for way, runs in seconds.items()}
    whole = {way: min(taken for _, taken in runs) for way, runs in seconds.items()}
    rows = [
        [way, f"{search[way]:.1f}", f"{search[way] / search['one']:.2f}", f"{whole[way]:.1f}", " ".join(each)]
        for way, each in ((way, [f"{taken:.1f}" for taken, _ in runs]) for way, runs in seconds.items())
    ]
    print(f"{title}, {EPISODES} episodes, {repeats} runs each by turns; load before: {load:.1f}")
    print(machine())
    print(table(["", "search, s", "of one", "whole command, s", "all searches, s"], rows))
    holds = {"the same bytes": len(digests) == 1}
    holds[f"two workers take at most {SHARE} of the time"] = search["two workers"] <= SHARE * search["one"]
    if address is not None:
        on_ray = search["two actors on Ray"] / search["two workers"]
        holds[f"Ray takes at most {OVERHEAD} times as long as local workers ({on_ray:.2f})"] = on_ray <= OVERHEAD
    print(table(["claim", ""], [[claim, "holds" if true else "DOES NOT HOLD"] for claim, true in holds.items()]))
    return int(not all(holds.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
