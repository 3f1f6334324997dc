"""The widths of least total loss that fit, by one Lagrange multiplier on the cost.

For a multiplier m, each group in turn takes the width that minimises its loss + m * cost while the
others stand, until nothing moves: costs are products of neighbouring widths, so the groups cannot
be settled apart. Bisection finds the smallest multiplier whose plan fits. One multiplier reaches
only the convex hull of the losses, so what is left of the budget goes where it saves most loss for
its cost, and trades between groups walk the rest of the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from amcc.budget import Costs
from amcc.errors import UsageError
from amcc.ir import Array
from amcc.search.fit import fill
from amcc.search.problem import Problem

EVENNESS = 0.1
"""Of the penalty on uneven plans; see `evened`."""

_STEEPNESS = 4
_SWEEPS = 8
_HALVINGS = 18
_ENOUGH = 0.998
_NORM = 8
_TRADES = 200
_CANDIDATES = 8
_CORNERED = 5


def lagrange(problem: Problem, evenness: float = EVENNESS) -> Array:
    """The plan of least loss by the problem's own curves, made even.

    Raises:
        UsageError: the problem has no losses.
        BudgetError: no plan fits.
    """
    return least_loss(problem, evened(problem, evenness))


def evened(problem: Problem, evenness: float = EVENNESS) -> list[Array]:
    """The loss curves, float [size + 1] a group, each with a common penalty added.

    A curve is measured with all other groups whole, and then nearly the whole of some groups looks
    superfluous. The penalty, `evenness * (mean loss of a whole group) * (share removed) ** 4`, is
    next to nothing for moderate cuts and keeps any one group from paying for all.

    Raises:
        UsageError: the problem has no losses.
    """
    if problem.losses is None:
        raise UsageError("this policy needs losses from calibration", hint="use another policy")
    curves = [np.maximum(curve, 0.0) for curve in problem.losses]
    mean = sum(float(curve[-1]) for curve in curves) / max(len(curves), 1)
    return [curve + evenness * mean * np.linspace(0.0, 1.0, len(curve)) ** _STEEPNESS for curve in curves]


def least_loss(problem: Problem, losses: Sequence[Array]) -> Array:
    """The plan of least total loss; `losses` are float [size + 1] a group, by units removed.

    Raises:
        BudgetError: no plan fits.
    """
    problem.check_reachable()
    if problem.fits(problem.full):
        return problem.full.copy()
    by_kept = [curve[::-1] for curve in losses]
    choices = [curve[widths] for curve, widths in zip(by_kept, problem.widths, strict=True)]
    found = problem.smallest
    spread = max((float(np.ptp(curve)) for curve in choices), default=0.0) or 1.0
    low, high = np.log(spread) - 20.0, np.log(spread) + 20.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        keep = _settle(problem, choices, float(np.exp(middle)))
        if problem.fits(keep):
            found, high = keep, middle
            if problem.limits.use(problem.cost(keep)) >= _ENOUGH:
                break
        else:
            low = middle
    return _Descent(problem, by_kept).run(found)


def _settle(problem: Problem, choices: Sequence[Array], multiplier: float) -> Array:
    """Coordinate descent on loss + multiplier * use of the limits, from the full keep."""
    keep, now = problem.full.copy(), problem.original
    for _ in range(_SWEEPS):
        moved = False
        for group, losses in enumerate(choices):
            if len(losses) == 1:
                continue
            prices = losses + multiplier * _use(problem, keep, group, now)
            width = problem.widths[group][int(prices.argmin())]
            if width != keep[group]:
                keep[group] = width
                now, moved = problem.cost(keep), True
        if not moved:
            break
    return keep


def _use(problem: Problem, keep: Array, group: int, now: Costs) -> Array:
    """How much of the limits each width of one group would use while the others stand, float [widths].

    A width enters a layer as its input, its output or both, so a cost is a polynomial in it of
    degree one, or two (`Problem.curved`): two or three exact costs give all of them, and the cost
    as it is now is one. The peak of activations is a largest of such, and lines between five exact ones
    stand in for it. Several limits are joined by a norm that follows the tightest and still
    falls when any other does.
    """
    widths = problem.widths[group]
    known = {int(keep[group]): now}
    tried = keep.copy()
    enough = _CORNERED if problem.limits.memory is not None else 3 if problem.curved[group] else 2
    for share in (0.0, 1.0, 0.5, 0.25, 0.75):
        width = int(widths[round(share * (len(widths) - 1))])
        if len(known) < enough and width not in known:
            tried[group] = width
            known[width] = problem.cost(tried)
    uses = []
    for key, limit in problem.limits.items():
        points = {width: cost.of(key) / max(limit, 1) for width, cost in sorted(known.items())}
        line = (
            np.interp(widths, [*points], [*points.values()]) if key == "memory" else _through([*points.items()], widths)
        )
        uses.append(np.maximum(line, 0.0))
    if len(uses) == 1:
        return uses[0]
    return np.asarray(sum((use**_NORM for use in uses), np.zeros(len(widths))) ** (1 / _NORM))


def _between(points: Sequence[tuple[int, float]], at: Array) -> Array:
    """Straight lines from point to point."""
    return np.asarray(np.interp(at, [x for x, _ in points], [value for _, value in points]))


def _through(points: Sequence[tuple[int, float]], at: Array) -> Array:
    """The polynomial through some points (Lagrange interpolation)."""
    total = np.zeros(len(at))
    for x, value in points:
        basis = np.ones(len(at))
        for other, _ in points:
            if other != x:
                basis = basis * (at - other) / (x - other)
        total += value * basis
    return total


class _Descent:
    """From a plan that fits to one that no trade between two groups betters.

    Args:
        losses: float [size + 1] a group, by units *kept*.
    """

    def __init__(self, problem: Problem, losses: Sequence[Array]) -> None:
        self.problem = problem
        self.losses = losses

    def run(self, keep: Array) -> Array:
        keep = fill(self.problem, keep, self.saved_for_cost)
        for _ in range(_TRADES):
            filled = (fill(self.problem, trade, self.saved_for_cost) for trade in self._trades(keep))
            bound = self._total(keep) * (1 - 1e-9)
            better = next((plan for plan in filled if self._total(plan) < bound), None)
            if better is None:
                break
            keep = better
        return keep

    def saved_for_cost(self, keep: Array, group: int, width: int) -> float:
        """The loss that a step saves, for its use of the limits: a `Prefer`."""
        problem, curve = self.problem, self.losses[group]
        wider = keep.copy()
        wider[group] = width
        price = problem.limits.use(problem.cost(wider)) - problem.limits.use(problem.cost(keep))
        return float(curve[keep[group]] - curve[width]) / max(price, 1e-12)

    def _total(self, keep: Array) -> float:
        return float(sum(curve[width] for curve, width in zip(self.losses, keep, strict=True)))

    def _trades(self, keep: Array) -> Iterator[Array]:
        """Plans of less loss that fit, the groups that deserve most and least width first."""
        problem = self.problem
        steps = {g: w for g in range(len(keep)) if (w := problem.wider(g, int(keep[g]))) is not None}
        below: dict[int, Array] = {g: ws[ws < keep[g]][::-1] for g, ws in enumerate(problem.widths) if ws[0] < keep[g]}

        def worth(group: int) -> float:
            narrower = keep.copy()
            narrower[group] = below[group][0]
            return self.saved_for_cost(narrower, group, int(keep[group]))

        ups = sorted(steps, key=lambda g: (-self.saved_for_cost(keep, g, steps[g]), g))[:_CANDIDATES]
        downs = sorted(below, key=lambda g: (worth(g), g))[:_CANDIDATES]
        for up in ups:
            gain = self.losses[up][keep[up]] - self.losses[up][steps[up]]
            for down in downs:
                trade = self._paid(keep, up, steps[up], down, below[down], float(gain)) if up != down else None
                if trade is not None:
                    yield trade

    def _paid(self, keep: Array, up: int, width: int, down: int, below: Array, gain: float) -> Array | None:
        """Group `up` at `width`, group `down` as much narrower as that asks, if the loss falls."""
        tried = keep.copy()
        tried[up] = width
        curve = self.losses[down]
        for narrower in below:
            if curve[narrower] - curve[keep[down]] >= gain * (1 - 1e-9):
                return None
            tried[down] = narrower
            if self.problem.fits(tried):
                return tried
        return None
