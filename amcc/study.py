"""A network made ready for the search, and the search itself with its journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from amcc.artifacts import journal_path
from amcc.budget import Budget
from amcc.data import Dataset, Splits
from amcc.ir import Shape
from amcc.latency.device import device_of
from amcc.metric import Evaluator
from amcc.problems import problem_of
from amcc.progress import Clock
from amcc.search import SEARCHES, Policy, Problem, RungOf, SearchInterrupted, SearchResult, policy_named, search
from amcc.settings import Settings
from amcc.stages import (
    DataSpec,
    Learned,
    Notes,
    Scorer,
    Subject,
    capture,
    check_prunable,
    gather,
    learn,
    samples_made_up,
    weights_hash,
)
from amcc.synthetic import that_runs
from amcc.workers.local import Processes
from amcc.workers.pool import Place, Pool


@dataclass(frozen=True)
class Study:
    """All that a search or a given plan needs.

    Attributes:
        evaluator: scores candidates on the search's samples.
        reporter: scores the result on the report's.
        pool: of workers that score plans side by side, where there are some.
        results: how many networks the study ends with, which share the time for their repair.
    """

    subject: Subject
    splits: Splits
    learned: Learned
    evaluator: Evaluator
    reporter: Evaluator
    settings: Settings
    notes: Notes
    clock: Clock
    pool: Pool | None = None
    results: int = 1

    @property
    def scorer(self) -> Scorer:
        """Scores plans, here."""
        return Scorer(self.subject, self.learned, self.evaluator)

    @cached_property
    def judge(self) -> Evaluator:
        """Judges what may be shipped, where it can on samples that no other part uses."""
        if self.splits.finals is self.splits.search:
            return self.evaluator
        metric, threads = self.settings.metric, self.settings.threads
        return Evaluator(self.subject.graph, self.splits.finals, metric, threads=threads)

    def problem(self, budget: Budget) -> Problem:
        """The search for a plan within a budget."""
        original = self.evaluator.original
        return problem_of(self.subject, self.learned, budget, self.settings, self.scorer, original)

    def __enter__(self) -> Study:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the workers."""
        if self.pool is not None:
            self.pool.close()


def open_subject(
    model: Any, example_inputs: Any, input_shapes: Mapping[str, Shape] | None, settings: Settings, clock: Clock
) -> Subject:
    """Load and analyse the network.

    Raises:
        ModelError: it cannot be loaded.
        UsageError: there is nothing to measure its latency on.
        BudgetError: nothing in it can be pruned.
    """
    device_of(settings.measuring)
    with clock.phase("load", "loading and analysing the network"):
        subject = capture(
            model,
            example_inputs,
            input_shapes,
            settings.lock,
            exact=settings.exact,
            granularity=settings.granularity,
        )
        check_prunable(subject.cuts)
    return subject


def prepare(
    subject: Subject, data: DataSpec, settings: Settings, clock: Clock, notes: Notes, *, searching: bool = True
) -> Study:
    """Load the data, measure the original, and learn in which order units go; workers start with the search.

    Args:
        searching: false where it is settled what goes.

    Raises:
        DataError: data that cannot be read or do not fit, or a metric that fails.
    """

    def measured(made_up: Dataset | None) -> tuple[Splits, Evaluator, Evaluator]:
        with clock.phase("data", "loading data"):
            splits = gather(subject, data, settings, notes, made_up)
        with clock.phase("original", "measuring the original"):
            evaluator, reporter = (
                Evaluator(subject.graph, part, settings.metric, threads=settings.threads)
                for part in (splits.search, splits.report)
            )
        return splits, evaluator, reporter

    if data.data is None and data.calib is None:
        found = that_runs(subject.graph, samples_made_up(subject), measured, seed=settings.seed)
    else:
        found = measured(None)
    splits, evaluator, reporter = found
    with clock.phase("calibration", "calibrating"):
        learned = learn(subject, splits.calibration, settings, searching=searching)
    return hire(Study(subject, splits, learned, evaluator, reporter, settings, notes, clock))


def hire(study: Study) -> Study:
    """The study with the workers that its settings ask for; they start with the search."""
    if not study.settings.side_by_side:
        return study
    return replace(study, pool=Pool(lambda: _place(study.scorer, study.settings)))


