"""In which order the units of each group go, and what its consumers lose on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np

from amcc.ir import Array
from amcc.passes.channels.model import Channels, Group
from amcc.passes.magnitude import magnitudes
from amcc.passes.recovery.elimination import Quadratic, eliminate, regular_inverse
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
    quadratics: list[list[Quadratic]] = [[] for _ in channels.groups]
    for consumer in statistics.consumers.values():
        for number, found in _quadratics(channels, consumer):
            quadratics[number].append(found)
    return tuple(_rank(quadratics[g.index], sizes[g.index]) for g in channels.groups)


def _rank(quadratics: Sequence[Quadratic], magnitude: Array) -> Ranking:
    if not quadratics:
        order = np.argsort(magnitude, kind="stable")
        energy = np.square(magnitude[order])
        loss = np.concatenate([[0.0], np.cumsum(energy)]) / max(float(energy.sum()), 1e-300)
        return Ranking(order, loss, magnitude, measured=False)
    order, loss = eliminate(quadratics, len(magnitude))
    return Ranking(order, loss, magnitude, measured=True)


def _quadratics(channels: Channels, consumer: Consumer) -> Iterator[tuple[int, Quadratic]]:
    """The consumer's errors as functions of the units of each group that cuts it: (group, error).

    Left out are convolution groups that lose nothing, or whose outputs go together with the inputs.
    """
    linear, graph = consumer.linear, channels.graph
    groups, outputs, _ = consumer.matrix.shape
    moments = moments_of(consumer)
    energy = float(((consumer.matrix @ moments) * consumer.matrix).sum())
    if not energy > 0:
        return
    inverse = regular_inverse(moments, RIDGE)
    units = channels.axes[linear.x, linear.x_axis]
    cut_outputs = channels.axes.get((linear.y, linear.y_axis))
    each = cast(int, graph.shape(linear.x)[linear.x_axis]) // groups
    for group in (channels.groups[g] for g in np.unique(channels.group_of[units]).tolist() if g >= 0):
        inputs = _indices(units, group)
        lost = _indices(cut_outputs, group) if cut_outputs is not None else None
        for number in range(groups):
            local = [i[i // each == number] % each for i in inputs]
            own = None if lost is None else [o[o // outputs == number] % outputs for o in lost]
            if not any(len(i) for i in local):
                continue
            if own is not None and all(len(o) == outputs for i, o in zip(local, own, strict=True) if len(i)):
                continue
            if own is not None and not any(len(o) for o in own):
                own = None
            columns = [columns_of(linear, graph, i) for i in local]
            yield group.index, Quadratic(inverse[number], consumer.matrix[number], columns, own, scale=1 / energy)


def moments_of(consumer: Consumer) -> Array:
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
