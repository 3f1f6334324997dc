"""What a person sees in the terminal: tables of a compilation, an inspection, a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amcc.budget import Key
from amcc.summary import Change, FreeLine, GroupLine, Latency, Measured, SparsityLine, Summary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from amcc.bench import Timing
    from amcc.graph_json import GraphJson, JsonGroup

_MOST_CONSUMERS = 1


def print_summary(summary: Summary, folder: Path | None, console: Console) -> None:
    """Groups, costs and metric before and after, certificate, reach, warnings, files."""
    console.print(_group_table(summary))
    console.print(_cost_table(summary))
    for line in summary_lines(summary):
        console.print(line, highlight=False, soft_wrap=True)
    for warning in summary.warnings:
        console.print(f"[yellow]warning:[/] {_plain(warning)}", highlight=False, soft_wrap=True)
    if folder is not None:
        names = ", ".join(summary.files)
        console.print(
            f"[bold]written[/]      {_plain(str(folder))}/  ({names}, summary.json, report.html)",
            highlight=False,
            soft_wrap=True,
        )


def summary_lines(summary: Summary) -> list[str]:
    """One line each: budget, metric by split, certificate, free sizes, inexact cuts, reach."""
    lines = [
        f"[bold]budget[/]       {line.asked}: {amount(line.resource, line.reached)} of "
        f"{amount(line.resource, line.original)} ({line.ratio:.4f}), at most {amount(line.resource, line.limit)} asked"
        for line in (summary.budget if summary.guarantee is None else ())
    ]
    if summary.guarantee is not None:
        lines.append(f"[bold]guarantee[/]    {_plain(str(summary.guarantee))}")
    metric = summary.metric
    for name, measured in (("search", metric.search), ("report", metric.report)):
        if measured is not None:
            lines.append(
                f"[bold]{metric.name:<12}[/] {_measured(metric.name, measured)} "
                f"on the {name} split: {_plain(measured.source)}"
            )
    lines += [f"[bold]training[/]     {_plain(str(line))}" for line in summary.tuning]
    if summary.policies:
        lines.append(f"[bold]found by[/]     {_plain(found_by(summary))}")
    certificate = summary.certificate
    verdict = "passed" if certificate.passed else "[red]FAILED[/]"
    lines.append(
        f"[bold]certificate[/]  {verdict}: pure slices equal the masked original to {certificate.error:.1e} "
        f"(tolerance {certificate.tolerance:.0e})"
    )
    lines += [f"[bold]sizes free[/]   {_plain(free_sizes(summary, line))}" for line in summary.free]
    if summary.sparsity is not None:
        lines.append(f"[bold]sparsity[/]     {_plain(sparsity(summary.sparsity))}")
    inexact = [group for group in summary.groups if group.inexact and group.kept < group.size]
    if inexact:
        lines.append(
            f"[bold]inexact[/]      {len(inexact)} of {len(summary.groups)} groups changed what other channels hold, "
            "through normalisations, say (--exact leaves them whole)"
        )
    lines.append(
        f"[bold]within reach[/] {summary.within_reach:.1%} of the MACs could go, "
        + (
            "a single unit of each group staying (amcc inspect says what locks the rest)"
            if summary.sparsity is None
            else "each layer at its sparsest"
        )
    )
    return lines


def print_inspection(found: GraphJson, console: Console) -> None:
    """Nodes, groups, the ledger by reason and lock by lock, and totals of a network."""
    shapes = {value.name: value.shape for value in found.values}
    nodes = new_table("node", "operator", "MACs", "params", "output")
    for node in found.nodes:
        shape = shapes.get(node.outputs[0]) if node.outputs else None
        shown = "?" if shape is None else "x".join(map(str, shape))
        op = f"{node.domain}.{node.op}" if node.domain else node.op
        nodes.add_row(_plain(node.name), op, count(node.macs), count(node.params), shown)
    console.print(nodes)
    groups = new_table("group", "units", "MACs", "slices")
    for group in found.groups:
        groups.add_row(_plain(named(group)), str(group.size), count(group.macs), _plain(_slices(group)))
    console.print(groups)
    if found.obstacles:
        reasons = new_table("operator", "reason", "locks", "axes", "MACs out of reach", "share")
        for obstacle in found.obstacles:
            share = f"{obstacle.macs / max(found.totals.macs, 1):.1%}"
            numbers = (str(obstacle.locks), str(obstacle.axes), count(obstacle.macs), share)
            reasons.add_row(_plain(obstacle.op or "graph"), _plain(obstacle.reason), *numbers)
        console.print(reasons)
    if found.ledger:
        ledger = new_table("locked", "axis", "operator", "reason", "MACs out of reach")
        for lock in found.ledger:
            ledger.add_row(
                _plain(lock.value),
                str(lock.axis),
                _plain(f"{lock.op} {lock.node}".strip()),
                _plain(lock.reason),
                count(lock.macs),
            )
        console.print(ledger)
    total = found.totals
    console.print(
        f"{len(found.nodes)} nodes, {len(found.groups)} groups of {sum(g.size for g in found.groups)} units, "
        f"{len(found.ledger)} locks; {total.macs:,} MACs, {total.params:,} parameters, "
        f"{size(total.bytes)} of weights, {size(total.memory)} of activations at once",
        highlight=False,
        soft_wrap=True,
    )


def print_timings(timings: Sequence[Timing], console: Console) -> None:
    """Latency of models side by side."""
    table = new_table("model", "ms", "median", "spread", "fastest", "against the first", "runs")
    for timing in timings:
        table.add_row(
            _plain(timing.model),
            f"{timing.low:.3f}",
            f"{timing.median:.3f}",
            f"{timing.spread:.3f}",
            f"{timing.fastest:.3f}",
            f"{timing.low / timings[0].low:.2f}x",
            str(timing.runs),
        )
    console.print(table)


def named(group: JsonGroup | GroupLine) -> str:
    """A group's name, marked where cutting it changes what other channels hold."""
    return f"{group.name} (inexact)" if group.inexact else group.name


