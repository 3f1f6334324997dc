"""Which units of a layer go first, and what the layer's output loses on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from amcc.ir import Array
from amcc.passes.recovery.blas import one_thread
from amcc.passes.recovery.elimination import regular_inverse
from amcc.passes.recovery.gram import Consumer, Statistics
from amcc.passes.recovery.gram import gather as gather_linears
from amcc.passes.recovery.order import RIDGE, moments_of
from amcc.passes.recovery.rank import deviations
from amcc.passes.sparsity.elimination import eliminate, scores_once
from amcc.passes.sparsity.layers import Layer, Layers
from amcc.passes.sparsity.refit import refit
from amcc.passes.sparsity.zeros import zeroed

MOST_WORK = 4 * 10**11
"""Multiply-accumulates that the elimination of one layer may take; beyond, units are scored once."""

SHARES = (0.75, 0.5, 0.9)
"""The shares of a layer of which the first whose removal changes the outputs is measured."""


@dataclass(frozen=True)
class Choice:
    """The units of one layer, ordered.

    Attributes:
        order: `[units]` the first to go first.
        loss: `[levels + 1]` error of the layer's output when 0, 1, ... levels are gone, ascending from 0; from
            `choose`, the squared error of the network's outputs relative to their variance.
        magnitude: `[levels]` root mean square of the weights that go with each level, relative to the layer's.
    """

    order: Array
    loss: Array
    magnitude: Array


def by_magnitude(layers: Layers) -> tuple[Choice, ...]:
    """The smallest weights go first; the loss is the share of squared magnitude that is gone."""
    return tuple(_of_scores(layers, layer, np.square(_weights(layers, layer)).sum(axis=1)) for layer in layers.layers)


def gather(layers: Layers, inputs: Mapping[str, Array], *, seed: int = 0, threads: int = 0) -> Statistics:
    """Run the original once over calibration inputs and gather the Gram matrix of every layer."""
    found = [layer.linear for layer in layers.layers]
    return gather_linears(layers.graph, found, inputs, seed=seed, threads=threads)


@one_thread
def choose(layers: Layers, statistics: Statistics, *, threads: int = 0) -> tuple[Choice, ...]:
    """The units go first that the layer's output misses least once the others are refitted.

    Losses are scaled by what the network's outputs make of them: of each layer alone a share is taken out, the rest
    refitted, and the change measured on the statistics' probes. A layer without statistics goes by magnitude.

    Args:
        threads: of ONNX Runtime, 0 for all cores.
    """
    measure = deviations(layers.graph, statistics, threads=threads)
    found = []
    for layer, plain in zip(layers.layers, by_magnitude(layers), strict=True):
        consumer = statistics.consumers.get(layer.linear.node.name)
        choice = plain if consumer is None else _second_order(layers, layer, consumer)
        for share in (0.5,) if layers.granularity.regular else SHARES:
            level = max(1, round(layer.levels * (1 - share)))
            gone = layer.units - int(layer.kept[level])
            loss = choice.loss[layer.levels - level]
            if gone and loss > 0:
                removal = {layer.index: np.sort(choice.order[:gone])}
                pure = zeroed(layers.graph, layers.masks(removal))
                if deviation := measure(refit(layers, removal, pure, statistics)):
                    choice = replace(choice, loss=choice.loss * (deviation / loss))
                    break
        else:
            choice = replace(choice, loss=np.zeros_like(choice.loss))
        found.append(choice)
    return tuple(found)


def _second_order(layers: Layers, layer: Layer, consumer: Consumer) -> Choice:
    moments = moments_of(consumer)
    inverse = regular_inverse(moments, RIDGE)
    how, (groups, above, beside) = layers.granularity, layer.grid
    rows = consumer.matrix.reshape(groups, above, -1, consumer.matrix.shape[2])
    columns, quota = rows.shape[3], (how.of, how.of - how.stay) if how.regular else None
    if groups * above * columns**3 * 2 // 3 > MOST_WORK:
        scores = [scores_once(inverse[g], rows[g, a], how.columns) for g in range(groups) for a in range(above)]
        return _of_scores(layers, layer, np.concatenate(scores))
    keys = np.full((groups * above, beside), np.inf)
    costs = np.zeros((groups * above, beside))
    for row in range(groups * above):
        order, cost = eliminate(inverse[row // above], rows[row // above, row % above], how.columns, quota=quota)
        costs[row, order] = cost
        keys[row, order] = np.maximum.accumulate(cost)
    return _ordered(layers, layer, keys.ravel(), costs.ravel())


def _of_scores(layers: Layers, layer: Layer, scores: Array) -> Choice:
    """By scores that do not change while units go."""
    how, keys = layers.granularity, scores
    if how.regular:
        in_pattern = scores.reshape(-1, how.of)
        rank = in_pattern.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        keys = np.where(rank < how.of - how.stay, in_pattern, np.inf).ravel()
    return _ordered(layers, layer, keys, scores)


def _ordered(layers: Layers, layer: Layer, keys: Array, costs: Array) -> Choice:
    order = np.argsort(keys, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(costs[order])])
    bounds = layer.units - layer.kept[::-1]
    squares = np.concatenate([[0.0], np.cumsum(np.square(_weights(layers, layer)).sum(axis=1)[order])])
    share = np.maximum(np.diff(squares[bounds]), 0) / max(squares[-1], 1e-300)
    magnitude = np.sqrt(share * layer.units / np.diff(bounds))
    return Choice(order, total[bounds] / max(total[-1], 1e-300), magnitude)


def _weights(layers: Layers, layer: Layer) -> Array:
    return layer.by_unit(layer.linear.matrix(layers.graph))
