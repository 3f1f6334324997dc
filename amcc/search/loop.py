"""The search itself: a policy proposes, the problem scores, the journal remembers."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from amcc.budget import Costs
from amcc.errors import DataError, Interrupted, UsageError, VerificationError
from amcc.ir import Array
from amcc.search.journal import Journal, Record
from amcc.search.policies import Policy, Proposal, Round, Scores
from amcc.search.problem import Challenge, Problem
from amcc.search.registry import policy_named

ScoresOf = Callable[[Sequence[Array | Challenge]], Generator[float, None, None]]
RungOf = Callable[[Costs], int]
Bars = dict[tuple[str, int], float]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """All that ran, and the best of it.

    Attributes:
        best: the first episode of the highest score whose plan fits.
        records: every episode, in order.
        scoring: seconds that this run waited for scores.
    """

    best: Record
    records: tuple[Record, ...]
    scoring: float = field(default=0.0, compare=False)

    @property
    def fitting(self) -> tuple[Record, ...]:
        """The episodes whose plans fit: all but probes."""
        return tuple(record for record in self.records if not record.probe)

    @property
    def evaluations(self) -> int:
        """How many different plans were scored."""
        return len({record.keep for record in self.records})

    @property
    def by_policy(self) -> dict[str, Record]:
        """Each policy's own best episode, in the order in which the policies first ran."""
        found: dict[str, Record] = {}
        for record in self.fitting:
            if record.policy not in found or record.score > found[record.policy].score:
                found[record.policy] = record
        return found


class SearchInterrupted(Interrupted):
    """The user stopped the search; every finished episode is in the journal.

    Attributes:
        result: what had been found, None if no plan that fits had been scored.
    """

    def __init__(self, result: SearchResult | None, journal: Path | None, done: int) -> None:
        self.result = result
        hint = f"run the same command again to go on from {journal}" if journal else None
        super().__init__(f"the search was stopped after {done} episodes", hint=hint)

    @property
    def best(self) -> Record | None:
        """The best episode so far."""
        return self.result.best if self.result else None


def search(
    problem: Problem,
    policy: str | Policy = "refine",
    *,
    episodes: int,
    seed: int,
    journal: Path | None = None,
    fingerprint: str = "",
    progress: Callable[[Record], None] | None = None,
    scores_of: ScoresOf | None = None,
    known: dict[tuple[int, ...], float] | None = None,
    stop_early: bool = False,
    rung_of: RungOf | None = None,
) -> SearchResult:
    """Search for the plan that fits and scores best.

    A plan proposed again is not evaluated again; it counts as an episode all the same. Episodes are
    numbered, and written to the journal, in the order in which they were proposed, whichever was scored
    first. With a journal that holds episodes of the same search, those are replayed and the search goes
    on from there; its result and journal equal those of a run that nothing disturbed.

    Args:
        policy: a name of `POLICIES`, or a policy.
        episodes: at most this many; a rule stops when it has nothing more to propose.
        seed: of everything random, not negative.
        fingerprint: a hash of all that decides the problem (model, data, options), for the journal.
        progress: called after each episode, replayed ones included.
        scores_of: gives the scores of some plans, in their order; by default the problem's `score` of one after
            another.
        known: scores of plans that are known already; those of this search are added.
        stop_early: ask for scores with a `Challenge`: a plan is of interest where it beats the best that its own
            policy had before the round, so the best of all and of each policy are never estimates.
        rung_of: where plans are for several budgets, which one a plan of these costs is for. Plans are then of interest
            where they beat the best of their own policy for the same one.

    Raises:
        BudgetError: no plan fits.
        UsageError: an unknown policy, no group, or a journal of another search.
        DataError: a score that is not a finite number.
        SearchInterrupted: Ctrl-C, with what had been found.
    """
    if episodes < 1 or seed < 0:
        raise UsageError(f"{episodes} episodes with seed {seed} is no search", hint="at least one episode, a seed >= 0")
    if not problem.groups:
        raise UsageError("there is nothing to search: the network has no group of channels that may be removed")
    chosen = policy_named(policy) if isinstance(policy, str) else policy
    problem.check_reachable()
    with ExitStack() as stack:
        log = (
            stack.enter_context(Journal(journal, _header(problem, chosen, episodes, seed, fingerprint, stop_early)))
            if journal
            else None
        )
        rungs = (rung_of or _one_budget) if stop_early else None
        run = _Run(problem, log, progress, scores_of or problem.scores, {} if known is None else known, rungs)
        play = chosen.play(problem, episodes=episodes, seed=np.random.SeedSequence(seed))
        try:
            plans = next(play)
            while len(run.records) + len(plans) < episodes:
                plans = play.send(run.finish(plans))
            run.finish(plans[: episodes - len(run.records)])
        except StopIteration:
            pass
        except KeyboardInterrupt:
            raise SearchInterrupted(run.result(), journal, len(run.records)) from None
        finally:
            play.close()
    result = run.result()
    if result is None:
        raise VerificationError(f"policy '{chosen.name}' proposed nothing that fits")
    return result


