"""The least-squares problem of one linear operator in a network under repair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.recovery.affine import spelled
from amcc.passes.recovery.gram import parts, product, with_ones
from amcc.passes.recovery.masked import masked_least_squares
from amcc.passes.recovery.patches import Positions, inputs_at, outputs_at
from amcc.passes.recovery.sites import Bound
from amcc.passes.recovery.solve import least_squares

RIDGE = 3e-3
"""Pull towards the weights before repair, in units of the mean variance of the inputs; the least that is tried."""

RIDGES = (RIDGE, 3e-2, 0.3, 3.0, 30.0, 300.0)
"""The pulls of which the one that does best on samples left out is chosen."""

EASE = 0.1
"""What the chosen pull is multiplied with: it was chosen on half of the samples, and errors that a strong
pull leaves add up over the layers."""

QUICK_PULL = 0.3
"""The pull of a quick fit, in units of the inputs' variance."""

ROUNDS = 5
"""How often targets that are clipped away are set anew."""

STEP = 1.6
"""How far a round goes; each alone minimises an upper bound of the error, so that up to 2 is safe."""

HELD_BYTES = 1 << 29
"""Bytes of rows that are held to set targets anew; beyond, they are fitted as they are."""

_SMALLEST_SCALE = 1e-6


class Rows(NamedTuple):
    """What the original gives at some positions of a chunk: `[G, R, O]` of a site's target."""

    at: Positions
    target: Array


