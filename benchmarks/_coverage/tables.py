"""From the log to tables: `docs/coverage.md`, the CSV, and what is claimed against what was found."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common import machine, table

from _coverage.jobs import Found

TOLERANCE = 1e-4
_LARGE_MB = 100
_VARIANTS = ("onnx", "raw", "old")
_SLACK = 1.001  # of a peer's reach: it counts a MAC here or there that amcc does not
_REASONS, _MATTERS = 4, 0.005

COLUMNS = (
    "tool network variant status ratio reach reach_exact floor bound certificate groups inexact_groups used_inexact "
    "units locks nodes macs params mb load analysis plan cut certify base load_peak analysis_peak peak cpu wall "
    "version form cause ledger"
).split()


@dataclass(frozen=True)
class Claim:
    """Something that is wanted of the whole zoo, and what was found."""

    what: str
    wanted: str
    found: str
    met: bool

    @property
    def row(self) -> list[str]:
        """For a table."""
        return [self.what, self.found, self.wanted, "yes" if self.met else "NO"]


class Results:
    """The latest line of every tool on every file."""

    def __init__(self, lines: Sequence[Found], known: Mapping[str, tuple[str, str]]) -> None:
        self.lines = sorted(lines, key=lambda line: (line["network"], line["variant"], line["tool"]))
        self.known = known

    def of(self, tool: str) -> list[Found]:
        """One tool's lines."""
        return [line for line in self.lines if line["tool"] == tool]

    @cached_property
    def by_network(self) -> dict[str, dict[str, list[Found]]]:
        """For each network, for each tool, its lines."""
        found: dict[str, dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
        for line in self.lines:
            found[line["network"]][line["tool"]].append(line)
        return found

    @cached_property
    def pairs(self) -> list[tuple[Found, Found]]:
        """What a peer handles, beside what amcc makes of the same: (peer, amcc).

        Torch-Pruning reads the module; beside it stands the first of the network's files that amcc handles.
        """
        found = []
        for tools in self.by_network.values():
            if not tools["amcc"]:
                continue
            for peer in (*tools["tp"], *tools["onnxsim"]):
                if peer["status"] == "ok":
                    same = [
                        ours for ours in tools["amcc"] if peer["tool"] == "tp" or ours["variant"] == peer["variant"]
                    ]
                    if same:
                        found.append((peer, min(same, key=lambda o: (not handled(o), _VARIANTS.index(o["variant"])))))
        return found

    def claims(self) -> list[Claim]:
        """What `compile` promises, over all files."""
        ours = self.of("amcc")
        statuses = Counter(line["status"] for line in ours)
        count = max(len(ours), 1)
        good = sum(handled(line) for line in ours)
        wrong = statuses["wrong"] + sum(line.get("bound") == "false" for line in ours)
        exact = [line["certificate"] for line in ours if line["status"] == "ok" and not line.get("used_inexact")]
        worst = max(exact, default=0.0)
        claims = [
            Claim("compiled to half the MACs, or exit 3 with a bound that was reached", ">= 99%", f"{good / count:.1%}",
                  good >= 0.99 * count),
            Claim("tracebacks", "0", str(statuses["crash"]), not statuses["crash"]),
            Claim("wrong results", "0", str(wrong), not wrong),
            Claim("largest certificate error where nothing inexact was cut", "<= 1e-4", f"{worst:.1e}",
                  worst <= TOLERANCE),
        ]  # fmt: skip
        for bound, share in ((0.25, 0.9), (0.5, 0.98)):
            reached = sum(line.get("reach", 1.0) <= bound for line in ours)
            claims.append(
                Claim(f"smallest reachable MACs <= {bound}", f">= {share:.0%}", f"{reached / count:.1%}",
                      reached >= share * count)
            )  # fmt: skip
        return claims + self._against_peers() + self._memory()

    def _against_peers(self) -> list[Claim]:
        lost = [peer for peer, ours in self.pairs if not handled(ours)]
        behind = [peer for peer, ours in self.pairs if ours.get("reach", 1.0) > peer["reach"] * _SLACK + 1e-4]
        claims = [
            Claim("what a peer handles and amcc does not", "0", _listed(lost), not lost),
            Claim("what a peer shrinks further than amcc can", "0", _listed(behind), not behind),
        ]
        ratios = [
            peer["analysis"] / ours["analysis"]
            for peer, ours in self.pairs
            if peer["tool"] == "tp" and handled(ours) and ours.get("analysis")
        ]
        if ratios:
            median = statistics.median(ratios)
            what = f"Torch-Pruning's graph and groups over amcc's analysis, CPU time, median of {len(ratios)}"
            claims.append(Claim(what, ">= 1, aim 5", f"{median:.2f}", median >= 1))
        return claims

    def _memory(self) -> list[Claim]:
        large = [
            (line["analysis_peak"] - line["base"]) / line["mb"]
            for line in self.of("amcc")
            if line.get("mb", 0) > _LARGE_MB and "analysis_peak" in line
        ]
        if not large:
            return []
        return [
            Claim(f"peak memory of load and analysis over file size, files above {_LARGE_MB} MB", "<= 1.5",
                  f"{max(large):.2f}", max(large) <= 1.5)
        ]  # fmt: skip


def _listed(lines: Sequence[Found]) -> str:
    """How many, and the first few."""
    names = [f"{line['network']} ({line['tool']})" for line in lines]
    return f"{len(names)} {', '.join(names[:5])}{' ...' * (len(names) > 5)}".strip()


def handled(line: Found) -> bool:
    """Whether amcc did what it should: a good result, or a true bound."""
    return line["status"] == "ok" or (line["status"] == "exit3" and line.get("bound", "true") == "true")


# -- writing -----------------------------------------------------------------------------------------


def markdown(results: Results) -> str:
    """The whole page."""
    ours = results.of("amcc")
    versions = {tool: ", ".join(sorted({line["version"] for line in results.of(tool)})) for tool in _TOOLS}
    compared = "; ".join(f"{_TOOLS[tool]} {text}" for tool, text in versions.items() if text)
    parts = [
        _PREFACE,
        f"{len(results.by_network)} networks, {len(ours)} files. {compared}. {machine()}.",
        "## What is claimed",
        table(["claim", "found", "wanted", "met"], [claim.row for claim in results.claims()]),
        "## What came of it",
        table(["tool", *_STATUSES], [_status_row(results.of(tool), name) for tool, name in _TOOLS.items()]),
        _limits([line for tool in _TOOLS for line in results.of(tool)]),
        "## Every network",
        _LEGEND,
        table(_HEAD, [_row(name, tools, results.known) for name, tools in sorted(results.by_network.items())]),
        "## Faults and bounds",
        _faults(ours),
    ]
    return "\n\n".join(parts) + "\n"


def _limits(lines: Sequence[Found]) -> str:
    """What a job had before it was stopped, as far as one was."""
    stopped = sorted(round(line["cpu"]) for line in lines if line["status"] == "timeout" and "cpu" in line)
    if not stopped:
        return "No job met its time limit."
    return f"Jobs that met their time limit were stopped after {stopped[0]} to {stopped[-1]} CPU seconds."


_PREFACE = """# Coverage

Every network of the zoo (`benchmarks/zoo`: random weights) with amcc at `--budget flops=0.5 --search uniform
--recover none`, beside Torch-Pruning on the module and onnxsim's `apply_structured_pruning` on the ONNX file.
`benchmarks/coverage.py` made this page."""

_LEGEND = """A network comes in up to three files: as `torch.onnx.export(dynamo=True)` writes it (onnx), before its
optimiser (raw), and from the old exporter (old). Reach is the smallest share of the MACs that can be left; exact,
without cuts that change other channels (behind a LayerNorm, say); inexact, how many of the groups that were cut change
others. Reasons come with the share of the MACs that they hold, from half a percent on; the CSV has all. Seconds are CPU
time of the analysis, loading excluded; Torch-Pruning's of its graph and groups. MB is the peak of the amcc process.
Ok is for amcc valid, within the budget, certificate passed; for Torch-Pruning a forward pass that ran; for onnxsim a
file that runs and equals the masked original."""

_TOOLS = {"amcc": "amcc", "tp": "Torch-Pruning", "onnxsim": "onnxsim"}
_STATUSES = ("ok", "exit3", "nothing", "wrong", "broken", "refused", "crash", "timeout", "memory")
_HEAD = (
    "network|source|family|onnx|raw|old|inexact|reach|exact reach|certificate|seconds|MB|costliest reasons|"
    "Torch-Pruning|its reach|its seconds|onnxsim|its reach"
).split("|")


def _status_row(lines: Sequence[Found], name: str) -> list[object]:
    counts = Counter(line["status"] for line in lines)
    return [name, *(counts[status] or "" for status in _STATUSES)]


def _row(name: str, tools: Mapping[str, Sequence[Found]], known: Mapping[str, tuple[str, str]]) -> list[str]:
    ours = {line["variant"]: line for line in tools["amcc"]}
    main = ours.get("onnx") or next(iter(ours.values()), {})
    tp = next(iter(tools["tp"]), {})
    onnxsim = next((line for line in tools["onnxsim"] if line["variant"] == main.get("variant")), {})
    statuses = [_said(ours[v]) if v in ours else "" for v in _VARIANTS]
    source, family = known.get(name, ("", ""))
    return [
        name,
        source,
        family,
        *statuses,
        f"{main.get('used_inexact', 0)} of {main.get('used_groups', 0)}" if main.get("used_groups") else "",
        _worst(ours.values(), "reach"),
        _worst(ours.values(), "reach_exact"),
        _worst(ours.values(), "certificate", ".0e"),
        _number(main.get("analysis")),
        str(main.get("peak", "")),
        "; ".join(_reasons(main.get("ledger", []))),
        tp.get("status", ""),
        _number(tp.get("reach")),
        _number(tp.get("analysis")),
        onnxsim.get("status", ""),
        _number(onnxsim.get("reach")),
    ]


def _reasons(ledger: Sequence[tuple[str, str, float]]) -> list[str]:
    """The costliest reasons, of those that matter."""
    mattering = [entry for entry in ledger if entry[2] >= _MATTERS][:_REASONS]
    return [f"{op or 'graph'}: {_cell(why)} {share:.0%}" for op, why, share in mattering]


def _said(line: Found) -> str:
    return f"exit 3 ({line.get('floor', line.get('reach', 1.0)):.2f})" if line["status"] == "exit3" else line["status"]


def _worst(lines: object, key: str, form: str = ".3f") -> str:
    values = [line[key] for line in lines if line.get(key) is not None]  # type: ignore[attr-defined]
    return _number(max(values), form) if values else ""


def _number(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _faults(lines: Sequence[Found]) -> str:
    rows = [
        [line["network"], line["variant"], _said(line), _cell(line.get("cause", ""))[:400]]
        for line in lines
        if line["status"] != "ok"
    ]
    return table(["network", "file", "status", "why"], rows) if rows else "None."


def as_csv(results: Results) -> str:
    """Every line of the log that counts, all columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in results.lines:
        ledger = "; ".join(f"{op or 'graph'}: {why} {share}" for op, why, share in line.get("ledger", []))
        writer.writerow([ledger if column == "ledger" else line.get(column, "") for column in COLUMNS])
    return out.getvalue()


def write(lines: Sequence[Found], known: Mapping[str, tuple[str, str]], wanted: Mapping[str, Path | None]) -> int:
    """Write the pages that are asked for, print the claims; 1 if one is not met.

    Args:
        known: source and family of each network.
        wanted: file of the `markdown`, `csv` and `triage` page, or None.
    """
    from _coverage.triage import triage

    results = Results(lines, known)
    pages: dict[str, Callable[[], str]] = {
        "markdown": lambda: markdown(results),
        "csv": lambda: as_csv(results),
        "triage": lambda: triage(results),
    }
    for name, make in pages.items():
        if (path := wanted.get(name)) is not None:
            partial = path.with_name(f"{path.name}.partial")
            partial.write_text(make(), encoding="utf-8")
            partial.replace(path)
    claims = results.claims()
    print(table(["claim", "found", "wanted", "met"], [claim.row for claim in claims]))
    return int(not all(claim.met for claim in claims))