def _place(scorer: Scorer, settings: Settings) -> Place:
    """Where workers score plans."""
    threads = settings.threads_each
    what = f"what scores plans by '{scorer.evaluator.name}'"
    if settings.ray is not None:
        from amcc.workers.cluster import Cluster

        return Cluster(scorer.on(threads), what, settings.ray, settings.workers, threads)
    return Processes(scorer.on(threads), what, settings.workers or 1)


class Movable(Protocol):
    """A function that can be told how many threads of ONNX Runtime it may use."""

    def __call__(self, item: Any, /) -> Any:
        """What it gives."""
        ...

    def on(self, threads: int) -> Movable:
        """The same with another number of threads."""
        ...


def side_by_side(study: Study, function: Movable, items: Sequence[Any]) -> list[Any]:
    """What a function gives for each item; once the search is over, by processes here where workers are asked for."""
    settings = study.settings
    if study.pool is None or settings.ray is not None:
        return [function(item) for item in items]
    study.pool.close()
    count = min(settings.workers or 1, len(items))
    with Pool(lambda: Processes(function.on(settings.threads_each), "what repairs plans", count)) as pool:
        return list(pool.map(items))


def find(
    study: Study,
    budget: Budget,
    journal: Path | None,
    *,
    ship_on_interrupt: bool,
    policy: Policy | None = None,
    known: dict[tuple[int, ...], float] | None = None,
    rung_of: RungOf | None = None,
) -> SearchResult:
    """Run the search.

    Args:
        policy: in place of the one that the settings name.
        known: scores of plans that are known already; those of this search are added.
        rung_of: where there are several budgets, which one a plan of these costs is for.

    Raises:
        BudgetError: the budget is out of reach.
        SearchInterrupted: Ctrl-C, unless `ship_on_interrupt` and something was found.
    """
    settings, observer = study.settings, study.clock.observer
    problem = study.problem(budget)
    problem.check_reachable()
    with study.clock.phase("search", f"searching{_by(settings)}"):
        observer.search_begins(settings.episodes if settings.search in SEARCHES else 0)
        try:
            return search(
                problem,
                policy or settings.search,
                episodes=settings.episodes,
                seed=settings.seed,
                journal=journal,
                fingerprint=_search_hash(study, budget) if journal else "",
                progress=observer.episode,
                known=known,
                scores_of=study.pool.map if study.pool else None,
                stop_early=known is None,
                rung_of=rung_of,
            )
        except SearchInterrupted as stopped:
            if not ship_on_interrupt or stopped.result is None:
                raise
            study.notes.add(
                f"the search was stopped after {len(stopped.result.records)} of {settings.episodes} episodes"
            )
            return stopped.result
        finally:
            observer.search_ends()
            _drop_empty(journal)


def journal_for(target: Path | None, settings: Settings, *, fresh: bool) -> Path | None:
    """The journal beside an output; None where the search is over in a few evaluations."""
    policy_named(settings.search)
    if target is None:
        return None
    path = journal_path(target)
    if fresh:
        path.unlink(missing_ok=True)
    return path if settings.search in SEARCHES else None


def _by(settings: Settings) -> str:
    """Who scores plans, for people."""
    where = f" on Ray ({settings.ray})" if settings.ray is not None else ""
    return f" with {settings.workers or 'all'} workers{where}" if settings.side_by_side else ""


def _drop_empty(journal: Path | None) -> None:
    """Remove a journal without a single finished episode."""
    if journal is not None and journal.is_file() and journal.read_bytes().count(b"\n") < 2:
        journal.unlink()


def _search_hash(study: Study, budget: Budget) -> str:
    """Of all that decides a search: network, data, metric, options."""
    from amcc.summary import versions

    settings, splits = study.settings, study.splits
    facts = {
        "network": weights_hash(study.subject.graph),
        "calibration": [splits.calibration.sha256, splits.calibration.source],
        "search": [splits.search.sha256, splits.search.source],
        "metric": study.evaluator.name,
        "original": study.evaluator.original,
        "budget": str(budget),
        "latency": study.subject.latency.sha256 if study.subject.latency is not None else None,
        "lock": sorted(settings.lock),
        "exact": settings.exact,
        "recover": settings.recover,
        "versions": versions(),
        **({"granularity": settings.granularity} if study.subject.layers is not None else {}),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
