"""Policies side by side: what is written, that scores are shared, resuming, and errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import amcc
from amcc.cli import app
from amcc.compare import Compared
from amcc.comparison import Comparison, Spread
from amcc.errors import BudgetError, Interrupted, OutputError, UsageError
from amcc.jsontext import dumps
from amcc.plan import Plan
from amcc.schema import schema
from tests import tiny_models
from tests.stops import StopAt

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
NAMES = ("refine", "greedy", "random", "uniform", "lagrange")
SMALL: dict[str, Any] = {"budget": "flops=0.5", "recover": "none", "episodes": 20, "threads": 1, "seeds": 2}
ALL: dict[str, Any] = {
    "budget": "flops=0.5",
    "policies": NAMES,
    "data": DIGITS / "val.npz",
    "calib": DIGITS / "calib.npz",
    "seeds": 2,
    "seed": 4,
    "episodes": 18,
    "calib_samples": 48,
    "eval_samples": 64,
    "threads": 1,
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare") / "digits"


@pytest.fixture(scope="module")
def digits(out: Path) -> Compared:
    return amcc.compare(DIGITS / "model.onnx", out=out, **ALL)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "model.onnx")


def contents(folder: Path) -> dict[str, object]:
    """All that two runs must share."""
    files: dict[str, object] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".html" and path.name != "compare.json"
    }
    files["compare.json"] = Comparison.read(folder).model_dump(exclude={"timings"})
    return files


def test_what_is_written(digits: Compared, out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {"plan.json", "compare.json", "compare.html", "journals"}
    assert {path.name for path in (out / "journals").iterdir()} == {f"{n}-{s}.jsonl" for n in NAMES for s in (4, 5)}
    assert not out.with_name("digits.journals").exists()
    assert (out / "compare.json").read_text() == dumps(digits.comparison)
    jsonschema.validate(digits.comparison.model_dump(mode="json"), schema("compare"))
    assert Plan.read(out) == digits.plan


def test_every_number_is_that_of_the_journals(digits: Compared, out: Path) -> None:
    comparison = digits.comparison
    assert {rival.policy for rival in comparison.rivals} == {*NAMES}
    assert comparison.seeds == (4, 5)
    plans = set()
    for rival in comparison.rivals:
        for play in rival.plays:
            lines = (out / "journals" / f"{rival.policy}-{play.seed}.jsonl").read_text().splitlines()
            header, *episodes = [json.loads(line) for line in lines]
            assert (header["policy"], header["seed"], header["episodes"]) == (rival.policy, play.seed, 18)
            fitting = [line for line in episodes if not line.get("probe")]
            best = max(fitting, key=lambda line: line["score"])
            assert (play.score, play.found_by, list(play.keep)) == (best["score"], best["policy"], best["keep"])
            assert play.evaluations == len(episodes) <= 18
            assert play.distinct == len({tuple(line["keep"]) for line in episodes})
            assert play.curve[-1] == (best["episode"] + 1, best["score"])
            assert [value for _, value in play.curve] == sorted({value for _, value in play.curve})
            plans |= {tuple(line["keep"]) for line in episodes}
        assert rival.score == Spread.of([play.score for play in rival.plays])
        assert rival.behind == comparison.rivals[0].score.mean - rival.score.mean >= 0
    assert comparison.evaluations == len(plans)
    counts = {rival.policy: rival.plays[0].evaluations for rival in comparison.rivals}
    assert (counts["refine"], counts["random"], counts["uniform"], counts["lagrange"]) == (18, 18, 1, 4)
    assert 12 <= counts["greedy"] <= 18


def test_the_best_plans_are_repaired_and_the_best_of_these_is_the_plan(digits: Compared, out: Path) -> None:
    shipped = {}
    for rival in digits.comparison.rivals:
        best = max(rival.plays, key=lambda play: play.score)
        assert best.shipped is not None and rival.report is not None
        assert best.shipped.report == rival.report.mean
        shipped[best.keep] = best.shipped.score
    kept = [group.size - len(group.removed) for group in digits.plan.groups]
    assert shipped[tuple(kept)] == max(score for score in shipped.values() if score is not None)
    result = amcc.apply(out, DIGITS / "model.onnx", data=DIGITS / "val.npz", calib=DIGITS / "calib.npz", threads=1)
    assert result.summary.budget[0].ratio <= 0.5


class Balance(HTMLParser):
    """The tags that are open, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "circle", "line", "polyline", "polygon"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_all_policies(digits: Compared, out: Path) -> None:
    page = (out / "compare.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert all(name in parser.text for name in NAMES)
    assert page.count("<svg") == 3
    assert page.count('href="journals/') == 2 * len(NAMES)
    assert "http" not in page and "<script" not in page and "nan" not in page


def test_scores_are_shared_and_same_seed_same_bytes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    measure = amcc.metric.Evaluator.score  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "amcc.metric.Evaluator.score", lambda self, graph, least=None: scored.append(graph) or measure(self, graph)
    )
    names = "random,shallow,deep,uniform,evolutionary"
    first = amcc.compare(model, policies=names, out=tmp_path / "a", ship="none", **SMALL).comparison
    assert len(scored) == first.evaluations < sum(p.distinct for rival in first.rivals for p in rival.plays)
    amcc.compare(model, policies=names, out=tmp_path / "b", ship="none", **SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_without_repair_plans_are_reported_as_they_are_cut(model: Path) -> None:
    each = amcc.compare(model, policies="random,uniform", ship="each", **SMALL).comparison
    for rival in each.rivals:
        assert [play.shipped and play.shipped.score for play in rival.plays] == [None, None]
        assert rival.report == Spread.of([play.shipped.report for play in rival.plays if play.shipped])
    none = amcc.compare(model, policies="random,uniform", ship="none", **SMALL).comparison
    assert all(rival.report is None and rival.plays[0].shipped is None for rival in none.rivals)


def test_interrupted_it_goes_on(model: Path, tmp_path: Path) -> None:
    options = {**SMALL, "policies": "random,greedy,refine"}
    amcc.compare(model, out=tmp_path / "calm", **options)
    for stop in (3, 25, 61):
        with pytest.raises(Interrupted, match="stopped after"):
            amcc.compare(model, out=tmp_path / "again", observer=StopAt(stop), **options)
    assert not (tmp_path / "again").exists()
    assert (tmp_path / "again.journals" / "random-0.jsonl").read_bytes().count(b"\n") == 21
    amcc.compare(model, out=tmp_path / "again", **options)
    assert contents(tmp_path / "again") == contents(tmp_path / "calm")
    assert not (tmp_path / "again.journals").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes cannot be killed here")
def test_killed_it_goes_on(model: Path, tmp_path: Path) -> None:
    options = ["-b", "flops=0.5", "--policies", "random,greedy", "--recover", "none", "--episodes", "30", "-q"]
    command = ["search", str(model), *options, "--threads", "1", "--seeds", "2", "-o"]
    assert cli(*command, str(tmp_path / "calm")).exit_code == 0
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "amcc", *command, str(tmp_path / "killed")], env=env)
    last = tmp_path / "killed.journals" / "greedy-0.jsonl"
    while process.poll() is None and not last.exists():
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed").exists()
    assert cli(*command, str(tmp_path / "killed")).exit_code == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "calm")


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_command_line(model: Path, tmp_path: Path) -> None:
    options = ["-b", "flops=0.5", "--recover", "none", "--episodes", "6", "--threads", "1", "-q"]
    done = cli("search", str(model), *options, "--compare", "--seeds", "1", "-o", str(tmp_path / "a"))
    assert done.exit_code == 0, done.output
    assert "wins:" in done.output and "over one seed" in done.output
    for name in ("ddpg", "greedy", "evolutionary", "shallow", "deep", "magnitude"):
        assert name in done.output
    one = cli("search", str(model), *options, "--policies", "random", "--json", "-o", str(tmp_path / "b"))
    found = Comparison.model_validate_json(one.stdout)
    assert [rival.policy for rival in found.rivals] == ["random"] and found.seeds == (0, 1, 2)
    default = cli("search", str(model), *options, "--seeds", "1", "--json", "-o", str(tmp_path / "c"))
    assert len(Comparison.model_validate_json(default.stdout).rivals) == 1
    again = cli("search", str(model), *options, "-o", str(tmp_path / "a"))
    assert again.exit_code == 2 and "--force" in again.output


