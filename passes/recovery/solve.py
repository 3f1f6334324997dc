"""Least squares from Gram matrices: the best weights for the inputs that stay, no data touched.

For a consumer `y = W x + b` that loses inputs, the rows S that stay (the bias' one among them) get
`argmin_V E|V x_S - W x|^2 + ridge |V - W_S|^2`, the bias free of penalty: one solve with the Gram matrix.
The pull is towards the weights that are there, so that inputs which say nothing leave them as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.channels.model import Channels, Removal
from amcc.passes.recovery.affine import spelled
from amcc.passes.recovery.blas import one_thread
from amcc.passes.recovery.gram import Consumer, Statistics
from amcc.passes.recovery.linear import Cut, Linear, cut, linears

RIDGE = 1e-2
"""Ridge of a reconstruction, in units of the mean variance of the inputs."""

_MOST_SOLUTION_BYTES = 1 << 28


def least_squares(gram: Array, cross: Array, current: Array, ridge: float, *, free: bool) -> Array:
    """`argmin_V tr(V^T gram V) - 2 tr(V^T cross) + ridge |V - current|^2`, for a stack of problems.

    Args:
        gram: `[G, K, K]` mean of x x^T, and `cross` `[G, K, O]` mean of x y^T.
        current: `[G, K, O]` the weights that V is pulled to.
        ridge: in units of the mean variance of the inputs; of their mean square where no offset is fitted.
        free: whether the last row of V is an offset, whose input is constant, and which is not pulled.

    Returns:
        V, float64 `[G, K, O]`. Finite for any positive semidefinite gram.
    """
    size = gram.shape[1]
    diagonal = np.diagonal(gram, axis1=1, axis2=2)
    if free:
        constant = np.where(diagonal[:, -1:] > 0, diagonal[:, -1:], 1.0)
        diagonal = diagonal[:, :-1] - np.square(gram[:, :-1, -1]) / constant
    mean = diagonal.mean(axis=1) if diagonal.shape[1] else np.ones(len(gram))
    mean = np.where(mean > 0, mean, 1.0)
    weight = np.repeat((ridge * mean)[:, None], size, axis=1)
    if free:
        weight[:, -1:] = 1e-9 * constant
    system = gram.copy()
    index = np.arange(size)
    system[:, index, index] += weight
    solution: Array = np.linalg.solve(system, cross + weight[..., None] * current)
    return solution


@one_thread
def reconstruct(channels: Channels, removal: Removal, shrunk: Graph, statistics: Statistics) -> Graph:
    """Refit every consumer that lost inputs, each against its own output in the original network.

    Args:
        shrunk: the original without the removed units, as `amcc.passes.rewrite.shrink` makes it.
        statistics: of `calibrate`; solutions are remembered in it.

    Returns:
        `shrunk` with other weights and biases in the same places; parameters are never added.
    """
    kept = channels.kept(removal)
    left = linears(shrunk)
    changed: dict[str, Array] = {}
    for name, consumer in statistics.consumers.items():
        linear = consumer.linear
        if (linear.x, linear.x_axis) not in kept or name not in left:
            continue
        stays = cut(channels, linear, kept)
        whole = cast(int, channels.graph.shape(linear.x)[linear.x_axis]) // linear.groups
        if stays.inputs.shape[1] == whole:
            continue
        solution = _solution(name, consumer, stays, statistics.solutions)
        groups = np.arange(len(stays.groups))[:, None]
        fitted = solution.transpose(0, 2, 1)[groups, stays.outputs]
        current = shrunk.with_params(changed) if consumer.tail.holder in changed else shrunk
        changed.update(write(left[name], current, consumer, stays, fitted))
    return shrunk.with_params(changed)


def write(linear: Linear, graph: Graph, consumer: Consumer, stays: Cut, fitted: Array) -> dict[str, Array]:
    """The parameters of the shrunk graph that spell a fit `[G', O', K' + 1]`, or `[G', O', K']` without offset."""
    factor = consumer.tail.holder_factor
    if factor is not None:
        factor = factor.reshape(consumer.linear.groups, -1)[stays.groups[:, None], stays.outputs]
    return spelled(linear, graph, consumer.tail, fitted, free=consumer.fits_offset, factor=factor)


def _solution(name: str, consumer: Consumer, stays: Cut, known: OrderedDict[tuple[str, bytes], Array]) -> Array:
    """`[G', K' (+ 1), O]`, remembered."""
    key = (name, stays.key)
    if key in known:
        known.move_to_end(key)
        return known[key]
    free = consumer.fits_offset
    last = np.full((len(stays.groups), 1), consumer.gram.shape[1] - 1)
    columns = np.concatenate([stays.columns, last], axis=1) if free else stays.columns
    target = np.concatenate([consumer.matrix, consumer.offset[..., None]], axis=2)[stays.groups]
    rows = consumer.gram[stays.groups[:, None], columns]
    gram = np.take_along_axis(rows, columns[:, None, :], axis=2)
    current = np.take_along_axis(target, columns[:, None, :], axis=2).transpose(0, 2, 1)
    known[key] = least_squares(gram, rows @ target.transpose(0, 2, 1), current, RIDGE, free=free)
    held = sum(solution.nbytes for solution in known.values())
    while held > _MOST_SOLUTION_BYTES and len(known) > 1:
        held -= known.popitem(last=False)[1].nbytes
    return known[key]
