"""Policies side by side on one network: loaded, calibrated and scored once, each policy with each seed.

A plan's score does not depend on who proposed it, so plans that several searches propose are scored once; each
search's evaluations count as its own all the same. Every search has a journal, and a comparison that was killed goes
on from them.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from amcc.artifacts import check_output, output_folder
from amcc.budget import Budget
from amcc.comparison import Comparison, Grouped, Original, Play, Rival, Shipped, Spread, Timing, Timings
from amcc.data import Spec
from amcc.deadline import timed
from amcc.errors import UsageError
from amcc.finals import last_rounds
from amcc.ir import Shape
from amcc.passes.channels import Removal
from amcc.plan import Plan
from amcc.problems import check_reachable, decisions
from amcc.progress import Clock, Observer, Silent
from amcc.search import POLICIES, Record, SearchResult, policy_named
from amcc.settings import CALIB_SAMPLES, EPISODES, EVAL_SAMPLES, Measuring, Settings
from amcc.shipment import Shipment, budget_lines
from amcc.stages import DataSpec, Notes, described
from amcc.study import Study, find, open_subject, prepare
from amcc.summary import versions

Ship = Literal["best", "each", "none"]


@dataclass(frozen=True)
class Compared:
    """What came out.

    Attributes:
        comparison: what `compare.json` holds.
        plan: the best of all.
        folder: where the files are; None where none were asked for.
    """

    comparison: Comparison
    plan: Plan
    folder: Path | None


def compare(
    model: Any,
    example_inputs: Any = None,
    *,
    budget: str | Sequence[str],
    policies: str | Iterable[str] | None = None,
    seeds: int = 3,
    ship: str = "best",
    data: Spec | None = None,
    calib: Spec | None = None,
    report_data: Spec | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    metric: str | Callable[..., Any] | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    round: int | None = None,
    granularity: str = "channel",
    lock: Iterable[str] = (),
    exact: bool = False,
    min_keep: float = 0.0,
    recover: str = "full",
    out: str | Path | None = None,
    force: bool = False,
    fresh: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
    calib_samples: int = CALIB_SAMPLES,
    eval_samples: int = EVAL_SAMPLES,
    threads: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    measuring: Measuring | None = None,
    observer: Observer | None = None,
) -> Compared:
    """Run several policies with several seeds each. See `amcc.api.compile` for the rest.

    Args:
        policies: names, in a list or joined by commas; by default all.
        seeds: how many searches each policy has: with `seed`, `seed + 1` and so on. Samples and calibration are those
            of `seed` in all of them.
        ship: which plans are repaired as they would be shipped and measured on the report's samples: the `"best"` of
            each policy, the best of `"each"` search, or `"none"`.
        out: folder for `compare.json`, `compare.html`, the best plan and the journals.

    Raises:
        BudgetError: the budget is out of reach, or nothing can be pruned.
        InputError, UsageError, OutputError: what was given cannot be used.
        Interrupted: Ctrl-C.
    """
    names = _named(policies)
    if seeds < 1:
        raise UsageError(f"{seeds} is below 1", where="--seeds")
    if ship not in get_args(Ship):
        raise UsageError(f"'{ship}' is not best, each or none", where="--ship")
    asked = Budget.parse(budget)
    settings = Settings(
        search="lagrange" if "lagrange" in names else names[0],
        episodes=episodes,
        seed=seed,
        round=round,
        granularity=granularity,
        lock=tuple(lock),
        exact=exact,
        min_keep=min_keep,
        recover=recover,
        metric=metric,
        calib_samples=calib_samples,
        eval_samples=eval_samples,
        threads=threads,
        workers=workers,
        ray=ray,
        measuring=measuring or Measuring(),
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        check_output(folder, force=force)
    journals = _journals(folder, fresh=fresh)
    clock, notes = Clock(observer or Silent()), Notes()
    subject = open_subject(model, example_inputs, input_shapes, settings, clock)
    subject = timed(subject, asked, settings, clock, notes, fresh=fresh)
    check_reachable(subject, asked, settings)
    known: dict[tuple[int, ...], float] = {}
    with prepare(subject, DataSpec(data, calib, report_data, preprocess), settings, clock, notes) as study:
        runs = [(name, seed + more) for name in names for more in range(seeds)]
        searches = [_searched(study, asked, name, number, journals, known) for name, number in runs]
        shipped = _shipped(study, searches, ship)
    best = max(searches, key=lambda one: _merit(one.found.best, shipped))
    plan = _plan(study, asked, best)
    comparison = _comparison(study, asked, searches, shipped, best)
    if folder is not None:
        clock.observer.phase(f"writing {folder}")
        _write(comparison, plan, folder, journals, force=force)
    return Compared(comparison, plan, folder)


@dataclass(frozen=True)
class _Search:
    """One policy with one seed.

    Attributes:
        thinking: seconds besides scores.
    """

    policy: str
    seed: int
    found: SearchResult
    thinking: float


def _named(policies: str | Iterable[str] | None) -> list[str]:
    if policies is None:
        return list(POLICIES)
    listed = [policies] if isinstance(policies, str) else list(policies)
    names = [name.strip() for text in listed for name in text.split(",")]
    for name in names:
        policy_named(name)
    return list(dict.fromkeys(names))


def _journals(out: Path | None, *, fresh: bool) -> Path | None:
    """The folder of the journals until the output is written."""
    if out is None:
        return None
    folder = out.with_name(out.name + ".journals")
    if fresh:
        for name in POLICIES:
            for journal in folder.glob(f"{name}-*.jsonl"):
                journal.unlink()
    return folder


def _searched(
    study: Study, budget: Budget, name: str, seed: int, journals: Path | None, known: dict[tuple[int, ...], float]
) -> _Search:
    study.clock.observer.phase(f"policy {name}, seed {seed}")
    own = replace(study, settings=replace(study.settings, search=name, seed=seed))
    journal = None if journals is None else journals / f"{name}-{seed}.jsonl"
    began = time.perf_counter()
    found = find(own, budget, journal, ship_on_interrupt=False, known=known)
    return _Search(name, seed, found, time.perf_counter() - began - found.scoring)


def _shipped(study: Study, searches: Sequence[_Search], ship: str) -> dict[tuple[int, ...], Shipped]:
    """What the chosen plans come to once they are repaired."""
    heads: dict[object, Record] = {}
    for one in searches if ship != "none" else ():
        key = one.policy if ship == "best" else (one.policy, one.seed)
        if key not in heads or one.found.best.score > heads[key].score:
            heads[key] = one.found.best
    if not heads:
        return {}
    chosen = tuple({record.keep: record for record in heads.values()}.values())
    finalists = last_rounds(study, [SearchResult(chosen[0], chosen)], len(chosen))[0]
    with study.clock.phase("report", "measuring on the report split"):
        found = {f.record.keep: Shipped(score=f.score, report=study.reporter.score(f.graph)) for f in finalists}
        for record in () if finalists else chosen:
            pure = study.subject.pure(_removal(study, record))
            found[record.keep] = Shipped(score=None, report=study.reporter.score(pure))
    return found


def _merit(record: Record, shipped: Mapping[tuple[int, ...], Shipped]) -> tuple[float, float]:
    """What plans are compared by: the last round where there was one, else the search."""
    known = shipped.get(record.keep)
    return (-math.inf if known is None or known.score is None else known.score, record.score)


def _removal(study: Study, record: Record) -> Removal:
    return study.subject.removal(record.keep, study.learned.orders)


def _plan(study: Study, budget: Budget, best: _Search) -> Plan:
    record, exact = best.found.best, study.settings.exact
    removal, asked = _removal(study, record), str(budget)
    return described(study.subject, removal, budget=asked, policy=record.policy, seed=best.seed, exact=exact)


def _comparison(
    study: Study,
    budget: Budget,
    searches: Sequence[_Search],
    shipped: Mapping[tuple[int, ...], Shipped],
    best: _Search,
) -> Comparison:
    subject, splits, settings = study.subject, study.splits, study.settings
    data = {"calibration": splits.calibration, "search": splits.search, "report": splits.report}
    names = list(dict.fromkeys(one.policy for one in searches))
    plays = {name: [_play(one, shipped) for one in searches if one.policy == name] for name in names}
    scores = {name: Spread.of([play.score for play in plays[name]]) for name in names}
    ranked = sorted(names, key=lambda name: (-scores[name].mean, sum(play.evaluations for play in plays[name])))
    shipment = Shipment(study, _removal(study, best.found.best), budget, best.policy, None)
    return Comparison(
        model=subject.name,
        budget=budget_lines(shipment),
        metric=study.evaluator.name,
        episodes=settings.episodes,
        seeds=tuple(dict.fromkeys(one.seed for one in searches)),
        original=Original(search=study.evaluator.original, report=study.reporter.original),
        samples={"search": len(splits.search), "last round": len(splits.finals), "report": len(splits.report)},
        rivals=tuple(_rival(name, scores[name], scores[ranked[0]].mean, plays[name]) for name in ranked),
        evaluations=len({record.keep for one in searches for record in one.found.records}),
        groups=tuple(Grouped(name=group.name, size=group.size) for group in decisions(subject, settings)),
        recover="layers" if study.learned.statistics is not None else "none",
        versions=versions(),
        inputs={"model": subject.sha256, **{name: part.sha256 for name, part in data.items()}},
        warnings=tuple(study.notes.texts),
        timings=_timings(study.clock.seconds, searches),
    )


def _play(one: _Search, shipped: Mapping[tuple[int, ...], Shipped]) -> Play:
    found, best = one.found, one.found.best
    curve: list[tuple[int, float]] = []
    for record in found.fitting:
        if not curve or record.score > curve[-1][1]:
            curve.append((record.episode + 1, record.score))
    own = found.by_policy.get(one.policy)
    return Play(
        seed=one.seed,
        score=best.score,
        found_by=best.policy,
        own=None if own is None else own.score,
        evaluations=len(found.records),
        distinct=found.evaluations,
        curve=tuple(curve),
        keep=best.keep,
        shipped=shipped.get(best.keep),
    )


def _rival(name: str, score: Spread, best: float, plays: Sequence[Play]) -> Rival:
    reports = [play.shipped.report for play in plays if play.shipped is not None]
    report = Spread.of(reports) if reports else None
    return Rival(policy=name, score=score, report=report, behind=best - score.mean, plays=tuple(plays))


def _timings(seconds: dict[str, float], searches: Sequence[_Search]) -> Timings:
    scored = sum(record.source == "evaluated" for one in searches for record in one.found.records)
    each = sum(one.found.scoring for one in searches) / scored if scored else None
    policies: dict[str, list[_Search]] = {}
    for one in searches:
        policies.setdefault(one.policy, []).append(one)
    return Timings(
        seconds=seconds,
        evaluation=None if each is None else round(each, 4),
        policies=tuple(
            Timing(policy=name, thinking=round(fmean(one.thinking for one in own), 3)) for name, own in policies.items()
        ),
    )


def _write(comparison: Comparison, plan: Plan, out: Path, journals: Path | None, *, force: bool) -> None:
    from amcc.comparison_report import html

    with output_folder(out, force=force) as folder:
        plan.write(folder / "plan.json")
        comparison.write(folder / Comparison.FILE)
        (folder / "compare.html").write_text(html(comparison), encoding="utf-8")
        if journals is not None and journals.is_dir():
            shutil.copytree(journals, folder / "journals")
    if journals is not None:
        shutil.rmtree(journals, ignore_errors=True)
