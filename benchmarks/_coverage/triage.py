"""A page for whoever improves amcc: what is wrong, what is out of reach, and the reasons that cost most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import table

from _coverage.jobs import Found

if TYPE_CHECKING:
    from _coverage.tables import Results

_ORDER = ("crash", "wrong", "memory", "timeout", "refused", "exit3", "ok")
_SHOWN = 3
_MATTERS = 0.02


def triage(results: Results) -> str:
    """Markdown, worst first."""
    ours = results.of("amcc")
    ours.sort(key=lambda line: (_ORDER.index(line["status"]), -line.get("reach", 1.0), line["network"]))
    counts = Counter(line["status"] for line in ours)
    versions = sorted({line["version"] for line in ours})
    reached = [line.get("reach", 1.0) for line in ours]
    text = ["# Triage", "", f"{len(ours)} files, amcc {', '.join(versions)}: "]
    text[-1] += ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
    for bound in (0.25, 0.5):
        share = sum(r <= bound for r in reached) / max(len(reached), 1)
        text.append(f"Reach <= {bound}: {share:.1%} of the files.")
    text += ["", table(["claim", "found", "wanted", "met"], [claim.row for claim in results.claims()])]
    text += ["", "## Reasons, over files whose reach is above 0.25", "", _reasons(ours)]
    text += ["", "## Faults", "", _faults(ours)]
    text += ["", "## Captured otherwise than the file runs", "", _captured(ours)]
    text += ["", "## Where a peer is ahead", "", _behind(results)]
    text += ["", "## Slower than Torch-Pruning", "", _slower(results)]
    text += ["", "## Slowest analyses", "", _slowest(ours)]
    text += ["", "## Files", "", _files(ours), ""]
    return "\n".join(text)


def _reasons(lines: Sequence[Found]) -> str:
    where: dict[tuple[str, str], list[Found]] = defaultdict(list)
    total: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if line.get("reach", 0) > 0.25:
            for op, reason, share in line.get("ledger", []):
                if share >= _MATTERS and not reason.startswith("graph "):
                    where[op, reason].append(line)
                    total[op, reason] += share
    rows = []
    for (op, reason), weight in total.most_common(60):
        names = [name(line) for line in where[op, reason]]
        rows.append([op, reason, len(names), f"{weight:.1f}", ", ".join(names[:4])])
    return table(["operator", "reason", "files", "MACs shares summed", "for example"], rows)


def _faults(lines: Sequence[Found]) -> str:
    rows = [
        [line["status"], name(line), cell(line.get("cause", ""))]
        for line in lines
        if line["status"] not in ("ok", "exit3")
    ]
    return table(["status", "file", "cause"], rows)


def _captured(lines: Sequence[Found]) -> str:
    rows = [[name(line), number(line["captured"], ".1e")] for line in lines if line.get("captured", 0) > 1e-4]
    return table(["file", "difference of the outputs"], rows)


def _behind(results: Results) -> str:
    rows = []
    for peer, ours in results.pairs:
        if ours["status"] not in ("ok", "exit3") or ours.get("reach", 1.0) > peer["reach"] + 1e-3:
            rows.append([name(ours), peer["tool"], number(peer["reach"]), ours["status"], number(ours.get("reach"))])
    return table(["network", "peer", "its reach", "amcc", "reach"], rows)


def _slower(results: Results) -> str:
    rows = []
    for peer, ours in results.pairs:
        if peer["tool"] == "tp" and ours.get("analysis", 0) > peer["analysis"]:
            rows.append([name(ours), number(peer["analysis"]), number(ours["analysis"]), ours["nodes"], ours["units"]])
    rows.sort(key=lambda row: float(str(row[1])) / float(str(row[2])))
    return table(["network", "Torch-Pruning s", "amcc s", "nodes", "units"], rows)


def _slowest(lines: Sequence[Found]) -> str:
    slow = sorted(lines, key=lambda line: -line.get("analysis", 0))[:15]
    rows = [
        [name(x), number(x.get("analysis"), ".2f"), x.get("nodes", ""), x.get("units", ""), x["version"][:7]]
        for x in slow
    ]
    return table(["file", "CPU s", "nodes", "units", "amcc"], rows)


def _files(lines: Sequence[Found]) -> str:
    rows = []
    for line in lines:
        locks = [f"{op}: {reason} ({share:.0%})" for op, reason, share in line.get("ledger", [])[:_SHOWN]]
        rows.append(
            [
                name(line),
                line["status"],
                number(line.get("reach")),
                number(line.get("reach_exact")),
                number(line.get("certificate"), ".0e"),
                number(line.get("analysis"), ".2f"),
                line.get("analysis_peak", ""),
                line.get("version", "")[:7],
                "; ".join(locks),
            ]
        )
    head = ["file", "status", "reach", "exact", "certificate", "analysis s", "MB", "amcc", "costliest reasons"]
    return table(head, rows)


def name(line: Found) -> str:
    """Network and which of its files."""
    return line["network"] if line["variant"] in ("onnx", "module") else f"{line['network']}.{line['variant']}"


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or nothing."""
    return "" if value is None else format(value, form)


def cell(text: str) -> str:
    """Text that fits a cell."""
    return " ".join(text.split()).replace("|", "\\|")[:500]