def count(number: int) -> str:
    """A count to three digits: 125.5M."""
    for limit, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.4g}{suffix}"
    return str(number)


def size(number: int) -> str:
    """A number of bytes: 3.41 MB."""
    for limit, suffix in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= limit:
            return f"{number / limit:.4g} {suffix}"
    return f"{number} B"


def amount(resource: Key, value: int) -> str:
    """A cost in whole units; of latency, in milliseconds."""
    return f"{value / 10**6:.4g} ms" if resource == "latency" else f"{value:,}"


def score(name: str, value: float) -> str:
    """A metric's value: top-1 in percent."""
    return f"{100 * value:.2f}%" if name == "top1" else f"{value:.4f}"


def found_by(summary: Summary) -> str:
    """Who found the plan that is shipped, and how far it is ahead of the best plan of each other policy."""
    final: list[str] = []
    searched: list[str] = []
    for line in summary.policies:
        ahead = line.margin if line.final_margin is None else line.final_margin
        if not line.shipped and ahead is not None:
            text = f"{score(summary.metric.name, ahead)} over {line.policy}"
            (searched if line.final_margin is None else final).append(text)
    parts = [("in the last round", final), ("in the search", searched)]
    return "; ".join([summary.policy, *(f"{where} {', '.join(texts)}" for where, texts in parts if texts)])


def free_sizes(summary: Summary, line: FreeLine) -> str:
    """What stays free of an input in `model.onnx`, and where that was checked."""
    checked = ", ".join("x".join(map(str, shape)) for shape in line.checked)
    text = f"model.onnx takes {line.input} [{', '.join(map(str, line.shape))}], checked at {checked}"
    if len(line.checked) < 2:
        text += " alone: the original was found to run at no other size"
    return text + ("; model.py is for the first" if "model.py" in summary.files else "")


def sparsity(line: SparsityLine) -> str:
    """How many numbers are zero, and what the weights take where zeros are left out."""
    zeros = 1 - line.nonzeros.ratio
    return (
        f"{line.granularity}: {zeros:.1%} of all numbers are zero; the weights take {size(line.zlib.after)} compressed "
        f"by zlib ({size(line.zlib.before)} before), {size(line.bitmask)} with a bit for each weight, {size(line.csr)} "
        "as compressed rows"
    )


def rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """What was before, what is after, and the ratio: MACs, parameters, weights, activations, latency.

    Of sparse weights, parameters are those that stay, and there is a row for what zlib makes of them.
    """
    totals = summary.totals
    table: list[tuple[str, str, str, str]] = [
        _row("MACs", totals.macs, count),
        _row("parameters", totals.params, count),
        _row("weights", totals.bytes, size),
        _row("activations", totals.memory, size),
    ]
    if summary.sparsity is not None:
        table.append(_row("compressed", summary.sparsity.zlib, size))
    before, after = summary.timings.before, summary.timings.after
    if before is not None and after is not None:
        table.append(("latency", _latency(before), _latency(after), f"{after.low / before.low:.3f}"))
    return table


def _row(name: str, change: Change, show: object) -> tuple[str, str, str, str]:
    assert callable(show)
    return name, show(change.before), show(change.after), f"{change.ratio:.3f}"


def _latency(latency: Latency) -> str:
    return f"{latency.low:#.3g} ms"


def _measured(name: str, measured: Measured) -> str:
    text = f"{score(name, measured.before)} -> {score(name, measured.after)}"
    if measured.pure is not None:
        text += f" (pure slices {score(name, measured.pure)})"
    return text


def _group_table(summary: Summary) -> Table:
    table = new_table("group", "kept", "of", "", "read by", "MACs share")
    whole = max(summary.totals.macs.before, 1)
    for group in summary.groups:
        bar = "█" * max(1, round(8 * group.kept / group.size))
        table.add_row(
            _plain(named(group)),
            str(group.kept),
            str(group.size),
            f"{bar:░<8}",
            _plain(_some(group.consumers)),
            f"{group.macs.before / whole:.1%} -> {group.macs.after / whole:.1%}",
        )
    return table


def _cost_table(summary: Summary) -> Table:
    table = new_table("", "before", "after", "ratio")
    for row in rows(summary):
        table.add_row(*row)
    return table


_NUMBERS = {
    *("kept", "of", "MACs", "params", "before", "after", "ratio", "units", "MACs out of reach", "axis", "axes"),
    *("locks", "share", "runs", "ms", "median", "spread", "fastest", "against the first"),
}


def new_table(*columns: str) -> Table:
    """An empty table in the style of all others."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    return table


def _slices(group: JsonGroup) -> str:
    shown = [f"{piece.param}[{piece.axis}]" for piece in group.slices]
    return _some(shown, 4)


def _some(names: Iterable[str], most: int = _MOST_CONSUMERS) -> str:
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f", +{more}" if more > 0 else "")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
