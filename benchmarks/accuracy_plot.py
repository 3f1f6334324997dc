"""A picture of what `accuracy.py` found: points of top-1 lost, way by way, the paper's beside.

python benchmarks/accuracy_plot.py FILE.jsonl OUT.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from accuracy import CASES

WAYS = {
    "amcc": ("#2563eb", "amcc"),
    "uniform": ("#d97706", "one ratio for all groups, the same recovery"),
}
PAPER = {"resnet56": (2.7, 5.4, "AMC's paper, ResNet-56"), "plain10": (4.5, 6.6, "AMC's paper, Plain-20")}
"""Points lost at half the FLOPs without training by AMC and by uniform ratios, as quoted of its Table 2."""
PAPERS = (("#93c5fd", "AMC"), ("#fcd34d", "uniform"))
LEFT, RIGHT, BAR, GAP = 250, 690, 14, 14


def bar(y: float, scale: float, colour: str, label: str, values: Sequence[float]) -> str:
    """The mean as a bar from zero, with a line from the least to the largest value, and what it is of."""
    mean = sum(values) / len(values)
    least, most = (LEFT + scale * max(v, 0) for v in (min(values), max(values)))
    middle, end = y + BAR / 2, LEFT + scale * max(mean, 0)
    spread = f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="#0f172a"/>' if len(values) > 1 else ""
    return (
        f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR - 2}" fill="{colour}"/>{spread}'
        f'<text x="{max(end, most) + 5:.1f}" y="{y + 10}">{mean:.2f}</text>'
        f'<text x="{LEFT - 6}" y="{y + 10}" text-anchor="end" fill="#475569">{escape(label)}</text>'
    )


def drawing(lines: list[dict[str, object]]) -> str:
    """The picture as the text of an SVG file."""
    cases: dict[tuple[str, str], dict[str, list[float]]] = {}
    for line in lines:
        case = cases.setdefault((str(line["network"]), str(line["budget"])), {})
        case.setdefault(str(line["way"]), []).append(float(str(line["before"])) - float(str(line["after"])))
    known = [case for case in cases if case[0] in CASES]
    shown = {case: {way: cases[case][way] for way in ("amcc", "uniform") if way in cases[case]} for case in known}
    most = max(value for case in shown.values() for values in case.values() for value in values)
    scale = (RIGHT - LEFT - 50) / max(most, *(max(paper[:2]) for paper in PAPER.values()))
    y, parts = 30.0, []
    for (network, budget), found in shown.items():
        parts.append(f'<text x="8" y="{y + 10}" font-weight="bold">{escape(network)}, {escape(budget)}</text>')
        y += BAR + 2
        for way, values in found.items():
            seeds = f"{way}, {len(values)} seed{'s' * (len(values) > 1)}"
            parts.append(bar(y, scale, WAYS[way][0], seeds, values))
            y += BAR
        if budget == "flops=0.5" and network in PAPER:
            *values, where = PAPER[network]
            for (colour, name), value in zip(PAPERS, values, strict=True):
                parts.append(bar(y, scale, colour, f"{where}: {name}", [float(str(value))]))
                y += BAR
        y += GAP
    title = "Points of top-1 lost without training"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {y:.0f}" width="760" height="{y:.0f}" '
        f'font-family="sans-serif" font-size="11"><rect width="760" height="{y:.0f}" fill="white"/>'
        f'<text x="8" y="18" font-size="14">{title}</text>{"".join(parts)}</svg>\n'
    )


def main(log: str, out: str) -> int:
    """Draw."""
    Path(out).write_text(drawing([json.loads(line) for line in Path(log).read_text().splitlines()]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
