"""Keeping a budget of latency: what the table says is corrected where plans fall, and what ships was run.

A table of operators is right about which plan is faster, and off by a few percent in how much. So before the search
a plan at the limit is run, and predicted savings are scaled so that it comes out right; after it the best plans
are run, and one that misses the limit, or leaves too much of it, is moved by a step or two and run again. Nothing is
shipped that was not seen to be fast enough in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from amcc.bench import Timing
from amcc.budget import Budget, spelled
from amcc.errors import BudgetError, UsageError
from amcc.finals import Finalist, entrants, last_round, places, winner
from amcc.ir import Array, Shape
from amcc.latency import cache
from amcc.latency.clock import Latency, latency_of
from amcc.latency.device import Local, device_of
from amcc.problems import problem_of
from amcc.progress import Clock
from amcc.search import Record, SearchResult, rules
from amcc.search.fit import fill, nearest
from amcc.search.problem import Problem
from amcc.settings import Settings
from amcc.stages import Notes, Subject, blank
from amcc.study import Study

NEAR = 0.97
"""The share of the limit that a plan should take, where widths are fine enough."""
TOLERANCE = 0.03
"""By how much of the limit the last measurement may exceed it: two of one network differ by as much."""
_SETTLED = 0.01
_ROUNDS = 4
_PLANS = 8
"""Plans that are run after a search at most."""
_TIMES = 3


def timed(
    subject: Subject, asked: Budget, settings: Settings, clock: Clock, notes: Notes, *, fresh: bool = False
) -> Subject:
    """The network with its times on the device, where the budget asks for them: kept from before, or measured now.

    Args:
        fresh: measure whatever was kept.

    Raises:
        BudgetError: the smallest plan was run, and is too slow.
        ModelError, DataError: the device fails.
        UsageError: there is no such device, or no channels go.
    """
    if asked.of("latency") is None:
        return subject
    if subject.layers is not None:
        raise UsageError(
            f"zeros do not make ONNX Runtime faster: there is no latency to save by {subject.layers.granularity}",
            where="--granularity",
            hint="a budget of latency needs channels",
        )
    device = device_of(settings.measuring)
    with clock.phase("latency", f"measuring latency: {device}"):
        shapes = {name: subject.graph.shape(name) for name in subject.graph.inputs}
        latency, kept = latency_of(subject.channels, device, shapes, file=subject.file, fresh=fresh)
        if not kept:
            notes.add(f"measured latencies could not be kept in {cache.folder()}: the next run measures them again")
        return _settled(replace(subject, latency=latency), asked, settings)


def _settled(subject: Subject, asked: Budget, settings: Settings) -> Subject:
    """The subject with savings scaled so that the uniform plan at the limit takes what it took when it was run."""
    for _ in range(_ROUNDS):
        latency = subject.latency
        assert latency is not None
        problem = problem_of(subject, blank(subject), asked, settings, lambda keep: 0.0)
        limit = _limit(asked, latency)
        if limit >= latency.whole or not problem.limits.admit(replace(problem.floor, latency=0)):
            break  # nothing to keep, or another limit is out of reach, which is said elsewhere
        within = problem.fits(problem.smallest)
        keep = rules.uniform(problem) if within else problem.smallest
        removal = subject.removal(keep, blank(subject).orders)
        predicted, measured = problem.cost(keep).latency, latency.measured(removal)
        if not within and measured > (problem.limits.latency or limit):
            raise _unreached(latency, limit, measured, "the smallest network")
        if within and abs(measured - predicted) <= _SETTLED * measured:
            break
        subject = replace(subject, latency=latency.corrected(removal))
    return subject


@dataclass(frozen=True)
class Chosen:
    """What a search comes to.

    Attributes:
        search: all that ran.
        finalists: of the last round, best first; none where there was none.
        record: the plan that ships.
    """

    search: SearchResult
    finalists: tuple[Finalist, ...]
    record: Record


def choose(study: Study, asked: Budget, found: SearchResult) -> Chosen:
    """The last round and its winner; under a budget of latency, among plans that were run and are fast enough.

    Raises:
        BudgetError: no plan was seen to be fast enough.
    """
    fast = in_time(study, asked, found)
    finalists = last_round(study, fast)
    return Chosen(joined(found, fast), finalists, winner(finalists, fast))


def joined(found: SearchResult, fast: SearchResult) -> SearchResult:
    """All that ran, plans that were made faster after the search included."""
    known = {record.keep for record in found.records}
    more = [record for record in fast.records if record.keep not in known]
    first = len(found.records)
    numbered = (replace(record, episode=first + number) for number, record in enumerate(more))
    return replace(found, best=fast.best, records=(*found.records, *numbered)) if more else found


def in_time(study: Study, asked: Budget, found: SearchResult) -> SearchResult:
    """The best plans of a search, each run; one that is too slow is narrowed, one that leaves time widened.

    Without a budget of latency, the search as it is.

    Raises:
        BudgetError: none was seen to be fast enough.
    """
    latency = study.subject.latency
    if latency is None or asked.of("latency") is None:
        return found
    limit = _limit(asked, latency)
    known = {record.keep: record.score for record in found.records}
    runs = _Runs(study, asked, latency, limit)
    fast: dict[tuple[int, ...], Record] = {}
    with study.clock.phase("confirmation", "running the best plans"):
        for record in entrants(found, places(study)):
            if (keep := runs.near(record.keep)) is not None and keep not in fast:
                plan = np.array(keep)
                score = known[keep] if keep in known else float(runs.problem.score(plan))
                fast[keep] = Record(record.episode, record.policy, keep, score, runs.problem.cost(plan))
    if not fast:
        raise _unreached(latency, limit, runs.least, "the fastest plan that was run")
    return SearchResult(max(fast.values(), key=lambda record: record.score), tuple(fast.values()))


class _Runs:
    """Runs plans until one near a given one is fast enough; so many in all.

    Attributes:
        problem: with costs as they were before any of these plans was run.
        least: nanoseconds of the fastest one.
    """

    def __init__(self, study: Study, asked: Budget, latency: Latency, limit: int) -> None:
        self._study, self._asked, self._latency, self._limit = study, asked, latency, limit
        self._left = _PLANS
        self.problem = self._problem(latency)
        self.least = latency.whole

    def near(self, keep: tuple[int, ...]) -> tuple[int, ...] | None:
        """A plan that was fast enough and takes nearly all of the limit; failing that, one that is fast enough."""
        subject, found = self._study.subject, None
        tried: set[tuple[int, ...]] = set()
        while self._left and len(tried) < _ROUNDS and keep not in tried:
            tried.add(keep)
            self._left -= 1
            removal = subject.removal(keep, self._study.learned.orders)
            measured = self._latency.measured(removal)
            self.least = min(self.least, measured)
            if measured <= self._limit:
                found = keep
                if measured >= NEAR * self._limit:
                    break
            moved = _moved(self._problem(self._latency.corrected(removal)), np.array(keep))
            keep = tuple(moved.tolist())
        return found

    def _problem(self, latency: Latency) -> Problem:
        study = self._study
        subject = replace(study.subject, latency=latency)
        return problem_of(subject, study.learned, self._asked, study.settings, study.scorer)


def _moved(problem: Problem, keep: Array) -> Array:
    """The plan, with as few groups narrowed as make it fit, and then filled up."""
    wanted = keep
    while not problem.fits(keep):
        narrowed = list(_steps_down(problem, keep))
        if not narrowed:
            return wanted
        fitting = [plan for plan in narrowed if problem.fits(plan)]
        chosen = max if fitting else min
        keep = chosen(fitting or narrowed, key=lambda plan: problem.limits.use(problem.cost(plan)))
    return fill(problem, keep, nearest(problem, wanted.astype(np.float64)))


def _steps_down(problem: Problem, keep: Array) -> Iterator[Array]:
    """The plan with one group at its next narrower width, for every group that has one."""
    for group, widths in enumerate(problem.widths):
        if (place := int(widths.searchsorted(keep[group]))) > 0:
            plan = keep.copy()
            plan[group] = widths[place - 1]
            yield plan


def beside(
    latency: Latency, files: Mapping[str, Path], shapes: Mapping[str, Shape], asked: Budget | None
) -> tuple[Timing, Timing]:
    """The original's time and the result's, side by side in fresh processes.

    Where that is not near the limit it is done three times, and the middle one counts.

    Args:
        files: the original, and what is to ship.
        asked: what the result is to keep; None for nothing but to be faster than the original.

    Raises:
        BudgetError: the result is too slow.
    """
    found: list[tuple[Timing, Timing]] = []
    for _ in range(_TIMES if isinstance(latency.device, Local) else 1):
        before, after = latency.device.compare(files, shapes)
        found.append((before, after))
        if len(found) == 1 and _kept(latency, before, after, asked) and _kept(latency, before, after, asked, NEAR):
            break
    found.sort(key=lambda pair: pair[1].low / pair[0].low)
    before, after = found[len(found) // 2]
    if after.low >= before.low:
        raise BudgetError(
            f"the result is not faster than the original on {latency.device}: {after.low:.4g} ms; {before.low:.4g} ms",
            hint="give a tighter budget",
        )
    if not _kept(latency, before, after, asked):
        assert asked is not None
        limit = _limit_beside(asked, before)
        raise BudgetError(
            f"{asked.of('latency')} was missed: the result takes {after.low:.4g} ms, {after.low / before.low:.4f} of "
            f"the original, on {latency.device}, and {limit:.4g} ms were asked",
            hint="measure on a quiet machine; --fresh measures the table again",
        )
    return before, after


def _kept(latency: Latency, before: Timing, after: Timing, asked: Budget | None, least: float = 0.0) -> bool:
    """Whether the result takes between this share of its limit and the limit, measurements' own differences allowed."""
    if asked is None:
        return True
    limit = _limit_beside(asked, before)
    return least * limit <= after.low <= (1 + TOLERANCE) * limit


def _limit_beside(asked: Budget, original: Timing) -> float:
    """Milliseconds that the budget allows when the original takes so long."""
    term = asked.of("latency")
    assert term is not None
    return float(term.value) * original.low if term.relative else float(term.value) / 1e6


def _limit(asked: Budget, latency: Latency) -> int:
    """Nanoseconds that the budget allows."""
    term = asked.of("latency")
    assert term is not None
    return math.floor(term.value * latency.whole if term.relative else term.value)


def _unreached(latency: Latency, limit: int, least: int, which: str) -> BudgetError:
    return BudgetError(
        f"{spelled('latency', limit)} is out of reach: {which} takes {least / 10**6:.4g} ms on {latency.device}, "
        f"{least / latency.whole:.4f} of the original's {latency.whole / 10**6:.4g} ms",
        hint="part of a run does not depend on channels; a larger --latency-batch makes that part smaller",
    )