class _Run:
    """The episodes so far."""

    def __init__(
        self,
        problem: Problem,
        log: Journal | None,
        progress: Callable[[Record], None] | None,
        scores_of: ScoresOf,
        known: dict[tuple[int, ...], float],
        rung_of: RungOf | None,
    ) -> None:
        self.problem = problem
        self.log = log
        self.progress = progress
        self.scores_of = scores_of
        self.records: list[Record] = []
        self.scoring = 0.0
        self._scores = known
        self._estimates: dict[tuple[str, tuple[int, ...]], float] = {}
        self._rung_of = rung_of

    def finish(self, plans: Round) -> Scores:
        """Score a round, write its plans down in their order, and give their scores back."""
        first, least = len(self.records), self._least()
        past = self.log.past[first : first + len(plans)] if self.log else ()
        for record, proposal in zip(past, plans, strict=False):
            self._take(self._repeats(record, proposal), least)
        fresh = plans[len(past) :]
        costs = [self._checked(proposal) for proposal in fresh]
        often = Counter(map(_key, plans))
        found = {record.keep: record.score for record in past}
        for proposal in fresh:
            known = self._known(proposal, alone=often[_key(proposal)] == 1)
            if known is not None:
                found.setdefault(_key(proposal), known)
        unknown = {
            _key(p): Challenge(p.keep.copy(), bar)
            if often[_key(p)] == 1 and (bar := self._bar(least, p.policy, cost)) > -math.inf and not p.probe
            else p.keep.copy()
            for p, cost in zip(fresh, costs, strict=True)
            if _key(p) not in found
        }
        began = time.perf_counter()
        with closing(self.scores_of(list(unknown.values()))) as scores:
            for proposal, cost in zip(fresh, costs, strict=True):
                self._take(self._scored(proposal, cost, found, scores), least)
        self.scoring += time.perf_counter() - began
        return tuple(record.score for record in self.records[first:])

    def result(self) -> SearchResult | None:
        fitting = [record for record in self.records if not record.probe]
        if not fitting:
            return None
        return SearchResult(max(fitting, key=lambda record: record.score), tuple(self.records), self.scoring)

    def _least(self) -> Bars:
        """What plans of the next round must beat to be of interest, where evaluations may stop early."""
        best: Bars = {}
        for record in self.records if self._rung_of else ():
            if not record.probe and record.score > self._bar(best, record.policy, record.costs):
                best[self._rival(record.policy, record.costs)] = record.score
        return best

    def _bar(self, least: Bars, policy: str, costs: Costs) -> float:
        return least.get(self._rival(policy, costs), -math.inf)

    def _rival(self, policy: str, costs: Costs) -> tuple[str, int]:
        """Plans with the same one compete."""
        return policy, self._rung_of(costs) if self._rung_of else 0

    def _known(self, proposal: Proposal, *, alone: bool) -> float | None:
        """The score of a plan that was scored before; an estimate where the same policy alone asks again."""
        key = _key(proposal)
        return self._scores.get(key, self._estimates.get((proposal.policy, key)) if alone else None)

    def _take(self, record: Record, least: Bars) -> None:
        if record.probe or record.score > self._bar(least, record.policy, record.costs):
            self._scores[record.keep] = record.score
        else:
            self._estimates[record.policy, record.keep] = record.score
        self.records.append(record)
        if self.progress:
            self.progress(record)

    def _repeats(self, record: Record, proposal: Proposal) -> Record:
        """The journal's record, if it is of this proposal."""
        assert self.log is not None
        if (record.policy, record.keep) != (proposal.policy, _key(proposal)):
            raise UsageError(
                f"the journal leaves this search at episode {record.episode}: the network, its data or the machine "
                "differ",
                where=str(self.log.path),
                hint="delete the journal, or give another one, to begin anew",
            )
        return record

    def _checked(self, proposal: Proposal) -> Costs:
        """The costs of a plan that fits, or of a probe."""
        keep, costs = _key(proposal), self.problem.cost(proposal.keep)
        feasible = all(k in widths for k, widths in zip(keep, self.problem.widths, strict=True))
        if not feasible or not (proposal.probe or self.problem.limits.admit(costs)):
            raise VerificationError(f"policy '{proposal.policy}' proposed a plan that does not fit: {list(keep)}")
        return costs

    def _scored(
        self, proposal: Proposal, costs: Costs, found: dict[tuple[int, ...], float], scores: Iterator[float]
    ) -> Record:
        """The next record: with the score of the same plan before, or the next of the scores, which `found` learns."""
        episode, keep, probe = len(self.records), _key(proposal), not self.problem.limits.admit(costs)
        if keep in found:
            record = Record(episode, proposal.policy, keep, found[keep], costs, probe, "repeated")
        else:
            score = found[keep] = float(next(scores))
            if not math.isfinite(score):
                raise DataError(f"the score of episode {episode} is {score}", hint="check the metric and the data")
            record = Record(episode, proposal.policy, keep, score, costs, probe)
        if self.log is not None:
            self.log.append(record)
        return record


def _one_budget(costs: Costs) -> int:
    return 0


def _key(proposal: Proposal) -> tuple[int, ...]:
    return tuple(int(k) for k in proposal.keep)


def _header(
    problem: Problem, policy: Policy, episodes: int, seed: int, fingerprint: str, stop_early: bool
) -> dict[str, Any]:
    from amcc import __version__

    return {
        "version": __version__,
        "fingerprint": fingerprint,
        "policy": policy.name,
        "options": asdict(policy),  # type: ignore[call-overload]
        "episodes": episodes,
        "seed": seed,
        "stops early": stop_early,
        "limits": dict(problem.limits.items()),
        "widths": [[g.size, g.multiple, g.minimum, *g.choices] for g in problem.groups],
    }
