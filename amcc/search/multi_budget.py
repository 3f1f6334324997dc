"""One search for several budgets: every plan scored for one of them says something to the others.

The budgets take turns. A plan that fits a tighter budget is a plan for every looser one, so the best
score never falls as the budget grows. A plan that is too large for a tighter budget still tells
which groups matter: Thompson sampling learns from all of them. And now and then a budget tries the
best plan of a neighbour, fitted to its own limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count, zip_longest
from typing import ClassVar

import numpy as np

from amcc.budget import Costs, Limits
from amcc.errors import UsageError
from amcc.ir import Array
from amcc.search.fit import fit
from amcc.search.loop import SearchResult
from amcc.search.policies import History, Play, Proposal, Round, heard, opening, round_size, rounds, suggested
from amcc.search.problem import Problem
from amcc.search.registry import POLICIES, policy_named

_BORROW = 6
"""Every so many turns a budget looks at its neighbours' best plans."""

SHARED_POLICIES = tuple(name for name in POLICIES if name not in ("ddpg", "amc", "greedy"))
"""An agent learns one budget only, and greedy narrowing ends at one."""


def check_policy(name: str) -> None:
    """Check that a policy can search for several budgets.

    Raises:
        UsageError: it cannot, or there is none of this name.
    """
    policy_named(name)
    if name not in SHARED_POLICIES:
        hint = f"the policies for several are {', '.join(SHARED_POLICIES)}"
        raise UsageError(f"policy '{name}' searches for one budget only", where="--search", hint=hint)


@dataclass(frozen=True, slots=True)
class MultiBudget:
    """Plays one policy for several budgets by turns; for `refine` they share what they learn.

    The problem's own limits must be the loosest.

    Attributes:
        limits: of each budget, the tightest first; each allows all that the one before allows.
        policy: one of `SHARED_POLICIES`.

    Raises:
        UsageError: another policy.
    """

    name: ClassVar[str] = "multi-budget"
    limits: tuple[Limits, ...]
    policy: str = "refine"

    def __post_init__(self) -> None:
        check_policy(self.policy)

    def rung(self, costs: Costs) -> int:
        """The place of the tightest budget that a plan of these costs meets."""
        return next(place for place, limits in enumerate(self.limits) if limits.admit(costs))

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose plans for each budget in turn, the tightest first; a round has plans of all of them."""
        budgets = [_Turns(replace(problem, limits=limits)) for limits in self.limits]
        size = max(1, round_size(episodes) // len(budgets))
        for budget, own in zip(budgets, seed.spawn(len(budgets)), strict=True):
            if self.policy == "refine":
                beside = _beside(budgets, budget)
                budget.play = _refining(budget, beside, episodes, np.random.default_rng(own), size)
            else:
                budget.play = policy_named(self.policy).play(budget.problem, episodes=episodes, seed=own)
        while plans := _by_turns(budgets):
            scores = yield tuple(proposal for _, proposal in plans)
            for (owner, proposal), score in zip(plans, scores, strict=True):
                for budget in budgets:
                    budget.hear(proposal.keep, score, own=budget is owner)


def parts(found: SearchResult, limits: Sequence[Limits]) -> list[SearchResult]:
    """What a search found for each of several budgets, the tightest first; something must fit the tightest.

    A budget has the plans that are too large for the one before, and that one's best where it scores higher.
    """
    split: list[SearchResult] = []
    before: Limits | None = None
    for budget in limits:
        own = [r for r in found.records if budget.admit(r.costs) and not (before and before.admit(r.costs))]
        best = max(own, key=lambda record: record.score, default=None)
        for tighter in split[-1:]:
            if best is None or tighter.best.score > best.score:
                best = tighter.best
                own = sorted([*own, best], key=lambda record: record.episode)
        assert best is not None
        split.append(SearchResult(best, tuple(own)))
        before = budget
    return split


@dataclass(slots=True, eq=False)
class _Turns:
    """One budget's part of the search.

    Attributes:
        history: for refinement; its own plans join it when `play` hears of them, a round later.
        best: the best plan so far that fits, and its score.
    """

    problem: Problem
    history: History = field(default_factory=History)
    best: tuple[Array, float] | None = None
    play: Play | None = None
    _scores: list[float] = field(default_factory=list)

    def next(self) -> Round:
        """The next round; empty when there are no more."""
        if self.play is None:
            return ()
        try:
            plans = self.play.send(tuple(self._scores)) if self._scores else next(self.play)
        except StopIteration:
            self.play, plans = None, ()
        self._scores.clear()
        return plans

    def hear(self, keep: Array, score: float, *, own: bool) -> None:
        """Learn what a plan scored that this budget, or another one, proposed."""
        fits = self.problem.fits(keep)
        if own:
            self._scores.append(score)
        else:
            (self.history.past if fits else self.history.others).append((keep, score))
        if fits and (self.best is None or score > self.best[1]):
            self.best = (keep, score)


def _by_turns(budgets: Sequence[_Turns]) -> list[tuple[_Turns, Proposal]]:
    """A round of each budget, dealt out by turns, each plan with its budget."""
    own = [[(budget, proposal) for proposal in budget.next()] for budget in budgets]
    return [plan for turn in zip_longest(*own) for plan in turn if plan is not None]


def _beside(budgets: Sequence[_Turns], budget: _Turns) -> list[_Turns]:
    place = budgets.index(budget)
    return [*budgets[max(place - 1, 0) : place], *budgets[place + 1 : place + 2]]


def _refining(
    budget: _Turns, neighbours: Sequence[_Turns], episodes: int, random: np.random.Generator, size: int
) -> Play:
    """The rules, then by turns what the scores suggest and what neighbours found."""
    problem, history = budget.problem, budget.history
    yield from heard(opening(problem), history.hear)
    own = count()
    for turns in rounds(episodes, size):
        plans: list[Proposal] = []
        for turn in turns:
            borrowed = _borrowed(budget, neighbours) if (turn + 1) % _BORROW == 0 else None
            if borrowed is None:
                plans.append(suggested(problem, history, next(own), random))
            else:
                plans.append(Proposal("neighbour", borrowed))
        history.hear(tuple(plans), (yield tuple(plans)))


def _borrowed(budget: _Turns, neighbours: Sequence[_Turns]) -> Array | None:
    """A neighbour's best plan, fitted, that was not tried yet; None if there is none."""
    tried = {tuple(keep.tolist()) for keep, _ in budget.history.past}
    for neighbour in neighbours:
        if neighbour.best is not None:
            keep = fit(budget.problem, neighbour.best[0])
            if tuple(keep.tolist()) not in tried:
                return keep
    return None
