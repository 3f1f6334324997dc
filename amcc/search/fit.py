"""From a wish to a plan that meets every limit, in exact integers, and wastes nothing.

Three steps, each on exact costs alone:

1. `along`: of all plans on a monotone path from the smallest keep to the full one, the largest
   that fits, by bisection;
2. `fill`: widen one group by one step, the policy's favourite first, until no group can be widened;
3. `exchange`: only where more than 1% of the budget is still free, because the remaining steps are
   coarse: widen one group and narrow another.

Step 2 leaves no single step that would still fit. It asks once for each step taken and once for
each group at its end: costs are monotone, so a step that does not fit now will not fit later.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np

from amcc.ir import Array
from amcc.search.problem import Problem

Path = Callable[[float], Array]
"""From a share in [0, 1] to widths wanted (float [groups]); monotone, 1.0 is the full keep or below."""

Prefer = Callable[[Array, int, int], float]
"""(keep, group, its next width) -> how much that step is wanted; the largest goes first."""

CLOSE = 0.99
"""The share of the tightest limit that a plan should use, where widths are fine enough."""

_TRIALS = 500
_LEVELS = 8
_HALVINGS = 24


def fit(problem: Problem, wanted: Array, prefer: Prefer | None = None) -> Array:
    """The plan nearest to the widths wanted (float [groups]) that fits and fills the budget.

    Too large a wish shrinks towards the smallest keep, too small a one grows towards the full one,
    all groups in step; `prefer` settles the last units (default: the group left furthest behind).

    Raises:
        BudgetError: no plan fits.
    """
    goal = np.clip(wanted, problem.smallest, problem.full)

    def path(share: float) -> Array:
        if share <= 0.5:
            start, end, part = problem.smallest, goal, 2 * share
        else:
            start, end, part = goal, problem.full, 2 * share - 1
        return np.asarray(start + part * (end - start))

    return along(problem, path, prefer)


def along(problem: Problem, path: Path, prefer: Prefer | None = None) -> Array:
    """The largest plan of a path that fits, filled up.

    Raises:
        BudgetError: no plan fits.
    """
    problem.check_reachable()
    keep, share = problem.smallest, 0.0
    if problem.fits(whole := problem.down(path(1.0))):
        keep, share = whole, 1.0
    else:
        high = 1.0
        for _ in range(_HALVINGS):
            middle = (share + high) / 2
            if problem.fits(tried := problem.down(path(middle))):
                keep, share = tried, middle
            else:
                high = middle
    return fill(problem, keep, prefer or nearest(problem, path(share)))


def nearest(problem: Problem, wanted: Array) -> Prefer:
    """Prefers the step that strays least from the widths wanted, as a share of its group."""
    return lambda keep, group, width: float((wanted[group] - width) / problem.full[group])


def fill(problem: Problem, keep: Array, prefer: Prefer) -> Array:
    """A plan that fits, widened until no single step fits and, where widths allow, 99% is used."""
    keep = _widen(problem, keep, prefer)
    while problem.limits.use(problem.cost(keep)) < CLOSE:
        traded = _exchange(problem, keep, prefer)
        if traded is None:
            break
        keep = _widen(problem, traded, prefer)
    return keep


def _widen(problem: Problem, keep: Array, prefer: Prefer) -> Array:
    keep = keep.copy()
    steps = {g: w for g in range(len(keep)) if (w := problem.wider(g, int(keep[g]))) is not None}
    wish = {g: prefer(keep, g, w) for g, w in steps.items()}
    while steps:
        group = max(steps, key=lambda g: (wish[g], -g))
        before, keep[group] = keep[group], steps[group]
        wider = problem.wider(group, steps[group])
        if not problem.fits(keep):
            keep[group] = before
            wider = None
        if wider is None:
            del steps[group]
        else:
            steps[group] = wider
            wish[group] = prefer(keep, group, wider)
    return keep


def _exchange(problem: Problem, keep: Array, prefer: Prefer) -> Array | None:
    """One group wider, another narrower: the best liked trade that comes close to the limit.

    If none comes close, the one that comes closest; None if none uses more than `keep` does.
    Groups to widen are tried in the policy's order, by one step before by more, `_TRIALS` trades
    in all.
    """
    limits = problem.limits
    above = [widths[widths > k][:_LEVELS].tolist() for widths, k in zip(problem.widths, keep, strict=True)]
    ups = [(place, group, width) for group, widths in enumerate(above) for place, width in enumerate(widths)]
    ups.sort(key=lambda up: (up[0], -prefer(keep, up[1], up[2]), up[1]))
    downs = [int(g) for g in np.flatnonzero(keep > problem.smallest)]
    best, closest, likes = None, min(limits.use(problem.cost(keep)), CLOSE), -np.inf
    for (_, up, width), down in islice(((u, d) for u in ups for d in downs if u[1] != d), _TRIALS):
        tried = keep.copy()
        tried[up] = width
        widths = problem.widths[down]
        widest = bisect_widths(problem, tried, down, int(widths.searchsorted(keep[down])) - 1)
        if widest is None:
            continue
        tried[down] = widest
        use = min(limits.use(problem.cost(tried)), CLOSE)
        liked = prefer(keep, up, width) - prefer(tried, down, problem.wider(down, widest) or widest)
        if use > closest or (use == CLOSE and liked > likes):
            best, closest, likes = tried, use, liked
    return best


def bisect_widths(problem: Problem, keep: Array, group: int, last: int) -> int | None:
    """The largest of a group's widths up to place `last` with which `keep` fits; None if none does.

    `keep[group]` is not read.
    """
    tried = keep.copy()
    widths = problem.widths[group]
    low, high = -1, last
    while low < high:
        middle = (low + high + 1) // 2
        tried[group] = widths[middle]
        if problem.fits(tried):
            low = middle
        else:
            high = middle - 1
    return int(widths[low]) if low >= 0 else None
