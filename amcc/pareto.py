"""Several budgets from one search: one network loaded, one calibration, the episodes shared.

See `amcc.search.multi_budget` for what the budgets tell one another.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from amcc.artifacts import check_output, journal_path, output_folder
from amcc.budget import KEYS, Budget, Key, Limits
from amcc.data import Spec
from amcc.deadline import in_time, joined, timed
from amcc.errors import BudgetError, UsageError
from amcc.finals import last_rounds, places, winner
from amcc.front import Cost, Front, Point
from amcc.ir import Shape
from amcc.passes.cost import CostModel
from amcc.passes.sparsity import SparseCosts
from amcc.problems import check_reachable, costs_of, limits_of, problem_of
from amcc.progress import Clock, Observer, Silent
from amcc.search import SearchResult
from amcc.search.multi_budget import MultiBudget, check_policy, parts
from amcc.settings import CALIB_SAMPLES, EPISODES, EVAL_SAMPLES, POLICY, Measuring, Settings, artifacts
from amcc.shipment import Shipment
from amcc.shipping import Result, finish, write
from amcc.stages import DataSpec, Notes
from amcc.study import Study, find, journal_for, open_subject, prepare
from amcc.summary import Summary, Totals, versions


@dataclass(frozen=True)
class Pareto:
    """The points of a front.

    Attributes:
        front: what `pareto.json` holds.
        results: one a budget, the tightest first.
        folder: where the artifacts are; None where none were asked for.
    """

    front: Front
    results: tuple[Result, ...]
    folder: Path | None


def pareto(
    model: Any,
    example_inputs: Any = None,
    *,
    budgets: str | Sequence[str | float],
    resource: str = "flops",
    data: Spec | None = None,
    calib: Spec | None = None,
    report_data: Spec | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    metric: str | Callable[..., Any] | None = None,
    search: str = POLICY,
    episodes: int = EPISODES,
    seed: int = 0,
    round: int | None = None,
    lock: Iterable[str] = (),
    exact: bool = False,
    min_keep: float = 0.0,
    recover: str = "full",
    out: str | Path | None = None,
    force: bool = False,
    emit: str | Iterable[str] | None = None,
    fresh: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
    calib_samples: int = CALIB_SAMPLES,
    eval_samples: int = EVAL_SAMPLES,
    threads: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    measuring: Measuring | None = None,
    ship_on_interrupt: bool = False,
    observer: Observer | None = None,
) -> Pareto:
    """Make a network smaller to several sizes at once. See `amcc.api.compile` for the rest.

    Args:
        budgets: values of one resource, `"0.3,0.5"` or a list, each as a budget has it (`0.3`, `30%`, `150M`).
        resource: `flops`, `params`, `size`, `memory` or `latency`.
        episodes: as for one budget; for all of them together the search has a sixth more.
        out: folder for a folder a budget, `pareto.json` and `pareto.html`.

    Raises:
        BudgetError: a budget is out of reach, or nothing can be pruned.
        VerificationError: a result failed its certificate; nothing is written.
        InputError, UsageError, OutputError: what was given cannot be used.
        WorkerError: workers cannot be started, or die again and again.
        Interrupted: Ctrl-C during the search.
    """
    asked = _asked(budgets, resource)
    check_policy(search)
    settings = Settings(
        search=search,
        episodes=episodes + max(episodes, 0) // 6,
        seed=seed,
        round=round,
        lock=tuple(lock),
        exact=exact,
        min_keep=min_keep,
        recover=recover,
        metric=metric,
        emit=artifacts(emit),
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
    journal = journal_for(folder, settings, fresh=fresh)
    clock, notes = Clock(observer or Silent()), Notes()
    subject = open_subject(model, example_inputs, input_shapes, settings, clock)
    subject = timed(subject, asked[len(asked) // 2], settings, clock, notes, fresh=fresh)
    rungs = _sorted(asked, costs_of(subject, asked[0]))
    _check_reachable(rungs, lambda budget: check_reachable(subject, budget, settings))
    study = prepare(subject, DataSpec(data, calib, report_data, preprocess), settings, clock, notes)
    _check_reachable(
        rungs,
        lambda budget: problem_of(subject, study.learned, budget, settings, lambda keep: 0.0).check_reachable(),
    )
    turns = MultiBudget(tuple(limits for _, limits in rungs), search)
    with study:
        shared: dict[str, Any] = {"policy": turns, "rung_of": turns.rung}
        found = find(study, rungs[-1][0], journal, ship_on_interrupt=ship_on_interrupt, **shared)
        shipments = _shipments(study, rungs, found)
    results = tuple(finish(shipment) for shipment in shipments)
    if folder is not None:
        clock.observer.phase(f"writing {folder}")
        results, front = _write(shipments, results, found, folder, force=force)
        return Pareto(front, results, folder)
    return Pareto(_front(shipments, results, found), results, None)


def folder_name(budget: Budget) -> str:
    """`flops-0.3` for `flops=0.3`."""
    return re.sub(r"\s+", "", str(budget)).replace("=", "-")


def _asked(budgets: str | Sequence[str | float], resource: str) -> list[Budget]:
    if resource not in KEYS:
        raise UsageError(f"'{resource}' is not {', '.join(KEYS[:-1])} or {KEYS[-1]}", where="--resource")
    listed = [budgets] if isinstance(budgets, str) else list(budgets)
    texts = [part.strip() for text in listed for part in str(text).split(",")]
    if not any(texts):
        raise UsageError("no budgets are given", where="--budgets", hint="write them as 0.3,0.5,0.7")
    return [Budget.parse(f"{resource}={text}") for text in texts]


def _sorted(asked: Sequence[Budget], costs: CostModel | SparseCosts) -> list[tuple[Budget, Limits]]:
    """The budgets and their limits, the tightest first."""
    key = asked[0].terms[0].key
    rungs = sorted(((b, limits_of(b, costs)) for b in asked), key=lambda rung: _limit(rung[1], key))
    for (one, low), (other, high) in pairwise(rungs):
        if low == high:
            raise UsageError(f"{one} and {other} are the same", where="--budgets", hint="give each once")
    return rungs


def _limit(limits: Limits, key: Key) -> int:
    return dict(limits.items())[key]


def _check_reachable(rungs: Sequence[tuple[Budget, Limits]], check: Callable[[Budget], None]) -> None:
    """Find out which budgets are out of reach.

    Raises:
        BudgetError: names them, and the smallest reachable value.
    """
    failed: list[tuple[str, BudgetError]] = []
    for budget, _ in rungs:
        try:
            check(budget)
        except BudgetError as error:
            failed.append((str(budget), error))
    if failed:
        names = ", ".join(name for name, _ in failed)
        raise BudgetError(failed[-1][1].message, where=names, hint=failed[-1][1].hint)


def _shipments(study: Study, rungs: Sequence[tuple[Budget, Limits]], found: SearchResult) -> list[Shipment]:
    """What each budget ships; every point has its own warnings and its own clock, which goes on from the shared one."""
    split = parts(found, [limits for _, limits in rungs])
    fast = [in_time(study, budget, part) for (budget, _), part in zip(rungs, split, strict=True)]
    most = places(study)
    rounds = last_rounds(study, fast, max(1, min(most, 3 * most // (2 * len(rungs)))))
    shipments = []
    for (budget, _), part, quick, finalists in zip(rungs, split, fast, rounds, strict=True):
        best = winner(finalists, quick)
        clock = Clock(study.clock.observer)
        clock.seconds |= study.clock.seconds
        own = replace(study, notes=Notes(list(study.notes.texts)), clock=clock, results=len(rungs))
        removal = study.subject.removal(best.keep, study.learned.orders)
        shipments.append(Shipment(own, removal, budget, best.policy, joined(part, quick), finalists))
    return shipments


def _write(
    shipments: Sequence[Shipment], results: Sequence[Result], found: SearchResult, out: Path, *, force: bool
) -> tuple[tuple[Result, ...], Front]:
    from amcc.front_report import html

    journal = journal_path(out)
    written = []
    with output_folder(out, force=force) as folder:
        for shipment, result in zip(shipments, results, strict=True):
            name = folder_name(shipment.budget)
            written.append(replace(write(shipment, result, folder / name, force=False), folder=out / name))
        if journal.is_file():
            shutil.copyfile(journal, folder / "journal.jsonl")
        front = _front(shipments, written, found)
        front.write(folder / "pareto.json")
        page = html(front, [result.summary for result in written], found.records)
        (folder / "pareto.html").write_text(page, encoding="utf-8")
    journal.unlink(missing_ok=True)
    return tuple(written), front


def _front(shipments: Sequence[Shipment], results: Sequence[Result], found: SearchResult) -> Front:
    first = results[0].summary
    return Front(
        model=first.model,
        resource=first.budget[0].resource,
        metric=first.metric.name,
        original=_cost(first.totals, "before"),
        evaluations=found.evaluations,
        points=tuple(_point(s, result.summary) for s, result in zip(shipments, results, strict=True)),
        seed=first.seed,
        versions=versions(),
        inputs=first.inputs,
    )


def _point(shipment: Shipment, summary: Summary) -> Point:
    assert shipment.search is not None
    line, records = summary.budget[0], shipment.search.records
    uniform = [record for record in records if record.policy == "uniform"]
    best = shipment.search.best.score
    judged = shipment.finalists[:1]
    return Point(
        asked=line.asked,
        folder=folder_name(shipment.budget),
        limit=line.limit,
        reached=line.reached,
        ratio=line.ratio,
        cost=_cost(summary.totals, "after"),
        policy=shipment.policy,
        searched=best,
        uniform=max(uniform, key=lambda record: record.costs.of(line.resource)).score if uniform else None,
        score=judged[0].score if judged else best,
        samples=judged[0].samples if judged else len(shipment.study.splits.search),
        search=summary.metric.search,
        report=summary.metric.report,
    )


def _cost(totals: Totals, when: Literal["before", "after"]) -> Cost:
    return Cost(**{name: getattr(change, when) for name, change in totals})
