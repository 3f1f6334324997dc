"""Compression under a guarantee: the smallest plan whose metric is shown, on samples held back, to be good enough.

Three steps, of which only the last sees the samples held back:

1. Levels: budgets between the smallest plan and the original, by bisection. Each is searched like any budget; its
   best plan is hopeful if, on the search's samples, its bound would be within the target on as many samples as
   are held back. First the rules alone, then, from the smallest hopeful level on, the policy that was asked for.
2. Candidates: of each level the plan of the highest reward, `-Error * log(cost)` (AMC, arXiv 1802.03494, section
   3.4), among all plans within it, so that a cheaper plan of a tighter level stands in for a worse one.
3. The check: candidates are repaired as they would be shipped and tested one after another, the largest first, until
   one fails; the last that passed is shipped. Plans and order are settled beforehand, and all tests up to
   the first failure are at the full level. So the chance that anything false passes is that of the first false one
   alone (fixed-sequence testing: Maurer, Hothorn and Lehmacher 1995; for risks, arXiv 2110.01052).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from amcc.budget import Budget, Term
from amcc.errors import BudgetError
from amcc.finals import recovered
from amcc.guard import BOOTSTRAP, Guard, Verdict
from amcc.ir import Graph
from amcc.problems import problem_of
from amcc.search import SEARCHES, SearchInterrupted, SearchResult
from amcc.search.journal import Record
from amcc.stages import quickly_repaired
from amcc.study import Study, find
from amcc.summary import CandidateLine, GuaranteeLine
from amcc.target import Target

COARSE, FINE, QUICK = 5, 3, 6
"""Levels by the rules, levels by the policy, and episodes that the rules have at a level."""
RUNGS = (0.5, 0.75)
"""Levels on the way from the smallest hopeful one to the original, so that the first test is an easy one."""
LEVELS = COARSE + FINE + len(RUNGS)
Way = Literal["quick", "slow", "rung"]


@dataclass(frozen=True)
class Level:
    """One budget that was searched.

    Attributes:
        limit: of the minimised resource.
        rung: whether it is there for an easy first test, and stands for itself.
        hopeful: whether its best plan would pass if samples fell as the search's did.
    """

    limit: int
    found: SearchResult
    rung: bool
    hopeful: bool


@dataclass(frozen=True)
class Guaranteed:
    """What may be shipped.

    Attributes:
        budget: what the plan takes, exactly.
        search: of the level at which the plan was found.
        graph: the network that was tested; None where it is the pure slices.
    """

    record: Record
    budget: Budget
    search: SearchResult
    graph: Graph | None
    line: GuaranteeLine


def guarantee(study: Study, target: Target, journal: Path | None, *, ship_on_interrupt: bool = False) -> Guaranteed:
    """The smallest plan that is shown to reach the target.

    Args:
        journal: where a single search's would be; each level has one beside it.

    Raises:
        BudgetError: no plan was shown to reach it.
        SearchInterrupted: Ctrl-C, unless `ship_on_interrupt` and a level was searched.
    """
    settings = study.settings
    assert study.splits.guard is not None
    with study.clock.phase("guarantee", "measuring the original on the samples held back"):
        guard, scout = (
            Guard(study.subject.graph, data, target, settings.metric, threads=settings.threads, seed=settings.seed)
            for data in (study.splits.guard, study.splits.search)
        )
        guard.demand_enough()
    explorer = _Explorer(study, target, scout, len(guard.data), journal)
    try:
        explorer.explore()
    except SearchInterrupted as stopped:
        if not ship_on_interrupt or not explorer.levels:
            raise
        study.notes.add(f"the search was stopped after {len(explorer.levels)} levels: {stopped}")
    return _checked(study, target, guard, explorer)


@contextmanager
def level_journals(journal: Path | None, *, fresh: bool) -> Iterator[None]:
    """Look after the journals of all levels: they stay for a next time if the block is left early, and go if it ends.

    Args:
        journal: where a single search's would be.
        fresh: begin without any.
    """
    parts = [] if journal is None else _level_journals(journal)
    for part in parts if fresh else ():
        part.unlink(missing_ok=True)
    over = True
    try:
        yield
    except BudgetError:
        raise
    except BaseException:
        over = False
        raise
    finally:
        for part in parts if over else ():
            part.unlink(missing_ok=True)


@contextmanager
def joined(journal: Path | None) -> Iterator[None]:
    """The journals of all levels one after another where a single search's would be, for the output."""
    parts = [] if journal is None else [part for part in _level_journals(journal) if part.is_file()]
    if journal is None or not parts:
        yield
        return
    journal.write_bytes(b"".join(part.read_bytes() for part in parts))
    try:
        yield
    finally:
        journal.unlink(missing_ok=True)


