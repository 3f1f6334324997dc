"""What people see of a compilation."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import NamedTuple

import jsonschema
import pytest
from rich.console import Console

from amcc.progress import Clock, Silent, Terminal
from amcc.report import count, found_by, print_summary, size
from amcc.report_html import html
from amcc.schema import schema
from amcc.summary import (
    BudgetLine,
    CertificateLine,
    Change,
    GroupLine,
    Latency,
    Measured,
    MetricLine,
    PolicyLine,
    Summary,
    Timings,
    Totals,
    versions,
)


class Episode(NamedTuple):
    policy: str
    score: float
    probe: bool = False


def summary(**changes: object) -> Summary:
    half = Change(before=1000, after=500)
    measured = Measured(samples=200, source="report part", before=0.985, after=0.975, pure=0.4)
    made = Summary(
        model="<model>.onnx",
        budget=(BudgetLine(asked="flops=0.5", resource="flops", original=1000, limit=500, reached=500, ratio=0.5),),
        totals=Totals(macs=half, params=half, bytes=half, memory=half),
        metric=MetricLine(name="top1", search=measured, report=measured),
        certificate=CertificateLine(error=1e-7, tolerance=1e-4, outputs={"logits": 1e-7}, seed=0, passed=True),
        groups=(GroupLine(name="conv[1]", size=16, kept=8, consumers=("a", "b", "c"), macs=half),),
        policies=(
            PolicyLine(policy="ddpg", score=0.9, final=0.92, margin=0.0, final_margin=0.0, evaluations=3, shipped=True),
            PolicyLine(
                policy="refine", score=0.91, final=0.9, margin=-0.01, final_margin=0.02, evaluations=3, shipped=False
            ),
            PolicyLine(policy="uniform", score=0.7, margin=0.2, evaluations=1, shipped=False),
            PolicyLine(policy="greedy", score=None, evaluations=2, shipped=False),
        ),
        policy="ddpg",
        recover="full",
        calibration="calibration part",
        within_reach=0.997,
        seed=0,
        versions=versions(),
        inputs={"model": "0" * 64},
        files={"model.onnx": "1" * 64},
        warnings=("inputs are <synthetic>",),
        timings=Timings(
            seconds={"search": 1.5},
            before=Latency(low=2.0, median=2.1, spread=0.1, runs=9),
            after=Latency(low=1.0, median=1.1, spread=0.1, runs=9),
        ),
    )
    return made.model_copy(update=changes)


def shown(given: Summary, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_summary(given, None, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_shows_everything_asked_for() -> None:
    text = shown(summary())
    for part in ("conv[1]", "8", "16", "a, +2", "100.0% -> 50.0%", "latency", "2.00", "98.50% -> 97.50%"):
        assert part in text
    for part in (
        "report split",
        "certificate",
        "1.0e-07",
        "99.7% of the MACs",
        "flops=0.5: 500 of 1,000",
        "<synthetic>",
    ):
        assert part in text


def test_who_found_the_plan_and_by_how_much_it_is_ahead() -> None:
    one = summary()
    one = one.model_copy(update={"metric": one.metric.model_copy(update={"name": "top1"})})
    line = "ddpg; in the last round 2.00% over refine; in the search 20.00% over uniform"
    assert found_by(one) == line
    assert line in shown(one)
    page = html(one)
    for cell in ("<td>ddpg (shipped)</td>", "<td>-1.00%</td>", "<td>2.00%</td>", "<td>20.00%</td>", "<td>greedy</td>"):
        assert cell in page


def test_a_failed_certificate_cannot_be_missed() -> None:
    failed = summary().certificate.model_copy(update={"passed": False})
    assert "FAILED" in shown(summary(certificate=failed))
    assert "FAILED" in html(summary(certificate=failed))


class Balance(HTMLParser):
    """Fails on tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("episodes", [[], [Episode("uniform", 0.5)], [Episode("ddpg", s / 9, s > 7) for s in range(9)]])
def test_the_page_is_whole_and_needs_nothing_else(episodes: list[Episode]) -> None:
    page = html(summary(), episodes)
    parser = Balance()
    parser.feed(page)
    assert not parser.open and "svg" in parser.seen and not parser.seen & {"script", "link", "img", "iframe"}
    assert "http" not in page
    assert "&lt;model&gt;.onnx" in page and "<synthetic>" not in page
    assert ("Search</h2>" in page) == bool(episodes)


def test_the_summary_follows_its_schema() -> None:
    jsonschema.validate(summary().model_dump(mode="json"), schema("summary"))
    assert Summary.model_validate_json(summary().model_dump_json()) == summary()


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1500, "1.5k"), (125_485_706, "125.5M"), (4_111_000_000, "4.111G")]
)
def test_counts(number: int, text: str) -> None:
    assert count(number) == text


def test_sizes() -> None:
    assert [size(n) for n in (12, 4096, 97_600_000)] == ["12 B", "4.096 kB", "97.6 MB"]


def test_progress_in_a_file_is_a_line_a_new_best() -> None:
    console = Console(file=io.StringIO(), width=100)
    with Terminal(console) as terminal:
        terminal.phase("searching")
        terminal.search_begins(100)
        for index in range(100):
            terminal.episode(Episode("ddpg", 0.5 + (index == 42) * 0.25))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert 12 <= len(lines) <= 13 and any("episode 43/100  best 0.7500" in line for line in lines)


def test_progress_in_a_terminal_is_a_bar() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Terminal(console) as terminal:
        terminal.search_begins(3)
        for score in (0.1, 0.3, 0.2):
            terminal.episode(Episode("ddpg", score))
        terminal.search_ends()
    assert isinstance(console.file, io.StringIO)
    assert "0.3000" in console.file.getvalue()


def test_the_clock_adds_phases_up() -> None:
    clock = Clock(Silent())
    for _ in range(2):
        with clock.phase("search"):
            pass
    assert list(clock.seconds) == ["search"] and clock.seconds["search"] >= 0