class Fit:
    """Gathers the normal equations of one site, and solves them.

    Targets that the network clips need not be met: where the original lies below zero before a Relu, any
    number below zero is right. So after a first fit, such targets move to what the fit gives (or to the
    limit, where it lies on the wrong side), and the fit is repeated, `ROUNDS` times.

    Args:
        quick: not to do so, and to pull with `QUICK_PULL` instead of a strength chosen by cross-validation.
        mask: bool `[G, O, K]`, false where weights stay zero.
    """

    def __init__(self, bound: Bound, shrunk: Graph, *, quick: bool = False, mask: Array | None = None) -> None:
        self.bound = bound
        self._mask = None if mask is None else mask.transpose(0, 2, 1)
        self._quick = quick
        self._shrunk = shrunk
        matrix = bound.linear.matrix(shrunk)
        offset = bound.linear.offset(shrunk)
        self._free = bound.fits_offset
        if self._free:
            offset = np.zeros(matrix.shape[:2]) if offset is None else offset
            matrix = np.concatenate([matrix, offset[..., None]], axis=2)
        self._current = matrix.transpose(0, 2, 1)
        groups = len(matrix)
        self._inverse = _Inverse(bound, groups)
        # of the first and the second half of the samples of every chunk, where a pull is to be chosen
        folds = 1 if quick else 2
        self._grams = np.zeros((folds, groups, matrix.shape[2], matrix.shape[2]))
        self._crosses = np.zeros((folds, *self._current.shape))
        self._rows = [0] * folds
        self._clipped = not quick and bool(np.isfinite(bound.site.limits).any())
        self._held: list[tuple[Array, Array, Array | None]] = []
        self._held_bytes = 0

    def add(self, x: Array, other: Array | None, wanted: Rows) -> None:
        """Add the rows of one chunk.

        Args:
            x: the operator's input in the shrunk network, and `other` what is added to its output.
        """
        stays, linear = self.bound.stays, self.bound.linear
        targets = np.take_along_axis(wanted.target[stays.groups], stays.outputs[:, None, :], axis=2)
        others = None if other is None else outputs_at(linear, other, wanted.at)
        start, count = 0, targets.shape[1]
        for part in parts(linear, x, len(wanted.at.outputs)):
            rows = inputs_at(linear, x[part], wanted.at)
            rows = with_ones(rows) if self._free else rows
            end = start + rows.shape[1]
            held = (rows, targets[:, start:end], None if others is None else others[:, start:end])
            middle = rows.shape[1] if self._quick else min(max(count // 2 - start, 0), rows.shape[1])
            for fold, of_fold in enumerate((slice(None, middle), slice(middle, None))[: len(self._rows)]):
                self._add(fold, *(None if array is None else array[:, of_fold] for array in held))
            self._hold(held)
            start = end

    def _add(self, fold: int, rows: Array | None, targets: Array | None, others: Array | None) -> None:
        assert rows is not None and targets is not None
        if rows.shape[1]:
            self._grams[fold] += product(rows, rows)
            self._crosses[fold] += product(rows, self._inverse(targets, others))
            self._rows[fold] += rows.shape[1]

    def _hold(self, held: tuple[Array, Array, Array | None]) -> None:
        self._held_bytes += held[0].nbytes
        self._clipped = self._clipped and self._held_bytes <= HELD_BYTES
        if self._clipped:
            self._held.append(held)
        else:
            self._held.clear()

    def solved(self) -> dict[str, Array]:
        """The parameters of the shrunk network after the fit; none where activations are not finite."""
        if not sum(self._rows) or not (np.isfinite(self._grams).all() and np.isfinite(self._crosses).all()):
            return {}
        ridge = QUICK_PULL if self._quick else self._chosen_ridge()
        gram = self._grams.sum(axis=0) / sum(self._rows)

        def solve(cross: Array) -> Array:
            return self._least_squares(gram, cross / sum(self._rows), ridge)

        fitted = solve(self._crosses.sum(axis=0))
        for _ in range(ROUNDS if self._clipped else 0):
            fitted = fitted + STEP * (solve(self._clipped_cross(fitted)) - fitted)
        fitted = np.where(self._inverse.defined, fitted, self._current).transpose(0, 2, 1)
        return spelled(self.bound.linear, self._shrunk, self.bound.tail, fitted, free=self._free)

    def _least_squares(self, gram: Array, cross: Array, ridge: float) -> Array:
        if self._mask is None:
            return least_squares(gram, cross, self._current, ridge, free=self._free)
        return masked_least_squares(gram, cross, self._current, ridge, free=self._free, mask=self._mask)

    def _chosen_ridge(self) -> float:
        """By two-fold cross-validation, from the Gram matrices alone; see `EASE`."""
        if not all(self._rows):
            return RIDGES[-1]
        means = [(g / n, c / n) for g, c, n in zip(self._grams, self._crosses, self._rows, strict=True)]
        best, least = RIDGES[0], np.inf
        for ridge in RIDGES:
            missed = 0.0
            for (gram, cross), (left_out, its_cross) in (means, means[::-1]):
                fitted = self._least_squares(gram, cross, ridge)
                missed += float((fitted * (left_out @ fitted - 2 * its_cross)).sum())
            if missed >= least:
                break
            best, least = ridge, missed
        return max(best * EASE, RIDGE)

    def _clipped_cross(self, fitted: Array) -> Array:
        """The right-hand side with targets beyond a limit set to what the fit gives, at least to the limit."""
        low, high = self.bound.site.limits
        cross = np.zeros_like(self._current)
        weights = fitted.astype(np.float32)
        for rows, target, other in self._held:
            given = self._inverse.forward(rows @ weights, other)
            eased = np.where(target <= low, np.minimum(given, low), target)
            eased = np.where(target >= high, np.maximum(given, high), eased)
            cross += product(rows, self._inverse(eased, other))
        return cross


class _Inverse:
    """From a target behind a linear operator's affine tail and sum to one for its output.

    Attributes:
        defined: `[G, 1, O]` false for outputs that the tail multiplies with next to nothing.
    """

    def __init__(self, bound: Bound, groups: int) -> None:
        tail = bound.tail
        direct = bound.site.target == bound.site.linear.y
        shape = (groups, 1, -1)
        scale = np.ones_like(tail.scale) if direct else tail.scale * tail.sign
        shift = np.zeros_like(tail.shift) if direct else tail.shift * tail.sign
        defined = np.abs(scale) > _SMALLEST_SCALE
        self.defined: Array = defined.reshape(shape)
        self._scale = np.where(defined, scale, 1.0).reshape(shape).astype(np.float32)
        self._shift = shift.reshape(shape).astype(np.float32)
        self._sign = np.float32(tail.other_sign)

    def __call__(self, target: Array, other: Array | None) -> Array:
        rest = target if other is None else target - self._sign * other
        found: Array = (rest - self._shift) / self._scale
        return found

    def forward(self, output: Array, other: Array | None) -> Array:
        """What the target would be for an output of the operator."""
        found: Array = output * self._scale + self._shift
        return found if other is None else found + self._sign * other