def _level_journals(journal: Path) -> list[Path]:
    return [journal.with_name(f"{journal.name}.{number}") for number in range(1, LEVELS + 1)]


def reward(score: float, cost: int, original: float) -> float:
    """AMC's reward for the least cost at no loss, `-Error * log(cost)`.

    The error is one less the metric; of a metric whose scale goes beyond one, its share of the original's that is lost.
    """
    error = max(0.0, 1 - score if original <= 1 else 1 - score / original)
    return -error * math.log(max(cost, 1))


def ladder(coarse: int, fine: int) -> Generator[tuple[float, Way], bool, None]:
    """Which levels are searched: yields one and how, and is sent whether it is hopeful.

    A level is a share of the way from the smallest plan to the original.

    Args:
        coarse: levels by bisection.
        fine: levels from the smallest hopeful one on: downwards until one is not hopeful, then between.
    """
    low, high = 0.0, 1.0
    for _ in range(coarse):
        middle = (low + high) / 2
        low, high = (low, middle) if (yield middle, "quick") else (middle, high)
    if high == 1.0:
        return
    step = high - low
    for _ in range(fine):
        middle = max(high - step, high / 2)
        if (yield middle, "slow"):
            high = middle
        else:
            step /= 2
    for part in RUNGS:
        yield high + (1 - high) * part, "rung"


