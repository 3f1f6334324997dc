"""Least squares for weights some of which must stay zero: each output has inputs of its own.

Solved for all outputs at once by conjugate gradients on the weights that stay, scaled by the diagonal: a product
with the Gram matrix a step, where a factorisation would be needed for every output. Each step lowers the error of
every output, so that whatever step is the last the weights are no worse than those at the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from amcc.ir import Array

Masks = Mapping[str, Array]
"""For a parameter's name, bool of its shape: true where a weight stays, false where it is zero for good."""

NO_MASKS: Masks = MappingProxyType({})

STEPS = 100
"""Steps at most."""

CLOSE = 1e-4
"""Enough once the scaled residual is so small a share of the right-hand side's, in every output."""


def masked_least_squares(gram: Array, cross: Array, current: Array, ridge: float, *, free: bool, mask: Array) -> Array:
    """`amcc.passes.recovery.solve.least_squares`, with zeros where the mask is false.

    Args:
        mask: bool `[G, K, O]`, of the weights without the row of the offset.
    """
    if not free:
        return _descend(gram, cross, np.where(mask, current, 0.0), ridge, mask)
    constant = gram[:, -1:, -1:]
    constant = np.where(constant > 0, constant, 1.0)
    mean = gram[:, :-1, -1:]
    moments = gram[:, :-1, :-1] - mean @ mean.transpose(0, 2, 1) / constant
    about = cross[:, :-1] - mean @ (cross[:, -1:] / constant)
    weights = _descend(moments, about, np.where(mask, current[:, :-1], 0.0), ridge, mask)
    offset = (cross[:, -1:] - mean.transpose(0, 2, 1) @ weights) / constant
    return np.concatenate([weights, offset], axis=1)


def _descend(moments: Array, cross: Array, current: Array, ridge: float, mask: Array) -> Array:
    """Conjugate gradients from `current`, which has the zeros of the mask."""
    diagonal = np.diagonal(moments, axis1=1, axis2=2)[..., None]
    mean = diagonal.mean(axis=1, keepdims=True)
    weight = ridge * np.where(mean > 0, mean, 1.0)
    scale = mask / np.maximum(diagonal + weight, 1e-300)
    wanted = cross + weight * current

    def applied(x: Array) -> Array:
        product: Array = moments @ x + weight * x
        return product

    found = current
    rest = wanted - applied(found)
    scaled = scale * rest
    towards = scaled
    size = (rest * scaled).sum(axis=1, keepdims=True)
    enough = CLOSE**2 * (wanted * scale * wanted).sum(axis=1, keepdims=True)
    for _ in range(STEPS):
        if (size <= enough).all():
            break
        image = applied(towards)
        curvature = (towards * image).sum(axis=1, keepdims=True)
        step = np.where(size > enough, size / np.maximum(curvature, 1e-300), 0.0)
        found = found + step * towards
        rest = rest - step * image
        scaled = scale * rest
        left = (rest * scaled).sum(axis=1, keepdims=True)
        towards = scaled + left / np.maximum(size, 1e-300) * towards
        size = left
    return np.asarray(np.where(mask, found, 0.0))
