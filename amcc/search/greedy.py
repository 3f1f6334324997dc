"""Greedy narrowing after NetAdapt (Yang et al., ECCV 2018, arXiv 1804.03230).

From the whole network to the budget in steps: at each, every group by itself is narrowed until the step's resource
is saved, and the proposal that scores best is where the next step begins. On the way no plan fits: these are
probes, which are scored and never shipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from amcc.budget import Limits
from amcc.ir import Array
from amcc.search.fit import bisect_widths, fit
from amcc.search.lagrange import evened
from amcc.search.policies import Play, Proposal
from amcc.search.problem import Problem


@dataclass(frozen=True, slots=True)
class Greedy:
    """NetAdapt's walk, made to end within the episodes.

    With episodes for all groups at every step, all are tried, as in the paper; with fewer, those of least
    layer-wise loss. A step saves the same share of what the plan takes.

    Attributes:
        steps: at least so many, if there are episodes for two proposals a step.
    """

    name: ClassVar[str] = "greedy"
    steps: int = 12

    def play(self, problem: Problem, *, episodes: int, seed: np.random.SeedSequence) -> Play:
        """Propose a round a step: a group narrowed in each plan."""
        problem.check_reachable()
        keep, use = problem.full, problem.limits.use(problem.original)
        if problem.fits(keep):
            yield (Proposal(self.name, keep),)
            return
        movable = int((problem.full > problem.smallest).sum())
        steps = max(1, min(max(self.steps, episodes // movable), episodes // 2))
        for step in range(1, steps + 1):
            target = problem if step == steps else _loosened(problem, use ** (1 - step / steps))
            plans = narrowed(target, keep, episodes // steps)
            if step == steps:
                plans = [fit(problem, plan) for plan in plans or [keep]]
            if plans:
                scores = yield tuple(Proposal(self.name, plan, probe=step < steps) for plan in plans)
                keep = plans[int(np.argmax(scores))]


def narrowed(problem: Problem, keep: Array, most: int) -> list[Array]:
    """Plans that meet the limits with one group narrower than in `keep`, those of least loss first.

    Where a group cannot save all of it, the others follow in step. Without losses, the more even plans go first.

    Returns:
        No plan if `keep` meets the limits already.
    """
    if problem.fits(keep):
        return []
    curves = evened(problem) if problem.losses is not None else None
    found: list[tuple[float, Array]] = []
    for group in np.flatnonzero(keep > problem.smallest):
        plan = keep.copy()
        place = int(problem.widths[group].searchsorted(keep[group])) - 1
        widest = bisect_widths(problem, plan, int(group), place)
        plan[group] = problem.smallest[group] if widest is None else widest
        if widest is None:
            plan = fit(problem, plan)
        if curves is None:
            loss = float(np.square(1 - plan / problem.full).sum())
        else:
            loss = sum(float(curve[n - k]) for curve, n, k in zip(curves, problem.full, plan, strict=True))
        found.append((loss, plan))
    return [plan for _, plan in sorted(found, key=lambda entry: entry[0])[:most]]


def _loosened(problem: Problem, times: float) -> Problem:
    """The same problem with limits so many times as large."""
    limits = {key: math.floor(limit * times) for key, limit in problem.limits.items()}
    return replace(problem, limits=Limits(**limits))
