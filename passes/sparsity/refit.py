"""The weights that stay, refitted layer by layer: each to its own output in the original network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.recovery.affine import spelled
from amcc.passes.recovery.blas import one_thread
from amcc.passes.recovery.gram import Consumer, Statistics
from amcc.passes.recovery.linear import linears
from amcc.passes.recovery.masked import masked_least_squares
from amcc.passes.recovery.solve import RIDGE
from amcc.passes.sparsity.layers import Layers

_MOST_BYTES = 1 << 28


@one_thread
def refit(layers: Layers, removal: Mapping[int, Array], pure: Graph, statistics: Statistics) -> Graph:
    """Refit every layer that lost weights, from its Gram matrix alone; zeros stay zeros.

    Args:
        pure: the original with zeros in the place of the removed units (`zeroed`).
        statistics: of all layers (`amcc.passes.recovery.gather`); fits are remembered in it, by layer and
            how many units went, so all removals must come from the same orders.

    Returns:
        `pure` with other weights and biases in the same places.
    """
    changed: dict[str, Array] = {}
    found = linears(pure)
    for index, gone in removal.items():
        layer = layers.layers[index]
        name = layer.linear.node.name
        consumer = statistics.consumers.get(name)
        if consumer is None or not len(gone):
            continue
        key, known = (name, len(gone).to_bytes(8, "little")), statistics.solutions
        if key not in known:
            known[key] = _fitted(consumer, layer.mask(gone)).astype(np.float32)
            _forget(statistics)
        known.move_to_end(key)
        fitted = known[key].astype(np.float64)
        held = pure.with_params(changed) if consumer.tail.holder in changed else pure
        changed |= spelled(found[name], held, consumer.tail, fitted, free=consumer.fits_offset)
    return pure.with_params(changed)


def _fitted(consumer: Consumer, mask: Array) -> Array:
    """`[G, O, K]`, with a last column for the offset where it can change."""
    free, matrix = consumer.fits_offset, consumer.matrix
    target = np.concatenate([matrix, consumer.offset[..., None]], axis=2)
    gram = consumer.gram
    cross = gram @ target.transpose(0, 2, 1)
    if not free:
        gram, cross, target = gram[:, :-1, :-1], cross[:, :-1], matrix
    mask, target = mask.transpose(0, 2, 1), target.transpose(0, 2, 1)
    return masked_least_squares(gram, cross, target, RIDGE, free=free, mask=mask).transpose(0, 2, 1)


def _forget(statistics: Statistics) -> None:
    known = statistics.solutions
    held = sum(solution.nbytes for solution in known.values())
    while held > _MOST_BYTES and len(known) > 1:
        held -= known.popitem(last=False)[1].nbytes
