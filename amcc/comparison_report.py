"""What a person sees of a comparison: a table in the terminal, and `compare.html` with the plots."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

from amcc.charts import MORE_COLOURS, Plot, Point, band, legend, line, svg
from amcc.comparison import Comparison, Rival, Spread
from amcc.report import new_table, score
from amcc.report_html import page

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

HEADS = ("policy", "best score", "spread", "behind", "on the report", "found by", "evaluations", "seconds")


def print_comparison(comparison: Comparison, folder: Path | None, console: Console) -> None:
    """A line a policy, the best first; then who wins, warnings and files."""
    from rich.markup import escape as plain

    shown = new_table(*HEADS)
    for cells in _rows(comparison):
        shown.add_row(*cells)
    console.print(shown)
    console.print(verdict(comparison), highlight=False, soft_wrap=True, markup=False)
    for warning in comparison.warnings:
        console.print(f"[yellow]warning:[/] {plain(warning)}", highlight=False, soft_wrap=True)
    if folder is not None:
        text = f"written      {folder}/  (plan.json, compare.json, compare.html, journals/)"
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def verdict(comparison: Comparison) -> str:
    """Who wins, by how much, and how much that may be worth."""
    first, *others = comparison.rivals
    seeds = len(comparison.seeds)
    over = f"{seeds} seeds" if seeds > 1 else "one seed"
    if not others:
        return f"{first.policy}: {score(comparison.metric, first.score.mean)} on average over {over}"
    second = others[0]
    name = comparison.metric
    gap = f"{score(name, second.behind)} above {second.policy}"
    wins = sum(
        mine.score >= max(other.plays[place].score for other in others) for place, mine in enumerate(first.plays)
    )
    return (
        f"{first.policy} wins: {score(name, first.score.mean)} on average over {over}, {gap}; best or level "
        f"with {wins} of {seeds} seeds"
    )


def html(comparison: Comparison) -> str:
    """The page for a comparison."""
    asked = ", ".join(line.asked for line in comparison.budget)
    title = f"{comparison.model}, {asked}: policies compared"
    part = comparison.samples
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="warning">{escape(text)}</p>' for text in comparison.warnings),
        f"<p>{escape(verdict(comparison))}.</p>",
        _table(comparison),
        f'<p class="dim">{escape(comparison.metric)} of the original: '
        f"{escape(score(comparison.metric, comparison.original.search))} on the {part['search']} samples that searches "
        f"score, {escape(score(comparison.metric, comparison.original.report))} on the {part['report']} of the report. "
        f"At most {comparison.episodes} evaluations a search; {comparison.evaluations} different plans in all.</p>",
        "<h2>Best so far</h2>",
        legend([(_colour(comparison, rival), rival.policy) for rival in comparison.rivals]),
        _curves(comparison),
        f"<p>Mean over {len(comparison.seeds)} seeds; the bands go from the worst to the best of them. Dashed: "
        "no more to propose.</p>",
        "<h2>What the best plans keep</h2>",
        _widths(comparison),
        "<h2>Journals</h2>",
        "<ul>" + "".join(_journals(comparison, rival) for rival in comparison.rivals) + "</ul>",
    ]
    return page(title, parts)


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    name, each = comparison.metric, comparison.timings.evaluation
    thinking = {timing.policy: timing.thinking for timing in comparison.timings.policies}
    rows: list[tuple[str, ...]] = []
    for rival in comparison.rivals:
        evaluations = fmean(play.evaluations for play in rival.plays)
        seconds = "" if each is None else f"{thinking[rival.policy] + each * evaluations:.0f}"
        best = max(rival.plays, key=lambda play: play.score)
        rows.append(
            (
                rival.policy,
                score(name, rival.score.mean),
                _spread(comparison, rival.score),
                score(name, rival.behind) if rival.behind else "",
                "" if rival.report is None else score(name, rival.report.mean) + _spread(comparison, rival.report),
                best.found_by,
                f"{evaluations:.0f}",
                seconds,
            )
        )
    return rows


def _spread(comparison: Comparison, spread: Spread) -> str:
    return f" ±{score(comparison.metric, spread.spread)}" if spread.spread else ""


def _table(comparison: Comparison) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in cells) for cells in _rows(comparison)]
    head = "".join(f"<th>{escape(text)}</th>" for text in HEADS)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{cells}</tr>' for cells in lines)}</table>"


def _colour(comparison: Comparison, rival: Rival) -> str:
    """The same for a policy in every comparison of all policies, whoever wins."""
    names = sorted(other.policy for other in comparison.rivals)
    return MORE_COLOURS[names.index(rival.policy) % len(MORE_COLOURS)]


def _curves(comparison: Comparison) -> str:
    ends = [spread for rival in comparison.rivals for spread in (rival.score.least, rival.score.most)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.01
    plot = Plot(
        (0.0, float(comparison.episodes)),
        (min(ends) - margin, max(ends) + margin),
        "evaluations",
        "{:.0f}".format,
        lambda value: score(comparison.metric, value),
    )
    shapes = []
    for rival in reversed(comparison.rivals):
        colour, steps = _colour(comparison, rival), _steps(rival)
        until = max(play.evaluations for play in rival.plays)
        low, mean, high = (_stairs([(at, values[which]) for at, values in steps], until, plot) for which in range(3))
        shapes += [band(high, low, colour)] if low != high and len(low) == len(high) else []
        shapes.append(line(mean, colour))
        if until < comparison.episodes:
            rest = [(float(until), steps[-1][1][1]), (float(comparison.episodes), steps[-1][1][1])]
            shapes.append(line([plot.at(x, y) for x, y in rest], colour, dashed=True))
    return plot.drawn(f"best {comparison.metric} so far against evaluations", shapes)


def _steps(rival: Rival) -> list[tuple[int, tuple[float, float, float]]]:
    """Evaluations at which the best so far of some seed rises, with the least, mean and most over all seeds then."""
    begins = max(play.curve[0][0] for play in rival.plays)
    places = sorted({max(at, begins) for play in rival.plays for at, _ in play.curve})
    found = []
    for place in places:
        values = [max(value for at, value in play.curve if at <= place) for play in rival.plays]
        found.append((place, (min(values), fmean(values), max(values))))
    return found


def _stairs(steps: Sequence[Point], until: int, plot: Plot) -> list[Point]:
    """The line of a value that holds until the next step, in pixels; what lies below the plot lies on its edge."""
    found: list[Point] = []
    for place, (at, value) in enumerate(steps):
        end = steps[place + 1][0] if place + 1 < len(steps) else until
        height = max(value, plot.up[0])
        found += [plot.at(at, height), plot.at(end, height)]
    return found


def _widths(comparison: Comparison) -> str:
    """A row a policy, a column a group: the darker, the more of it stays."""
    groups = comparison.groups
    side = max(4, min(24, 640 // max(len(groups), 1)))
    shapes = []
    for row, rival in enumerate(comparison.rivals):
        keep = max(rival.plays, key=lambda play: play.score).keep
        shapes.append(f'<text x="0" y="{22 * row + 14}">{escape(rival.policy)}</text>')
        for column, (group, kept) in enumerate(zip(groups, keep, strict=True)):
            shapes.append(
                f'<rect x="{100 + side * column}" y="{22 * row}" width="{side - 1}" height="20" '
                f'fill="{MORE_COLOURS[0]}" fill-opacity="{kept / max(group.size, 1):.3f}">'
                f"<title>{escape(group.name)}: {kept} of {group.size}</title></rect>"
            )
    return svg(110 + side * len(groups), 22 * len(comparison.rivals), "share of each group kept", "".join(shapes))


def _journals(comparison: Comparison, rival: Rival) -> str:
    files = [f"{rival.policy}-{play.seed}.jsonl" for play in rival.plays]
    return "<li>" + ", ".join(f'<a href="journals/{name}">{escape(name)}</a>' for name in files) + "</li>"
