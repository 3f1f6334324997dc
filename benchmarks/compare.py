"""All policies at equal evaluations on trained networks at half the MACs: `amcc search --compare`, network by network.

    python benchmarks/compare.py --keep FOLDER [NAME...] [--episodes 100] [--seeds 3] [--options "..."]
    python benchmarks/compare.py --keep FOLDER --report

Each network's result stays in FOLDER, and a run that was killed goes on from the journals there. The table has for each
policy the best score of a search (1,000 samples, weights repaired in haste) and the metric of what it found,
repaired as it would be shipped, on samples that no search saw: means and standard deviations over the seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from accuracy import CASES, data_of
from common import SHARED, amcc, machine, table


def compared(name: str, folder: Path, options: list[str]) -> dict[str, Any] | None:
    """Run the comparison of a network, or read it where it is done; None where it fails."""
    out = folder / f"{name}.search"
    if not (out / "compare.json").is_file():
        data = data_of(CASES[name], folder)
        inputs = ["--data", data["search"], "--report-data", data["report"]]
        inputs += ["--calib", data["fit"]] if data["fit"] != data["search"] else []
        model = SHARED / "models" / f"{name}.onnx"
        run = amcc(
            "search", model, "--budget", "flops=0.5", "--compare", "--ship", "each", *inputs, "-o", out, *options
        )
        if run.code:
            print(run.err[-2000:], file=sys.stderr)
            return None
    found: dict[str, Any] = json.loads((out / "compare.json").read_text())
    return found


def percent(spread: dict[str, float] | None) -> str:
    """Mean and deviation of a share."""
    return "" if spread is None else f"{100 * spread['mean']:.2f} ± {100 * spread['spread']:.2f}"


def shown(name: str, found: dict[str, Any]) -> str:
    """The table of one network, the best policy first."""
    rows = []
    for rival in found["rivals"]:
        plays = rival["plays"]
        own = [play["own"] for play in plays if play["own"] is not None]
        by = ", ".join(sorted({play["found_by"] for play in plays}))
        thinking = next(one["thinking"] for one in found["timings"]["policies"] if one["policy"] == rival["policy"])
        mine = f"{100 * sum(own) / len(own):.2f}" if own else ""
        scores = [percent(rival["score"]), mine, percent(rival["report"])]
        rows.append([rival["policy"], *scores, by, max(play["evaluations"] for play in plays), f"{thinking:.1f}"])
    head = ["policy", "best score, %", "its own plans'", "shipped, on the report", "found by", "evaluations"]
    original, each = found["original"], found["timings"]["evaluation"]
    first = (
        f"**{name}**: {100 * original['search']:.2f} on the search's samples and {100 * original['report']:.2f} on the "
        f"report's before; {len(found['seeds'])} seeds, at most {found['episodes']} evaluations a search"
    )
    first += f", {each:.2f} s each" if each else ""
    return f"{first}\n\n{table([*head, 'seconds besides'], rows)}\n"


def ranks(found: list[dict[str, Any]]) -> str:
    """Of each policy the mean over networks of how far it is behind the best, in the search and as shipped."""
    behind: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        best = max(rival["report"]["mean"] for rival in one["rivals"])
        for rival in one["rivals"]:
            behind.setdefault(rival["policy"], []).append((rival["behind"], best - rival["report"]["mean"]))
    rows = []
    for policy, gaps in sorted(behind.items(), key=lambda entry: sum(gap for _, gap in entry[1]) / len(entry[1])):
        search, report = (100 * sum(gap[which] for gap in gaps) / len(gaps) for which in range(2))
        rows.append([policy, f"{search:.2f}", f"{report:.2f}", sum(gap[0] <= 0 for gap in gaps), len(gaps)])
    return table(["policy", "score behind the best", "shipped, behind the best", "best score on", "of networks"], rows)


def main() -> int:
    """Compare and print; 1 if a run fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "amcc-compare")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--options", default="--threads 1", help="more options for amcc search")
    parser.add_argument("--report", action="store_true", help="of what is there already")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    options = ["--episodes", str(given.episodes), "--seeds", str(given.seeds), "-q", *given.options.split()]
    done, failed = {}, 0
    for name in given.names:
        if given.report and not (given.keep / f"{name}.search" / "compare.json").is_file():
            continue
        found = compared(name, given.keep, options)
        if found is None:
            failed += 1
            continue
        done[name] = found
        print(shown(name, found), file=sys.stderr, flush=True)
    print(machine())
    print("\n" + "\n".join(shown(name, found) for name, found in done.items()))
    if done:
        print(ranks(list(done.values())))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
