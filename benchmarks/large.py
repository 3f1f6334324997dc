"""Analysis of very large networks: seconds and peak memory, each in a process of its own.

python benchmarks/large.py [NAME...] [--limit SECONDS]

An 8-billion-parameter Llama must be analysed within 30 s and 2 GB. Loading is shown too, but not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, table
from large_graphs import LARGE

# Seconds, and MB of memory (None: not claimed).
WANTED: dict[str, tuple[float, int | None]] = {name: (10, None) for name in LARGE} | {"llama-8b": (30, 2000)}


def memory(key: str) -> int:
    """MB of this process: `VmHWM` (peak), `VmRSS`, `RssAnon` (without mapped files)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) // 1024


def measure(name: str) -> dict[str, object]:
    """Build, load and analyse one network in this process."""
    from amcc.frontends.load import load
    from amcc.passes.channels import analyze
    from amcc.problems import within_reach

    with tempfile.TemporaryDirectory() as folder:
        path = LARGE[name](Path(folder))
        begin = time.perf_counter()
        graph = load(path)
        loaded, load_peak = time.perf_counter() - begin, memory("VmHWM")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, begin = memory("VmRSS"), time.process_time()
        channels = analyze(graph)
        seconds, peak = time.process_time() - begin, memory("VmHWM")
        begin = time.process_time()
        reach = 1 - within_reach(channels)
    return {
        "nodes": len(graph.nodes),
        "parameters": sum(a.size for a in graph.params.values()),
        "load": loaded,
        "load_peak": load_peak,
        "seconds": seconds,
        "before": before,
        "peak": peak,
        "own": memory("RssAnon"),
        "groups": len(channels.groups),
        "units": channels.units,
        "reach": reach,
        "cost_seconds": time.process_time() - begin,
        "locks": [f"{lock.op}: {lock.reason}" for lock in sorted(channels.ledger, key=lambda k: -k.macs)[:3]],
    }


def row(name: str, limit: float) -> tuple[list[object], bool]:
    """One network measured in a process of its own."""
    command = [sys.executable, __file__, "--measure", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return [name, f"over {limit:.0f} s", *[""] * 8], False
    if done.returncode:
        return [name, done.stderr.strip().splitlines()[-1][:120], *[""] * 8], False
    found = json.loads(done.stdout.splitlines()[-1])
    seconds, megabytes = WANTED[name]
    met = found["seconds"] <= seconds and (megabytes is None or found["peak"] <= megabytes)
    shown: list[object] = [
        name,
        f"{found['nodes']:,}",
        f"{found['parameters']:,}",
        f"{found['load']:.1f} ({found['load_peak']:,} MB)",
        f"{found['seconds']:.2f}",
        f"{found['peak']:,} ({found['before']:,} before)",
        f"{found['groups']:,}",
        f"{found['units']:,}",
        f"{found['reach']:.4f}",
        f"{found['cost_seconds']:.2f}",
        "; ".join(found["locks"]),
    ]
    return shown, met


def main() -> int:
    """Measure; 1 if one falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(LARGE))
    parser.add_argument("--limit", type=float, default=300, help="seconds a network, building and loading included")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return 0
    print(machine())
    head = ["network", "nodes", "parameters", "load s", "analysis CPU s", "peak MB", "groups", "units", "reach"]
    head += ["reach CPU s", "costliest locks", "met"]
    rows = []
    for name in given.names or LARGE:
        shown, met = row(name, given.limit)
        rows.append([*shown, *[""] * (11 - len(shown)), "yes" if met else "NO"])
    print(table(head, rows))
    return int(any(r[-1] == "NO" for r in rows))


if __name__ == "__main__":
    sys.exit(main())
