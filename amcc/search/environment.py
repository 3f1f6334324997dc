"""AMC's environment: one step a group, in topological order (arXiv 1802.03494, section 3).

A step sees the state of equation 1 and answers with a sparsity in [0, 1). The width that follows
is rounded *inside* the clamp of Algorithm 1: the widest feasible width, up to the one asked for,
with which the later groups at their smallest still meet every limit, on exact costs. So no
rounding and no lower bound can break the budget afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from amcc.ir import Array
from amcc.search.fit import bisect_widths
from amcc.search.problem import Problem

FEATURES = 11


class Environment:
    """Turns actions into plans that fit, and plans into the steps that an agent learns from.

    Raises:
        BudgetError: no plan fits.
    """

    def __init__(self, problem: Problem) -> None:
        problem.check_reachable()
        self.problem = problem
        self.steps = len(problem.groups)
        rows = [(g.index, g.n, g.c, g.h, g.w, g.stride, g.k, g.macs) for g in problem.groups]
        table = np.array(rows, dtype=np.float64).reshape(self.steps, 8)
        low, high = table.min(axis=0, initial=np.inf), table.max(axis=0, initial=-np.inf)
        self._static = (table - low) / np.where(high > low, high - low, 1.0)
        self._whole = max(problem.original.of(problem.tightest), 1)

    def walk(self, act: Callable[[Array, int], float]) -> Array:
        """One pass over the groups; `act` maps a state (float32 [11]) and the group to a sparsity. The plan fits."""
        problem = self.problem
        keep = problem.smallest.copy()
        for step in range(self.steps):
            wanted = (1.0 - act(self.state(keep, step), step)) * problem.full[step]
            widths = problem.widths[step]
            last = int(np.abs(widths - wanted).argmin())
            keep[step] = bisect_widths(problem, keep, step, last) or problem.smallest[step]
        return keep

    def state(self, keep: Array, step: int) -> Array:
        """What the agent sees before it decides group `step`, float32 [11], each in [0, 1].

        (t, n, c, h, w, stride, k, FLOPs[t], reduced, rest, a[t-1]): the first eight scaled over the
        groups; `reduced` is the share of the tightest resource that the decisions so far save, and
        `rest` the share that the later groups could still save; only `keep[:step]` is read.
        """
        problem, key = self.problem, self.problem.tightest
        open_ = problem.full.copy()
        open_[:step] = keep[:step]
        closed = open_.copy()
        closed[step + 1 :] = problem.smallest[step + 1 :]
        now = problem.cost(open_).of(key)
        reduced = 1.0 - now / self._whole
        rest = (now - problem.cost(closed).of(key)) / self._whole
        previous = 1.0 - keep[step - 1] / problem.full[step - 1] if step else 0.0
        return np.array([*self._static[step], reduced, rest, previous], dtype=np.float32)

    def trace(self, keep: Array) -> tuple[Array, Array]:
        """The states float32 [groups, 11] and applied actions float32 [groups] that make up a plan."""
        states = [self.state(keep, step) for step in range(self.steps)]
        actions = 1.0 - keep / self.problem.full
        return np.array(states, dtype=np.float32).reshape(self.steps, FEATURES), actions.astype(np.float32)
