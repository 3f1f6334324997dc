"""From times of plans to coefficients: least squares with nothing negative, so that wider never costs less."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from amcc.ir import Array

_SWEEPS = 2000
_STILL = 1e-10


def nonnegative(A: Array, y: Array, ridge: float = 0.0, prior: Array | None = None) -> Array:
    """`argmin_x |A x - y|^2 + ridge |x - prior|^2` over x >= 0, by coordinate descent; float [columns].

    Columns should be of one scale: the ridge is in units of their mean square.

    Args:
        A: float [rows, columns].
        y: float [rows].
        prior: what the ridge pulls towards, by default 0.
    """
    H, b = A.T @ A, A.T @ y
    pull = ridge * max(float(np.trace(H)) / max(len(b), 1), 1e-300)
    H = H + pull * np.eye(len(b))
    b = b + pull * prior if prior is not None else b
    x = np.zeros(len(b)) if prior is None else np.maximum(prior, 0.0).astype(np.float64)
    for _ in range(_SWEEPS):
        moved = 0.0
        for i in range(len(x)):
            if H[i, i] <= 0:
                continue
            new = max(0.0, float(x[i] + (b[i] - H[i] @ x) / H[i, i]))
            moved, x[i] = max(moved, abs(new - x[i])), new
        if moved <= _STILL * max(float(x.max(initial=0.0)), 1e-300):
            break
    return x


def by_operator(shares: Array, times: Array, bounds: Array) -> Array:
    """Coefficients of each operator's own terms, float [terms], in the unit of the times.

    Every plan counts by its relative error, as far as times can be that exact.

    Args:
        shares: float [plans, terms], each term as a share of the whole network's.
        times: float [plans, operators].
        bounds: int [operators + 1], where the terms of each operator begin.
    """
    found = np.zeros(shares.shape[1])
    for number, (start, end) in enumerate(pairwise(bounds.tolist())):
        y = times[:, number]
        weight = 1 / np.sqrt(np.maximum(y, max(float(y.max(initial=0.0)) / 20, 1.0)))
        found[start:end] = nonnegative(shares[:, start:end] * weight[:, None], y * weight)
    return found


def scale_of(predicted: Array, measured: Array) -> float:
    """The factor on predicted savings that explains measured times, the first plan being the whole network.

    Args:
        predicted, measured: float [plans] in one unit.
    """
    saved, found = predicted[0] - predicted[1:], measured[0] - measured[1:]
    weight = 1 / np.maximum(measured[1:], 1e-300)
    below = float(((saved * weight) ** 2).sum())
    return max(float((saved * found * weight**2).sum()) / below, 0.0) if below > 0 else 1.0
