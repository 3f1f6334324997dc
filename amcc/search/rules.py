"""Plans by rule, without an evaluation: one ratio for all groups, ratios that slope, or one threshold for all units.

Each function maps a problem to a plan that fits and raises `BudgetError` where none does.
"""

from __future__ import annotations

import numpy as np

from amcc.errors import UsageError
from amcc.ir import Array
from amcc.search.fit import along
from amcc.search.problem import Problem


def uniform(problem: Problem) -> Array:
    """Every group keeps the same share of its units."""
    return sloped(problem, 0.0)


def sloped(problem: Problem, steepness: float) -> Array:
    """Shares that change with depth: AMC's hand-made policies (arXiv 1802.03494, section 4.1).

    The paper names them `shallow` and `deep`, after the layers that are cut most, and gives no formula. Here the share
    that a group keeps is `s ** (1 + steepness * (1 - 2 t))`, where t goes from 0 for the first group to 1
    for the last, and s is what the budget allows.

    Args:
        steepness: in [-1, 1]: above 0 shallow groups are cut most, below 0 deep ones, 0 is `uniform`.
    """
    power = 1.0 + steepness * (1.0 - 2.0 * np.linspace(0.0, 1.0, len(problem.groups)))
    return along(problem, lambda share: share**power * problem.full)


def magnitude(problem: Problem) -> Array:
    """One threshold for all units: those of smaller magnitude go (global magnitude pruning).

    Raises:
        UsageError: the problem has no magnitudes.
    """
    if problem.magnitudes is None:
        raise UsageError("policy 'magnitude' needs the magnitudes of units", hint="use another policy")
    ranked = [np.sort(m)[::-1] for m in problem.magnitudes]
    everything = np.sort(np.concatenate(ranked))[::-1]

    def above(share: float) -> Array:
        count = round(share * len(everything))
        if count == 0:
            return problem.smallest
        return np.array([int((m >= everything[count - 1]).sum()) for m in ranked])

    def regained(keep: Array, group: int, width: int) -> float:
        return float(ranked[group][keep[group] : width].mean())

    return along(problem, above, regained)
