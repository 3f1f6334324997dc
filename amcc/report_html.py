"""`report.html`: one file with everything in it, readable in any browser, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from amcc.charts import MORE_COLOURS, Plot, dot, svg
from amcc.charts import line as draw_line
from amcc.progress import Scored
from amcc.report import count, free_sizes, named, rows, score, sparsity
from amcc.summary import GroupLine, GuaranteeLine, Measured, Summary, TuningLine

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1e293b; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.warning { background: #fef3c7; padding: .4rem .8rem; border-radius: .3rem; margin: .3rem 0; }
.failed { color: #b91c1c; font-weight: 600; } svg { max-width: 100%; height: auto; } .dim { color: #64748b; }
svg text { font: 11px system-ui, sans-serif; fill: #334155; }
""".strip()


def html(summary: Summary, episodes: Sequence[Scored] = ()) -> str:
    """The page for a compilation; `episodes` in order, for the plot of the search."""
    asked = ", ".join(line.asked for line in summary.budget) or "given plan"
    title = f"{summary.model}, {summary.guarantee.asked if summary.guarantee else asked}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="warning">{escape(w)}</p>' for w in summary.warnings),
        "<h2>Before and after</h2>",
        _costs(summary),
        _bars(summary),
        *(("<h2>Guarantee</h2>", _guarantee(summary.guarantee)) if summary.guarantee else ()),
        "<h2>Metric</h2>",
        _metric(summary),
        "<h2>Certificate</h2>",
        _certificate(summary),
        *(part for line in summary.tuning for part in ("<h2>Training</h2>", _training(line))),
        *(
            ("<h2>Widths</h2>",)
            if summary.sparsity is None
            else ("<h2>Sparsity by layer</h2>", f"<p>{escape(sparsity(summary.sparsity))}.</p>")
        ),
        _widths(summary.groups),
        *(("<h2>Search</h2>", _search(summary.metric.name, episodes)) if episodes else ()),
        *((_policies(summary),) if summary.policies else ()),
        "<h2>Run</h2>",
        _run(summary),
    ]
    return page(title, parts)


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of these elements."""
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _costs(summary: Summary) -> str:
    lines = [
        "<tr>" + f"<td>{escape(name)}</td>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells) + "</tr>"
        for name, *cells in rows(summary)
    ]
    head = '<tr><th></th><th class="n">before</th><th class="n">after</th><th class="n">ratio</th></tr>'
    asked = "".join(
        f"<li>{escape(line.asked)}: {line.reached:,} of at most {line.limit:,}</li>"
        for line in (() if summary.guarantee else summary.budget)
    )
    return f"<table>{head}{''.join(lines)}</table><ul>{asked}</ul>"


def _bars(summary: Summary) -> str:
    shapes = []
    for place, (name, _, after, ratio) in enumerate(rows(summary)):
        y, width = 26 * place, 420 * min(float(ratio), 1.2)
        shapes.append(
            f'<text x="0" y="{y + 14}">{escape(name)}</text>'
            f'<rect x="90" y="{y + 2}" width="420" height="16" fill="#e2e8f0"/>'
            f'<rect x="90" y="{y + 2}" width="{width:.1f}" height="16" fill="{MORE_COLOURS[0]}"/>'
            f'<text x="{100 + max(width, 420):.0f}" y="{y + 14}">{escape(after)}</text>'
        )
    return svg(760, 26 * len(shapes), "costs after, as a share of before", "".join(shapes))


def _metric(summary: Summary) -> str:
    name = summary.metric.name
    lines = [
        _measured(name, split, measured)
        for split, measured in (("search", summary.metric.search), ("report", summary.metric.report))
        if measured is not None
    ]
    if not lines:
        return "<p>Not measured.</p>"
    head = "".join(f"<th>{h}</th>" for h in (name, "before", "pure slices", "after", "measured on"))
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _guarantee(line: GuaranteeLine) -> str:
    heads = ("", "policy", line.minimised, "ratio", line.metric, "bound", "")
    lines = []
    for place, one in enumerate(line.candidates, start=1):
        shown = (score(line.metric, one.metric), f"{one.bound:.4f}", "passed" if one.passed else "failed")
        cells = (str(place), one.policy, f"{one.cost:,}", f"{one.ratio:.4f}", *shown)
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    return f"<p>{escape(str(line))}.</p><table><tr>{head}</tr>{''.join(lines)}</table>"


def _measured(name: str, split: str, measured: Measured) -> str:
    pure = "" if measured.pure is None else score(name, measured.pure)
    cells = (split, score(name, measured.before), pure, score(name, measured.after), measured.source)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _certificate(summary: Summary) -> str:
    certificate = summary.certificate
    verdict = "Passed" if certificate.passed else '<span class="failed">FAILED</span>'
    outputs = ", ".join(certificate.outputs)
    return (
        f"<p>{verdict}: the pure slices and the original with the removed units masked differ by "
        f"{certificate.error:.2e} at most (tolerance {certificate.tolerance:.0e}) on {escape(outputs)}.</p>"
        + "".join(f"<p>{escape(free_sizes(summary, line))}.</p>" for line in summary.free)
        + f"<p>{summary.within_reach:.1%} of the multiply-accumulates were within reach.</p>"
    )


def _training(line: TuningLine) -> str:
    """How it went, and loss and metric by epoch; the metric's first point is from before the training."""
    text = f"<p>{escape(str(line))}.</p>"
    if not line.curve:
        return text
    losses = [(place, epoch.loss) for place, epoch in enumerate(line.curve, start=1)]
    metrics = [(0, line.before), *((place, epoch.metric) for place, epoch in enumerate(line.curve, start=1))]
    drawn = []
    for name, points in (("loss", losses), (f"{line.metric} on samples held out", metrics)):
        low, high = min(y for _, y in points), max(y for _, y in points)
        room = 0.05 * (high - low) or 0.01
        plot = Plot((0, len(line.curve)), (low - room, high + room), f"epoch: {name}", "{:g}".format, "{:.4g}".format)
        places = [plot.at(x, y) for x, y in points]
        shapes = [draw_line(places, MORE_COLOURS[0]), *(dot(*place, 3, MORE_COLOURS[0]) for place in places)]
        drawn.append(plot.drawn(f"{name} by epoch", shapes))
    return text + "".join(drawn)