def test_what_cannot_be_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown search policy 'best'"):
        amcc.compare(model, policies="best", **SMALL)
    with pytest.raises(UsageError, match="0 is below 1"):
        amcc.compare(model, **{**SMALL, "seeds": 0})
    with pytest.raises(UsageError, match="'all' is not best, each or none"):
        amcc.compare(model, ship="all", **SMALL)
    with pytest.raises(BudgetError, match="out of reach"):
        amcc.compare(model, **{**SMALL, "budget": "flops=0.001"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(OutputError, match="not written by amcc"):
        amcc.compare(model, out=tmp_path / "full", force=True, **SMALL)
    journals = tmp_path / "x.journals"
    journals.mkdir()
    (journals / "random-0.jsonl").write_text('{"amcc-journal":1}\n')
    with pytest.raises(UsageError, match="belongs to another search"):
        amcc.compare(model, out=tmp_path / "x", policies="random", **SMALL)
    amcc.compare(model, out=tmp_path / "x", policies="random", fresh=True, **SMALL)


def test_spread() -> None:
    spread = Spread.of([1.0, 2.0, 4.0])
    assert spread.mean == pytest.approx(7 / 3)
    assert spread.spread == pytest.approx(float(np.std([1, 2, 4], ddof=1)))
    assert (spread.least, spread.most) == (1.0, 4.0)
    assert Spread.of([3.0]) == Spread(mean=3.0, spread=0.0, least=3.0, most=3.0)


def test_a_compilation_says_how_far_its_plan_is_ahead_of_every_policy(tmp_path: Path) -> None:
    options = {key: ALL[key] for key in ("budget", "data", "calib", "calib_samples", "eval_samples", "threads", "seed")}
    result = amcc.compile(DIGITS / "model.onnx", search="refine", episodes=12, out=tmp_path / "o", **options)
    summary = result.summary
    lines = [json.loads(line) for line in (tmp_path / "o" / "journal.jsonl").read_text().splitlines()[1:]]
    kept = [group.kept for group in summary.groups]
    shipped = next(line["score"] for line in lines if line["keep"] == kept)
    finals = {final.episode: final.score for final in summary.finalists}
    assert [line.policy for line in summary.policies if line.shipped] == [summary.policy]
    for line in summary.policies:
        best = max((one for one in lines if one["policy"] == line.policy), key=lambda one: one["score"])
        assert (line.score, line.margin) == (best["score"], shipped - best["score"])
        same = [finals[one["episode"]] for one in lines if one["keep"] == best["keep"] and one["episode"] in finals]
        assert line.final == (same[0] if same else None)
        assert line.final_margin == (summary.finalists[0].score - same[0] if same else None)
        assert line.final_margin is None or line.final_margin >= 0
    assert sum(line.final is not None for line in summary.policies) >= 2
