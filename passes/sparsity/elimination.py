"""Backward elimination of single weights or blocks, with the weights that stay refitted on the way.

Optimal brain surgeon (Hassibi and Stork 1993), row by row as in Optimal Brain Compression (Frantar and Alistarh
2022, arXiv 2208.11580): with inverse second moments P of the inputs and rows W that are optimal for the inputs that are
left, taking out the columns c costs `tr(W_c P_cc^-1 W_c^T)`, after which W loses `W_c P_cc^-1 P_c` and P
`P_c^T P_cc^-1 P_c`. Departure: not one unit a step but `PART` of those left, the cheapest, together and exactly.
"""

from __future__ import annotations

import numpy as np

from amcc.ir import Array

PART = 1 / 16
"""The share of the units left that goes in one step."""


def eliminate(inverse: Array, rows: Array, width: int, *, quota: tuple[int, int] | None = None) -> tuple[Array, Array]:
    """In which order the units of some rows go, that share a mask, and what each costs.

    Args:
        inverse: `[K, K]` inverse second moments of the inputs.
        rows: `[R, K]` weights.
        width: columns of a unit.
        quota: `(size, most)`: of so many consecutive units at most so many go.

    Returns:
        The units that go, all without a quota, the first to go first, and what each adds to the squared error.
    """
    P, W, units = inverse, rows, np.arange(rows.shape[1] // width)
    size, most = quota or (len(units), len(units))
    room = np.full(len(units) // size, most)
    order: list[Array] = [np.zeros(0, np.int64)]
    costs: list[Array] = [np.zeros(0)]
    while len(open_ := np.flatnonzero(room[units // size] > 0)):
        scores = _scores(P, W, width)
        cheapest = open_[np.argsort(scores[open_], kind="stable")]
        if quota is not None:  # one of each pattern at a time
            _, first = np.unique(units[cheapest] // size, return_index=True)
            cheapest = cheapest[np.sort(first)]
        chosen = cheapest[: max(1, int(PART * len(units)))]
        c = (chosen[:, None] * width + np.arange(width)).ravel()
        stay = np.ones(len(units), bool)
        stay[chosen] = False
        s = np.flatnonzero(np.repeat(stay, width))
        solved = np.linalg.solve(P[np.ix_(c, c)], np.concatenate([P[np.ix_(c, s)], W[:, c].T], axis=1))
        joint = float((W[:, c] * solved[:, len(s) :].T).sum())
        order.append(units[chosen])
        costs.append(scores[chosen] * (max(joint, 0.0) / max(float(scores[chosen].sum()), 1e-300)))
        np.subtract.at(room, units[chosen] // size, 1)
        gain = solved[:, : len(s)]
        W = W[:, s] - W[:, c] @ gain
        P = P[np.ix_(s, s)] - P[np.ix_(s, c)] @ gain
        units = units[stay]
    return np.concatenate(order), np.concatenate(costs)


def scores_once(inverse: Array, rows: Array, width: int) -> Array:
    """What taking out each unit would cost by itself, `[K / width]`; arguments as for `eliminate`."""
    return _scores(inverse, rows, width)


def _scores(P: Array, W: Array, width: int) -> Array:
    if width == 1:
        found: Array = np.square(W).sum(axis=0) / np.diagonal(P)
        return found
    count = len(P) // width
    index = np.arange(count * width).reshape(count, width)
    blocks = np.linalg.inv(P[index[:, :, None], index[:, None, :]])
    weights = W[:, index].transpose(1, 0, 2)
    return np.asarray(np.maximum(((weights @ blocks) * weights).sum(axis=(1, 2)), 0.0))
