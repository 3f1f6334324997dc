"""Closeness of a candidate's outputs to the original's, where there are no labels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from amcc.ir import Array


class Fidelity:
    """Closeness to the outputs of the original; called with outputs, gives a number in [0, 1].

    Args:
        reference: for each output an array `[N, ...]`, or an array of objects `[N]`, each an array, where shapes
            depend on the data.
    """

    def __init__(self, reference: Mapping[str, Array]) -> None:
        self._reference = {name: rows for name, rows in reference.items() if any(a.size for a in _arrays(rows))}
        floating = {n: rows for n, rows in self._reference.items() if all(a.dtype.kind == "f" for a in _arrays(rows))}
        self._scale = {name: _variance(rows) for name, rows in floating.items()}

    def errors(self, outputs: Mapping[str, Array]) -> Array:
        """Each sample's relative squared error, its mean over the outputs: float [N]."""
        errors = [_errors(outputs[name], rows, self._scale.get(name)) for name, rows in self._reference.items()]
        return np.mean(errors, axis=0) if errors else np.zeros(1)

    def __call__(self, outputs: Mapping[str, Array], labels: Array | None = None) -> float:
        """1 / (1 + mean relative squared error), see `amcc.metric`; 0 where outputs are not finite."""
        return fidelity(float(self.errors(outputs).mean()))


def fidelity(error: float) -> float:
    """Of a mean relative squared error."""
    return 1 / (1 + error) if math.isfinite(error) else 0.0


def _arrays(rows: Array) -> list[Array]:
    return list(rows) if rows.dtype == object else [rows]


def _errors(found: Array, reference: Array, scale: float | None) -> Array:
    """Of one output, sample by sample: float [N]."""
    if found.dtype != object and found.shape == reference.shape:
        error = _differences(found, reference, scale).reshape(len(found), -1)
        means: Array = error.mean(axis=1)
        return means
    if len(found) != len(reference):  # runs of several samples, which cannot be told apart
        return np.ones(len(reference))
    return np.array([_ragged(np.asarray(a), np.asarray(b), scale) for a, b in zip(found, reference, strict=True)])


def _ragged(found: Array, reference: Array, scale: float | None) -> float:
    """Of one sample: where the two overlap, their difference; everywhere else 1."""
    whole = max(found.size, reference.size)
    if found.ndim != reference.ndim or not whole:
        return float(whole > 0)
    common = tuple(slice(min(a, b)) for a, b in zip(found.shape, reference.shape, strict=True))
    error = _differences(found[common], reference[common], scale)
    return float(error.sum() + whole - error.size) / whole


def _differences(found: Array, reference: Array, scale: float | None) -> Array:
    if scale is None:
        return np.not_equal(found, reference).astype(np.float64)
    return np.square(found.astype(np.float64) - reference) / np.float64(scale)


def _variance(rows: Array) -> float:
    """Mean squared distance from the mean over samples; of outputs that do not vary, the mean square."""
    wide = (np.concatenate([a.ravel() for a in rows]) if rows.dtype == object else rows).astype(np.float64)
    power = float(np.square(wide).mean())
    variance = float(np.square(wide - wide.mean(axis=0)).mean())
    return variance if variance > 1e-9 * power else max(power, 1e-30)
