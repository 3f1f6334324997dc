"""What a person sees of a front: a table in the terminal, and `pareto.html` with the plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from amcc.charts import COLOURS, Plot, dot, legend, line
from amcc.front import Front, Point
from amcc.report import count, new_table, score, size
from amcc.report_html import page
from amcc.summary import Measured, Summary

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from amcc.search import Record

_SHIPPED, _FOUND, _UNIFORM, _ORIGINAL, _CLOUD = (*COLOURS[:3], "#0f172a", "#cbd5e1")


def print_front(front: Front, summaries: Sequence[Summary], folder: Path | None, console: Console) -> None:
    """A line a budget, then warnings and files."""
    from rich.markup import escape as plain

    shown = new_table("budget", "MACs", "params", "weights", "ms", f"{front.metric}, search", "report", "found by")
    before, first = front.original, front.points[0]
    latency = summaries[0].timings.before
    shown.add_row(
        "original",
        *(count(before.macs), count(before.params), size(before.bytes)),
        f"{latency.low:.3g}" if latency else "",
        *(score(front.metric, part.before) if part else "" for part in (first.search, first.report)),
        "",
    )
    for point, summary in zip(front.points, summaries, strict=True):
        latency = summary.timings.after
        shown.add_row(
            point.asked,
            *(count(point.cost.macs), count(point.cost.params), size(point.cost.bytes)),
            f"{latency.low:.3g}" if latency else "",
            *(score(front.metric, part.after) if part else "" for part in (point.search, point.report)),
            point.policy,
        )
    console.print(shown)
    for warning in dict.fromkeys(text for summary in summaries for text in summary.warnings):
        console.print(f"[yellow]warning:[/] {plain(warning)}", highlight=False, soft_wrap=True)
    if folder is not None:
        names = ", ".join(f"{point.folder}/" for point in front.points)
        text = f"written      {folder}/  ({names}, pareto.json, pareto.html)"
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def html(front: Front, summaries: Sequence[Summary], records: Sequence[Record]) -> str:
    """The page for a front.

    Args:
        summaries: of the points, in order.
        records: of the whole search, for the cloud of plans tried.
    """
    title = f"{front.model}, {', '.join(point.asked for point in front.points)}"
    warnings = dict.fromkeys(text for summary in summaries for text in summary.warnings)
    latencies = [(s.timings.before, s.timings.after) for s in summaries]
    milliseconds = [(b.low, a.low) for b, a in latencies if b is not None and a is not None]
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="warning">{escape(text)}</p>' for text in warnings),
        _legend(front),
        "<h2>Multiply-accumulates</h2>",
        _plot(front, _macs(front, records)),
        "<h2>Parameters</h2>",
        _plot(front, _params(front, records)),
    ]
    if len(milliseconds) == len(front.points):
        before = min(b for b, _ in milliseconds)
        after = [a for _, a in milliseconds]
        parts += ["<h2>Latency</h2>", _plot(front, _Axis("one run, ms", before, after, "{:.3g}".format))]
    parts += ["<h2>Points</h2>", _table(front, summaries)]
    return page(title, parts)


@dataclass(frozen=True)
class _Axis:
    """What lies to the right in a plot.

    Attributes:
        before: of the original.
        after: of each point.
        show: a value as text.
        cloud, best, uniform: value and score of all plans of the search, of each budget's best, and of uniform ones.
    """

    name: str
    before: float
    after: Sequence[float]
    show: Callable[[float], str]
    cloud: Sequence[tuple[float, float]] = ()
    best: Sequence[tuple[float, float]] = ()
    uniform: Sequence[tuple[float, float]] = ()


def _macs(front: Front, records: Sequence[Record]) -> _Axis:
    after = [point.cost.macs for point in front.points]
    return _searched(front, "multiply-accumulates", front.original.macs, after, records, lambda r: r.costs.flops)


def _params(front: Front, records: Sequence[Record]) -> _Axis:
    after = [point.cost.params for point in front.points]
    return _searched(front, "parameters", front.original.params, after, records, lambda r: r.costs.params)


def _searched(
    front: Front,
    name: str,
    before: int,
    after: Sequence[int],
    records: Sequence[Record],
    place: Callable[[Record], int],
) -> _Axis:
    best, uniform = [], []
    for point in front.points:
        fitting = [record for record in records if record.costs.of(front.resource) <= point.limit]
        head = max(fitting, key=lambda record: (record.score, record.costs.of(front.resource)))
        best.append((float(place(head)), head.score))
        even = [record for record in fitting if record.policy == "uniform"]
        if even:
            widest = max(even, key=lambda record: record.costs.of(front.resource))
            uniform.append((float(place(widest)), widest.score))
    cloud = [(float(place(record)), record.score) for record in records]
    return _Axis(name, before, after, lambda value: count(round(value)), cloud, best, uniform)


def _quoted(point: Point) -> Measured | None:
    return point.report or point.search


def _plot(front: Front, axis: _Axis) -> str:
    shipped = [
        (float(x), m.after) for x, p in zip(axis.after, front.points, strict=True) if (m := _quoted(p)) is not None
    ]
    first = _quoted(front.points[0])
    original = [(axis.before, first.before)] if first is not None else []
    marks = [*shipped, *original, *axis.best, *axis.uniform]
    low, high = min(y for _, y in marks), max(y for _, y in marks)
    margin = 0.05 * (high - low) or 0.01
    plot = Plot(
        (0.0, 1.05 * max(x for x, _ in marks)),
        (low - margin, high + margin),
        axis.name,
        axis.show,
        lambda value: score(front.metric, value),
    )
    at = plot.at
    shapes = [dot(*at(x, y), 2, _CLOUD) for x, y in axis.cloud if plot.up[0] <= y <= plot.up[1]]
    for series, colour in ((axis.uniform, _UNIFORM), (axis.best, _FOUND)):
        shapes += [line([at(x, y) for x, y in series], colour, dashed=True)]
        shapes += (dot(*at(x, y), 4, colour, hollow=True) for x, y in series)
    shapes.append(line([at(x, y) for x, y in [*shipped, *original]], _SHIPPED))
    shapes += (dot(*at(x, y), 5, _SHIPPED) for x, y in shipped)
    shapes += (dot(*at(x, y), 6, _ORIGINAL) for x, y in original)
    for x, y in dict.fromkeys(shipped):
        names = ", ".join(p.asked for p, place in zip(front.points, shipped, strict=True) if place == (x, y))
        left, top = at(x, y)
        shapes.append(f'<text x="{left + 8:.1f}" y="{top + 14:.1f}">{escape(names)}</text>')
    return plot.drawn(f"{front.metric} against {axis.name}", shapes)


def _legend(front: Front) -> str:
    point = front.points[0]
    shipped = _quoted(point)
    entries = [
        (_ORIGINAL, "original"),
        (_SHIPPED, f"what is shipped, on {shipped.source}" if shipped else "what is shipped"),
        (_FOUND, "the best plan as the search scored it: other samples, weights repaired in haste"),
    ]
    if point.uniform is not None:
        entries.append((_UNIFORM, "one ratio for all groups (uniform), scored in the same way"))
    entries.append((_CLOUD, f"the other plans of the search ({front.evaluations} in all)"))
    return legend(entries, hollow=(_FOUND, _UNIFORM))


def _table(front: Front, summaries: Sequence[Summary]) -> str:
    head = ("budget", "reached", "MACs", "parameters", "weights", "activations", "ms", "search", "report", "found by")
    lines = []
    for point, summary in zip(front.points, summaries, strict=True):
        cost, latency = point.cost, summary.timings.after
        cells = (
            f"{point.reached:,} ({point.ratio:.4f})",
            *(count(cost.macs), count(cost.params), size(cost.bytes), size(cost.memory)),
            f"{latency.low:.3g}" if latency else "",
            *(score(front.metric, part.after) if part else "" for part in (point.search, point.report)),
            point.policy,
        )
        link = f'<a href="{escape(point.folder.replace("%", "%25"))}/report.html">{escape(point.asked)}</a>'
        lines.append(f"<tr><td>{link}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr>{''.join(lines)}</table>"
