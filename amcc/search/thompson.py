"""Lagrange plans with group weights learned from the scores: linear Thompson sampling.

Layer-wise losses order the units of one group well, but say little about how much a loss here hurts
the network more than the same loss there. So the drop in score is modelled as a weighted sum of the
groups' losses, one weight a group, with a normal prior around one common weight; each proposal
draws weights from the posterior and is the plan of least weighted loss (Agrawal and Goyal,
"Thompson Sampling for Contextual Bandits with Linear Payoffs", arXiv 1209.3352).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amcc.ir import Array
from amcc.search.lagrange import evened, least_loss
from amcc.search.problem import Problem

_PRIOR = 0.5
_NOISE = 0.02
_NONLINEAR = 0.1
_LEAST = 0.2


Scored = Sequence[tuple[Array, float]]


def thompson(problem: Problem, past: Scored, random: np.random.Generator, others: Scored = ()) -> Array:
    """The plan of least loss under weights drawn from what past plans and scores say of them.

    Args:
        others: scored plans that do not fit the problem and tell something of the weights all the same.

    Raises:
        UsageError: the problem has no losses.
        BudgetError: no plan fits.
    """
    curves = evened(problem)
    known = [*past, *others]
    losses = np.array([[c[n - k] for c, n, k in zip(curves, problem.full, keep, strict=True)] for keep, _ in known])
    scores = np.array([score for _, score in known])
    best = int(scores[: len(past)].argmax())
    weights = draw(losses, scores, random, original=problem.original_score, best=best)
    return least_loss(problem, [weight * curve for weight, curve in zip(weights, curves, strict=True)])


def draw(
    losses: Array,
    scores: Array,
    random: np.random.Generator,
    *,
    original: float | None = None,
    best: int | None = None,
) -> Array:
    """Weights of groups, float [groups], around 1, drawn from their posterior.

    Differences to the best plan are modelled; the further a plan's score is from its, the less a linear
    model can say of it, and the less it counts.

    Args:
        losses: of past plans, float [plans, groups].
        scores: float [plans].
        original: the score without any loss, where it is known: it gives the common weight its scale.
        best: the plan to compare with, by default the one of the highest score.
    """
    best = int(scores.argmax()) if best is None else best
    rise = np.delete(losses - losses[best], best, axis=0)
    drop = np.delete(scores[best] - scores, best)
    groups = losses.shape[1]
    total = rise.sum(axis=1)
    behind = np.abs(drop[drop != 0])
    if not len(behind):
        return np.asarray(np.maximum(1.0 + _PRIOR * random.standard_normal(groups), _LEAST))
    deviation = _NOISE * float(np.median(behind)) + _NONLINEAR * np.abs(drop)
    certain = deviation**-2
    if original is not None and original > scores[best] and losses[best].sum() > 0:
        common = float((original - scores[best]) / losses[best].sum())
    else:
        common = float((certain * total * drop).sum() / max((certain * total * total).sum(), 1e-300))
    if common <= 0.0:
        common = float(behind.mean() / max(np.abs(rise).sum(axis=1).mean(), 1e-300))
    shares = common * rise
    precision = shares.T @ (shares * certain[:, None]) + np.eye(groups) / _PRIOR**2
    factor = np.linalg.cholesky(precision)
    mean = np.linalg.solve(precision, shares.T @ (certain * (drop - shares.sum(axis=1))))
    noise = np.linalg.solve(factor.T, random.standard_normal(groups))
    return np.asarray(np.maximum(1.0 + mean + noise, _LEAST))
