"""Backward elimination of whole units from linear operators, with second-order scores.

Optimal brain surgeon (Hassibi and Stork 1993) for blocks: with inverse second moments P of the inputs and
weights W that are optimal for the inputs that are left, removing the columns c of a unit and refitting the
rest costs `tr(W_c P_cc^-1 W_c^T)`, after which W loses `W_c P_cc^-1 P_c` and P `P_c^T P_cc^-1 P_c`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amcc.ir import Array

_EXACT = 128
"""Up to this many units all are scored at each step; above, every 1/64 of the way, lazily in between."""


class Quadratic:
    """One convolution group of one consumer: the error of its outputs as units lose their columns.

    Only the columns of the units are held: no score and no refit of them needs the others.

    Args:
        inverse: `[K, K]` inverse second moments of its inputs.
        weights: `[O, K]`.
        columns: for each unit its columns; units without any never cost anything here.
        outputs: for each unit the outputs that go with it, whose error does not count; None for none at all.
        scale: what errors are multiplied with.
    """

    def __init__(
        self,
        inverse: Array,
        weights: Array,
        columns: Sequence[Array],
        outputs: Sequence[Array] | None,
        *,
        scale: float,
    ) -> None:
        held = np.unique(np.concatenate(columns))
        self._inverse = inverse[np.ix_(held, held)]
        self._weights = weights[:, held]
        self._columns = [np.searchsorted(held, c) for c in columns]
        self._outputs = outputs
        self._scale = scale
        self._counts = np.array([len(c) for c in columns])

    def scores(self, units: Array) -> Array:
        """What removing each of some units now would cost."""
        scores = np.zeros(len(units))
        counts = self._counts[units]
        for count in np.unique(counts[counts > 0]).tolist():
            where = np.flatnonzero(counts == count)
            index = np.stack([self._columns[u] for u in units[where]])
            blocks = self._inverse[index[:, :, None], index[:, None, :]]
            weights = self._weights[:, index].transpose(1, 0, 2)
            errors = ((weights @ np.linalg.inv(blocks)) * weights).sum(axis=2)
            if self._outputs is not None:
                for row, unit in enumerate(units[where].tolist()):
                    errors[row, self._outputs[unit]] = 0
            scores[where] = errors.sum(axis=1)
        return self._scale * np.maximum(np.nan_to_num(scores), 0)

    def remove(self, unit: int) -> None:
        """Take a unit's columns out and refit the others; its outputs do not count any more."""
        c = self._columns[unit]
        if len(c):
            rows = self._inverse[c]
            gain = np.linalg.solve(self._inverse[np.ix_(c, c)], rows)
            self._weights -= self._weights[:, c] @ gain
            self._weights[:, c] = 0
            self._inverse -= rows.T @ gain
            self._inverse[c, c] = 1.0  # out of every later block, kept regular
            gone = set(c.tolist())
            for other, held in enumerate(self._columns):
                if not gone.isdisjoint(held.tolist()):
                    self._columns[other] = np.array([i for i in held.tolist() if i not in gone], np.int64)
                    self._counts[other] = len(self._columns[other])
        if self._outputs is not None:
            self._weights[self._outputs[unit]] = 0


def regular_inverse(moments: Array, ridge: float) -> Array:
    """The inverses of second moments `[G, K, K]`, with a ridge in units of their mean diagonal."""
    mean = np.diagonal(moments, axis1=1, axis2=2).mean(axis=1)
    weight = np.where(mean > 0, ridge * mean, 1.0)
    inverse: Array = np.linalg.inv(moments + weight[:, None, None] * np.eye(moments.shape[1]))
    return inverse


def eliminate(quadratics: Sequence[Quadratic], size: int) -> tuple[Array, Array]:
    """Remove units one by one, the cheapest first.

    Returns:
        The order `[size]`, and `[size + 1]` the error accumulated after 0, 1, ... removals.
    """
    left = np.arange(size)
    stale = np.zeros(size)
    order: list[int] = []
    loss = [0.0]
    every = 1 if size <= _EXACT else max(1, size // 64)
    for step in range(size):
        if step % every == 0:
            stale[left] = sum((q.scores(left) for q in quadratics), np.zeros(len(left)))
        unit, cost = _cheapest(quadratics, left, stale, lazily=every > 1)
        for quadratic in quadratics:
            quadratic.remove(unit)
        left = left[left != unit]
        order.append(unit)
        loss.append(loss[-1] + cost)
    return np.array(order, np.int64), np.array(loss)


def _cheapest(quadratics: Sequence[Quadratic], left: Array, stale: Array, *, lazily: bool) -> tuple[int, float]:
    """The unit with the lowest score; lazily, scores are renewed for the cheapest until one stays it."""
    while lazily:
        unit = int(left[np.argmin(stale[left])])
        renewed = float(sum(q.scores(np.array([unit]))[0] for q in quadratics))
        risen, stale[unit] = renewed > stale[unit] * (1 + 1e-6) + 1e-15, renewed
        if not risen or renewed <= stale[left].min():
            return unit, renewed
    unit = int(left[np.argmin(stale[left])])
    return unit, float(stale[unit])
