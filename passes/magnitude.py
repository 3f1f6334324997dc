"""How large each unit's weights are: the order and the scores of magnitude pruning."""

from __future__ import annotations

import numpy as np

from amcc.ir import Array
from amcc.passes.channels.model import Channels
from amcc.passes.integers import real


def magnitudes(channels: Channels) -> list[Array]:
    """Float64 [size] for each group: the weights of each unit, comparable between groups.

    On every axis of a weight (two dimensions or more) that the group cuts, a unit has a root mean
    square; divided by that of the whole weight it tells how strong the unit is for its layer, whatever the
    layer's scale. A unit's magnitude is the mean over these axes. Groups that cut no weight count all
    units alike.
    """
    return [_of_group(channels, group.index) for group in channels.groups]


def _of_group(channels: Channels, index: int) -> Array:
    group = channels.groups[index]
    rows = []
    for piece in group.slices:
        weight = real(channels.graph, piece.param) if channels.graph.params[piece.param].ndim > 1 else None
        if weight is None or not weight.size:
            continue
        others = tuple(axis for axis in range(weight.ndim) if axis != piece.axis)
        by_index = np.square(weight).mean(axis=others)
        strengths = np.add.reduceat(by_index[piece.flat], piece.bounds[:-1]) / np.diff(piece.bounds)
        rows.append(np.sqrt(strengths / max(float(by_index.mean()), 1e-300)))
    found: Array = np.mean(rows, axis=0) if rows else np.ones(group.size)
    return found