def _widths(groups: Sequence[GroupLine]) -> str:
    shapes = []
    for place, group in enumerate(groups):
        y, width = 18 * place, 360 * group.kept / max(group.size, 1)
        name = named(group)
        label = name if len(name) <= 38 else f"{name[:18]}…{name[-18:]}"
        shapes.append(
            f'<text x="0" y="{y + 12}">{escape(label)}</text>'
            f'<rect x="250" y="{y + 2}" width="360" height="12" fill="#e2e8f0"/>'
            f'<rect x="250" y="{y + 2}" width="{width:.1f}" height="12" fill="{MORE_COLOURS[2]}"/>'
            f'<text x="620" y="{y + 12}">{group.kept} of {group.size}'
            f"  ({count(group.macs.before)} to {count(group.macs.after)} MACs)</text>"
        )
    return svg(830, 18 * len(shapes) + 4, "units kept by group", "".join(shapes))


def _search(name: str, episodes: Sequence[Scored]) -> str:
    scores = [e.score for e in episodes]
    low, high = min(scores), max(scores)
    span = (high - low) or 1.0
    policies = list(dict.fromkeys(e.policy for e in episodes))

    def x(index: int) -> float:
        return 60 + 680 * index / max(len(scores) - 1, 1)

    def y(value: float) -> float:
        return 210 - 190 * (value - low) / span

    dots = "".join(
        f'<circle cx="{x(i):.1f}" cy="{y(e.score):.1f}" r="2.5" fill="{_colour(policies, e.policy)}"/>'
        for i, e in enumerate(episodes)
    )
    best, line = low, []
    for index, episode in enumerate(episodes):
        best = best if episode.probe else max(best, episode.score)
        if best > low:
            line.append(f"{x(index):.1f},{y(best):.1f}")
    axes = (
        f'<text x="0" y="24">{escape(score(name, high))}</text><text x="0" y="214">{escape(score(name, low))}</text>'
        f'<text x="60" y="232">1</text><text x="740" y="232" text-anchor="end">{len(scores)} episodes</text>'
    )
    legend = "".join(
        f'<circle cx="{64 + 110 * i}" cy="252" r="4" fill="{_colour(policies, p)}"/>'
        f'<text x="{72 + 110 * i}" y="256">{escape(p)}</text>'
        for i, p in enumerate(policies)
    )
    best_line = f'<polyline points="{" ".join(line)}" fill="none" stroke="#94a3b8"/>'
    return svg(760, 264, "score by episode, and the best so far", best_line + dots + axes + legend)


def _policies(summary: Summary) -> str:
    """Who found what, and how far what is shipped is ahead."""
    heads = ("policy", "evaluations", "best", "shipped is ahead by", "best, repaired, in the last round", "ahead by")
    name, lines = summary.metric.name, []
    for line in summary.policies:
        numbers = (line.score, line.margin, line.final, line.final_margin)
        best, margin, final, ahead = ("" if number is None else score(name, number) for number in numbers)
        cells = (
            line.policy + (" (shipped)" if line.shipped else ""),
            str(line.evaluations),
            best,
            margin,
            final,
            ahead,
        )
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _colour(policies: Sequence[str], policy: str) -> str:
    return MORE_COLOURS[policies.index(policy) % len(MORE_COLOURS)]


def _run(summary: Summary) -> str:
    facts = {
        "policy": summary.policy,
        "recovery": summary.recover + (f", calibrated on {summary.calibration}" if summary.calibration else ""),
        "seed": str(summary.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in summary.versions.items()),
        "seconds": ", ".join(f"{name} {spent:.1f}" for name, spent in summary.timings.seconds.items()),
        **{f"SHA-256 of {name}": digest for name, digest in summary.inputs.items()},
    }
    lines = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f'<table class="dim">{lines}</table>'
