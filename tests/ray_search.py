"""A search on a Ray cluster of two nodes on this machine, one of which is killed in the middle; run as a script.

    python tests/ray_search.py FOLDER

Leaves in FOLDER `here.jsonl` and `ray.jsonl`, the journals of the search without workers and on the cluster, and
prints as JSON how many nodes scored plans and whether the results are equal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from amcc.ir import Array
from amcc.search import Problem, search
from amcc.search.journal import Record
from amcc.workers.cluster import Cluster
from amcc.workers.pool import Pool
from tests.search_problems import Chain

EPISODES, KILLED_AT = 120, 40


@dataclasses.dataclass(frozen=True)
class Slow:
    """The score of a chain after a while that differs from plan to plan; each node leaves its name in a folder."""

    chain: Chain
    folder: Path

    def __call__(self, keep: Array) -> float:
        import ray

        (self.folder / ray.get_runtime_context().get_node_id()).touch()
        time.sleep(0.02 + 0.01 * (int(keep.sum()) % 5))
        return self.chain.score(keep)


def work_until(pool: Pool, problem: Problem, seen: Path, nodes: int) -> None:
    """Keep the workers busy until so many nodes have taken part."""
    while len(list(seen.iterdir())) < nodes:
        list(pool.map([problem.full] * 8))


def main(folder: Path) -> None:
    os.environ["PYTHONPATH"] = sys.path[0]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as Nodes

    chain = Chain(4, seed=1)
    seen = folder / "nodes"
    seen.mkdir()
    same: dict[str, Any] = {"episodes": EPISODES, "seed": 3, "fingerprint": "f00d"}
    problem = chain.problem("flops=0.5")
    here = search(problem, "refine", journal=folder / "here.jsonl", **same)

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other = nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()

        def kill(record: Record) -> None:
            if record.episode == KILLED_AT:
                nodes.remove_node(other, allow_graceful=False)
                nodes.add_node(num_cpus=1)

        with Pool(lambda: Cluster(Slow(chain, seen), "the score", nodes.address, None, 1)) as pool:
            work_until(pool, problem, seen, 2)
            options: dict[str, Any] = {**same, "progress": kill, "scores_of": pool.map}
            there = search(problem, "refine", journal=folder / "ray.jsonl", **options)
            work_until(pool, problem, seen, 3)
    finally:
        nodes.shutdown()
    print(json.dumps({"nodes": len(list(seen.iterdir())), "same": here.records == there.records}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
