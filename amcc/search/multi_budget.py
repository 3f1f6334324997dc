"""One search for several budgets: every plan scored for one of them says something to the others.

The budgets take turns. A plan that fits a tighter budget is a plan for every looser one, so the best
score never falls as the budget grows. A plan that is too large for a tighter budget still tells
which groups matter: Thompson sampling learns from all of them. And now and then a budget tries the
best plan of a neighbour, fitted to its own limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from amcc.budget import Limits
from amcc.errors import UsageError
from amcc.ir import Array
from amcc.search.fit import fit
from amcc.search.loop import SearchResult
from amcc.search.policies import History, Play, Proposal, heard, opening, refined
from amcc.search.problem import Problem
from amcc.search.registry import POLICIES, policy_named

_BORROW = 6
"""Every so many turns a budget looks at its neighbours' best plans."""

SHARED_POLICIES = tuple(name for name in POLICIES if name != "ddpg")
"""The agent learns one budget only."""


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

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose a plan for each budget in turn, the tightest first."""
        budgets = [_Turns(replace(problem, limits=limits)) for limits in self.limits]
        for budget, own in zip(budgets, seed.spawn(len(budgets)), strict=True):
            if self.policy == "refine":
                budget.play = _refining(budget, _beside(budgets, budget), episodes, np.random.default_rng(own))
            else:
                budget.play = policy_named(self.policy).play(budget.problem, episodes=episodes, seed=own)
        going = list(budgets)
        while going:
            for budget in tuple(going):
                proposal = budget.next()
                if proposal is None:
                    going.remove(budget)
                    continue
                score = yield proposal
                for other in budgets:
                    other.hear(proposal.keep, score, own=other is budget)


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
        history: for refinement; its own plans join it when `play` hears of them, a turn later.
        best: the best plan so far that fits, and its score.
    """

    problem: Problem
    history: History = field(default_factory=History)
    best: tuple[Array, float] | None = None
    play: Play | None = None
    _score: float | None = None

    def next(self) -> Proposal | None:
        """The next plan; None when there are no more."""
        assert self.play is not None
        try:
            return next(self.play) if self._score is None else self.play.send(self._score)
        except StopIteration:
            return None

    def hear(self, keep: Array, score: float, *, own: bool) -> None:
        """Learn what a plan scored that this budget, or another one, proposed."""
        fits = self.problem.fits(keep)
        if own:
            self._score = score
        else:
            (self.history.past if fits else self.history.others).append((keep, score))
        if fits and (self.best is None or score > self.best[1]):
            self.best = (keep, score)


def _beside(budgets: Sequence[_Turns], budget: _Turns) -> list[_Turns]:
    place = budgets.index(budget)
    return [*budgets[max(place - 1, 0) : place], *budgets[place + 1 : place + 2]]


def _refining(budget: _Turns, neighbours: Sequence[_Turns], episodes: int, random: np.random.Generator) -> Play:
    """The rules, then by turns what the scores suggest and what neighbours found."""
    problem, history = budget.problem, budget.history
    yield from heard(opening(problem), history.add)
    refining = refined(problem, history, episodes + 1, random)
    proposal = next(refining)
    for turn in range(1, episodes + 1):
        if turn % _BORROW == 0 and (borrowed := _borrowed(budget, neighbours)) is not None:
            history.add(borrowed, (yield Proposal("neighbour", borrowed)))
        proposal = refining.send((yield proposal))


def _borrowed(budget: _Turns, neighbours: Sequence[_Turns]) -> Array | None:
    """A neighbour's best plan, fitted, that was not tried yet; None if there is none."""
    tried = {tuple(keep.tolist()) for keep, _ in budget.history.past}
    for neighbour in neighbours:
        if neighbour.best is not None:
            keep = fit(budget.problem, neighbour.best[0])
            if tuple(keep.tolist()) not in tried:
                return keep
    return None
