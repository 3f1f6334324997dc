"""Plans by rule, without an evaluation: one ratio, one threshold, one Lagrange multiplier.

Each function maps a problem to a plan that fits and raises `BudgetError` where none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from amcc.budget import Costs
from amcc.errors import UsageError
from amcc.ir import Array
from amcc.search.fit import Prefer, along, fill
from amcc.search.problem import Problem

Scaling = Literal["raw", "root", "relative"]

_SWEEPS = 8
_HALVINGS = 18
_NORM = 8
_ENOUGH = 0.998
_TRADES = 200
_CANDIDATES = 8


def uniform(problem: Problem) -> Array:
    """Every group keeps the same share of its units."""
    return along(problem, lambda share: share * problem.full)


def magnitude(problem: Problem) -> Array:
    """One threshold for all units: those of smaller magnitude go (global magnitude pruning).

    Raises:
        UsageError: the problem has no magnitudes.
    """
    if problem.magnitudes is None:
        raise UsageError("policy 'magnitude' needs the magnitudes of units", hint="use another policy")
    ranked = [np.sort(m)[::-1] for m in problem.magnitudes]
    everything = np.sort(np.concatenate([*ranked, np.zeros(0)]))[::-1]

    def above(share: float) -> Array:
        count = round(share * len(everything))
        if count == 0:
            return problem.smallest
        return np.array([int((m >= everything[count - 1]).sum()) for m in ranked])

    def regained(keep: Array, group: int, width: int) -> float:
        return float(ranked[group][keep[group] : width].mean())

    return along(problem, above, regained)


def lagrange(problem: Problem, scaling: Scaling = "raw") -> Array:
    """The widths of least total loss, by one Lagrange multiplier on the cost.

    For a multiplier m, each group in turn takes the width that minimises its loss + m * cost while
    the others stand, until nothing moves: costs are products of neighbouring widths, so the groups
    cannot be settled apart. Bisection finds the smallest multiplier whose plan fits; what is left
    of the budget goes where it saves most loss for its cost.

    Args:
        scaling: of the loss curves: as given, their square root (an error rather than its square),
            or each as a share of its largest value.

    Raises:
        UsageError: the problem has no losses.
    """
    if problem.losses is None:
        raise UsageError("policy 'lagrange' needs losses from calibration", hint="use another policy")
    problem.check_reachable()
    # loss by units kept, ascending in width
    losses = [_scaled(curve, scaling)[::-1] for curve in problem.losses]
    kept = [curve[widths] for curve, widths in zip(losses, problem.widths, strict=True)]

    def saved_for_cost(keep: Array, group: int, width: int) -> float:
        wider = keep.copy()
        wider[group] = width
        price = problem.limits.use(problem.cost(wider)) - problem.limits.use(problem.cost(keep))
        return float(losses[group][keep[group]] - losses[group][width]) / max(price, 1e-12)

    if problem.fits(problem.full):
        return problem.full.copy()
    found = problem.smallest
    spread = max((float(np.ptp(curve)) for curve in kept), default=0.0) or 1.0
    low, high = np.log(spread) - 20.0, np.log(spread) + 20.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        keep = _settle(problem, kept, float(np.exp(middle)))
        if problem.fits(keep):
            found, high = keep, middle
            if problem.limits.use(problem.cost(keep)) >= _ENOUGH:
                break
        else:
            low = middle
    return _traded(problem, fill(problem, found, saved_for_cost), losses, saved_for_cost)


def _traded(problem: Problem, keep: Array, losses: Sequence[Array], prefer: Prefer) -> Array:
    """Descent by trades: one group a step wider, another as much narrower as the limits then ask.

    One multiplier reaches only the convex hull of the losses; where widths are coarse the rest of
    the way is worth having. Only the most and the least deserving groups are tried against each other.
    """

    def below(group: int) -> float:
        narrower = keep.copy()
        narrower[group] = problem.widths[group][places[group] - 1]
        return prefer(narrower, group, int(keep[group]))

    for _ in range(_TRADES):
        places = [int(widths.searchsorted(k)) for widths, k in zip(problem.widths, keep, strict=True)]
        wider = {g: w for g in range(len(keep)) if (w := problem.wider(g, int(keep[g]))) is not None}
        ups = sorted(wider, key=lambda g: (-prefer(keep, g, wider[g]), g))[:_CANDIDATES]
        downs = sorted((g for g in range(len(keep)) if places[g] > 0), key=lambda g: (below(g), g))[:_CANDIDATES]
        pairs = ((up, down) for up in ups for down in downs if up != down)
        trades = (_trade(problem, keep, losses, (up, wider[up]), (down, places[down])) for up, down in pairs)
        filled = (fill(problem, trade, prefer) for trade in trades if trade is not None)
        better = next((plan for plan in filled if _total(losses, plan) < _total(losses, keep) * (1 - 1e-9)), None)
        if better is None:
            break
        keep = better
    return keep


def _total(losses: Sequence[Array], keep: Array) -> float:
    return float(sum(curve[width] for curve, width in zip(losses, keep, strict=True)))


def _trade(
    problem: Problem, keep: Array, losses: Sequence[Array], up: tuple[int, int], down: tuple[int, int]
) -> Array | None:
    """The plan after a trade, if it fits at a lower loss: `up` is (group, width), `down` (group, place)."""
    tried = keep.copy()
    tried[up[0]] = up[1]
    gain = losses[up[0]][keep[up[0]]] - losses[up[0]][up[1]]
    curve = losses[down[0]]
    for width in problem.widths[down[0]][: down[1]][::-1]:
        if curve[width] - curve[keep[down[0]]] >= gain * (1 - 1e-9):
            return None
        tried[down[0]] = width
        if problem.fits(tried):
            return tried
    return None


def _scaled(curve: Array, scaling: Scaling) -> Array:
    curve = np.maximum(curve, 0.0)
    if scaling == "root":
        return np.sqrt(curve)
    return curve / (curve.max() or 1.0) if scaling == "relative" else curve


def _settle(problem: Problem, kept: Sequence[Array], multiplier: float) -> Array:
    keep = problem.full.copy()
    for _ in range(_SWEEPS):
        before = keep.copy()
        for group, losses in enumerate(kept):
            if len(losses) > 1:
                prices = losses + multiplier * _usage(problem, keep, group)
                keep[group] = problem.widths[group][int(prices.argmin())]
        if (keep == before).all():
            break
    return keep


def _usage(problem: Problem, keep: Array, group: int) -> Array:
    """How much of the limits each width of one group would use while the others stand, float [widths].

    A width enters a layer as its input, its output or both, so a cost is a polynomial in it of
    degree two at most: three exact costs give all of them. Several limits are joined by a norm
    that follows the tightest and still falls when any other does.
    """
    widths = problem.widths[group]
    places = sorted({0, len(widths) // 2, len(widths) - 1})
    costs: list[Costs] = []
    tried = keep.copy()
    for place in places:
        tried[group] = widths[place]
        costs.append(problem.cost(tried))
    known = widths[places] / widths[-1]
    total = np.zeros(len(widths))
    limits = list(problem.limits.items())
    for key, limit in limits:
        values = [cost.of(key) / max(limit, 1) for cost in costs]
        curve = np.maximum(_through(known, values, widths / widths[-1]), 0.0)
        total = total + curve**_NORM if len(limits) > 1 else curve
    return total ** (1 / _NORM) if len(limits) > 1 else total


def _through(known: Array, values: Sequence[float], at: Array) -> Array:
    """Lagrange interpolation through two or three points."""
    total = np.zeros(len(at))
    for i, value in enumerate(values):
        basis = np.ones(len(at))
        for j, other in enumerate(known):
            if j != i:
                basis = basis * (at - other) / (known[i] - other)
        total += value * basis
    return total
