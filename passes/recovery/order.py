"""In which order the units of each group go, and what its consumers lose on the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np

from amcc.ir import Array
from amcc.passes.channels.model import Channels, Group
from amcc.passes.magnitude import magnitudes
from amcc.passes.recovery.elimination import Quadratic, eliminate
from amcc.passes.recovery.gram import Consumer, Statistics
from amcc.passes.recovery.linear import columns_of

RIDGE = 1e-2
"""Ridge of the second moments, in units of their mean diagonal."""


@dataclass(frozen=True)
class Ranking:
    """The units of one group, ordered.

    Attributes:
        order: `[units]` int64, the first to go first.
        loss: `[units + 1]` error after 0, 1, ... removals in that order, ascending from 0. As `rank` gives it,
            the squared error of the network's outputs, relative to their variance, when this group alone is cut
            and its consumers are reconstructed; as `order_units` gives it, that of the consumers' outputs.
        magnitude: `[units]` the unit's weights' root mean square, relative to their layers' (`magnitudes`).
        measured: whether the order comes from calibration, not from magnitudes.
    """

    order: Array
    loss: Array
    magnitude: Array
    measured: bool


def order_units(channels: Channels, statistics: Statistics) -> tuple[Ranking, ...]:
    """Order the units of every group by second-order scores of their consumers.

    The loss is the sum over the group's consumers of the squared error of their outputs, refitted, relative
    to the variance of these outputs. A group without a consumer in the statistics is ordered by magnitude,
    and its loss is the share of squared magnitude that is gone.
    """
    sizes = magnitudes(channels)
    consumers = _by_group(channels, statistics)
    return tuple(_rank(channels, group, consumers[group.index], sizes[group.index]) for group in channels.groups)


def _rank(channels: Channels, group: Group, consumers: Sequence[Consumer], magnitude: Array) -> Ranking:
    quadratics = [q for consumer in consumers for q in _quadratics(channels, group, consumer)]
    if not quadratics:
        order = np.argsort(magnitude, kind="stable")
        energy = np.square(magnitude[order])
        loss = np.concatenate([[0.0], np.cumsum(energy)]) / max(float(energy.sum()), 1e-300)
        return Ranking(order, loss, magnitude, measured=False)
    order, loss = eliminate(quadratics, group.size)
    return Ranking(order, loss, magnitude, measured=True)


def _by_group(channels: Channels, statistics: Statistics) -> dict[int, list[Consumer]]:
    """The consumers that lose inputs with each group's units."""
    found: dict[int, list[Consumer]] = defaultdict(list)
    for consumer in statistics.consumers.values():
        units = channels.axes[consumer.linear.x, consumer.linear.x_axis]
        for group in np.unique(channels.group_of[units]).tolist():
            if group >= 0:
                found[group].append(consumer)
    return found


def _quadratics(channels: Channels, group: Group, consumer: Consumer) -> list[Quadratic]:
    """The consumer's errors as functions of the group's units, one a convolution group.

    Left out are convolution groups that lose nothing, or whose outputs go together with the inputs.
    """
    linear, graph = consumer.linear, channels.graph
    groups, outputs, _ = consumer.matrix.shape
    inputs = _indices(channels.axes[linear.x, linear.x_axis], group)
    each = cast(int, graph.shape(linear.x)[linear.x_axis]) // groups
    cut_outputs = channels.axes.get((linear.y, linear.y_axis))
    lost = _indices(cut_outputs, group) if cut_outputs is not None else None
    moments = _moments(consumer)
    energy = float(np.einsum("gok,gkl,gol->", consumer.matrix, moments, consumer.matrix, optimize=True))
    if not energy > 0:
        return []
    result = []
    for number in range(groups):
        local = [i[i // each == number] % each for i in inputs]
        own = None if lost is None else [o[o // outputs == number] % outputs for o in lost]
        if own is not None and all(len(o) == outputs for i, o in zip(local, own, strict=True) if len(i)):
            continue
        if any(len(i) for i in local):
            columns = [columns_of(linear, graph, i) for i in local]
            if own is not None and not any(len(o) for o in own):
                own = None
            result.append(
                Quadratic(moments[number], consumer.matrix[number], columns, own, ridge=RIDGE, scale=1 / energy)
            )
    return result


def _moments(consumer: Consumer) -> Array:
    """Second moments `[G, K, K]` of the inputs: about their mean where an offset can make up for it."""
    gram = consumer.gram
    moments: Array = gram[:, :-1, :-1]
    if consumer.fits_offset:
        mean = gram[:, -1, :-1]
        moments = moments - mean[:, :, None] * mean[:, None, :]
    return moments


def _indices(units: Array, group: Group) -> list[Array]:
    """For each unit of a group the indices of an axis `[n, k]` that go with it."""
    index, column = np.nonzero((units >= group.start) & (units < group.start + group.size))
    unit = units[index, column] - group.start
    by_unit = np.argsort(unit, kind="stable")
    bounds = np.searchsorted(unit[by_unit], np.arange(group.size + 1))
    return [np.unique(index[by_unit][a:b]) for a, b in pairwise(bounds.tolist())]