class _Explorer:
    """Searches levels and remembers what they found.

    Attributes:
        levels: in the order in which they were searched.
    """

    def __init__(self, study: Study, target: Target, scout: Guard, guarded: int, journal: Path | None) -> None:
        self.study, self.target = study, target
        self._scout, self._guarded, self._journal = scout, guarded, journal
        whole = Budget.parse(f"{target.minimise}=1")
        self.problem = problem_of(study.subject, study.learned, whole, study.settings, study.scorer)
        self.levels: list[Level] = []

    def explore(self) -> None:
        settings = self.study.settings
        fine, quick, slow = 0, settings.episodes, 0
        sketch = "refine" if settings.search in SEARCHES and settings.search != "random" else settings.search
        if settings.search in SEARCHES:
            rough = COARSE + len(RUNGS)
            quick = max(1, min(QUICK, settings.episodes // (2 * rough)))
            slow = (settings.episodes - quick * rough) // FINE
            fine = FINE if slow > 0 else 0
        steps = ladder(COARSE if fine else COARSE + FINE, fine)
        try:
            share, way = next(steps)
            while True:
                searched = (settings.search, slow) if way == "slow" else (sketch, quick)
                share, way = steps.send(self._hopeful(share, *searched, rung=way == "rung"))
        except StopIteration:
            return

    def candidates(self) -> list[tuple[Record, Level]]:
        """A plan a level with the level that found it, the largest first, none twice.

        A level that is not hopeful while a tighter one is would only end the tests early.
        """
        chosen: dict[tuple[int, ...], tuple[Record, Level]] = {}
        tightest = min((level.limit for level in self.levels if level.hopeful), default=None)
        for level in self.levels:
            if tightest is not None and not level.hopeful and level.limit > tightest:
                continue
            others = [level] if level.rung else [other for other in self.levels if other.limit <= level.limit]
            record, where = max(((self._best(o.found), o) for o in others), key=lambda found: self._key(found[0]))
            chosen.setdefault(record.keep, (record, where))
        whole = tuple(int(size) for size in self.problem.full)
        smaller = [found for found in chosen.values() if found[0].keep != whole]
        return sorted(smaller, key=lambda found: (-self.cost(found[0]), found[0].keep))

    def cost(self, record: Record) -> int:
        """What a plan takes of the minimised resource."""
        return record.costs.of(self.target.minimise)

    def reward(self, record: Record) -> float:
        """Of a plan, by the search's score."""
        return reward(record.score, self.cost(record), self.study.evaluator.original)

    def _hopeful(self, share: float, policy: str, episodes: int, *, rung: bool) -> bool:
        key, floor, whole = self.target.minimise, self.problem.floor, self.problem.original
        limit = floor.of(key) + math.floor(Fraction(share) * (whole.of(key) - floor.of(key)))
        settings = replace(self.study.settings, search=policy, episodes=episodes)
        number, budget = len(self.levels), exactly(self.target, limit)
        ratio = limit / max(whole.of(key), 1)
        self.study.clock.observer.phase(f"level {number + 1}: {budget}, {ratio:.1%} of the original")
        journal = None if self._journal is None else _level_journals(self._journal)[number]
        found = find(replace(self.study, settings=settings), budget, journal, ship_on_interrupt=False)
        removal = self.study.subject.removal(self._best(found).keep, self.study.learned.orders)
        with self.study.clock.phase("search"):
            graph = quickly_repaired(self.study.subject, self.study.learned, removal)
            hopeful = self._scout.check(graph, self._guarded).passed
        self.levels.append(Level(limit, found, rung, hopeful))
        return hopeful

    def _best(self, found: SearchResult) -> Record:
        return max(found.fitting, key=self._key)

    def _key(self, record: Record) -> tuple[float, int, int]:
        return self.reward(record), -self.cost(record), -record.episode


def exactly(target: Target, cost: int) -> Budget:
    """The budget that is exactly used up."""
    text = f"{cost}ns" if target.minimise == "latency" else str(cost)
    return Budget((Term(target.minimise, Fraction(cost), relative=False, text=text),))


def _checked(study: Study, target: Target, guard: Guard, explorer: _Explorer) -> Guaranteed:
    whole = explorer.problem.original.of(target.minimise)
    lines: list[CandidateLine] = []
    best: tuple[Record, Level, Graph, Verdict] | None = None
    with study.clock.phase("guarantee", "checking plans on the samples held back, the largest first"):
        for record, level in explorer.candidates():
            removal = study.subject.removal(record.keep, study.learned.orders)
            graph = recovered(study, removal)
            verdict = guard.check(graph)
            cost = explorer.cost(record)
            lines.append(
                CandidateLine(
                    policy=record.policy,
                    cost=cost,
                    ratio=round(cost / max(whole, 1), 6),
                    reward=explorer.reward(record),
                    metric=verdict.metric,
                    bound=verdict.bound,
                    passed=verdict.passed,
                )
            )
            if not verdict.passed:
                break
            best = (record, level, graph, verdict)
    if best is None:
        raise _not_shown(target, guard, lines)
    record, level, graph, verdict = best
    if guard.method == BOOTSTRAP:
        study.notes.add("the guarantee's bound is a bootstrap's, which holds approximately; that of top1 is exact")
    line = GuaranteeLine(
        asked=str(target),
        minimised=target.minimise,
        confidence=target.confidence,
        metric=guard.name,
        method="bootstrap" if guard.method == BOOTSTRAP else "exact",
        samples=len(guard.data),
        source=guard.data.source,
        sha256=guard.data.sha256,
        limit=target.value,
        before=guard.original,
        after=verdict.metric,
        bound=verdict.bound,
        candidates=tuple(lines),
    )
    shipped = None if study.learned.statistics is None else graph
    return Guaranteed(record, exactly(target, explorer.cost(record)), level.found, shipped, line)


def _not_shown(target: Target, guard: Guard, lines: Sequence[CandidateLine]) -> BudgetError:
    sure = f"{target} could not be shown at {target.confidence:.4g} confidence"
    if not lines:
        return BudgetError(f"{sure}: no smaller plan was found", hint="more --episodes, a smaller --round")
    first = lines[0]
    if target.kind == "max-drop":
        reached = f"dropped from {guard.original:.4f} to {first.metric:.4f}, by {first.bound:.4f} at most"
    else:
        reached = f"is {first.metric:.4f}, at least {first.bound:.4f}"
    return BudgetError(
        f"{sure}: at {first.ratio:.4f} of the {target.minimise}, {guard.name} {reached}, on {len(guard.data)} samples "
        "held back",
        hint="give more data (--report-data and --calib of their own leave more of --data), a wider target, a lower "
        "--confidence or more --episodes",
    )
