"""In which order the units of each group go, and what the network's outputs lose on the way.

A layer's own relative error says nothing of what the rest of the network makes of it. So a share of each
group's units is removed by itself, the consumers reconstructed, and the change of the network's outputs
measured on calibration inputs. What was measured scales the group's loss: only so can losses be compared
between groups.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.batching import batching
from amcc.passes.channels.model import Channels, Group
from amcc.passes.recovery.blas import one_thread
from amcc.passes.recovery.chunks import chunks
from amcc.passes.recovery.gram import Statistics
from amcc.passes.recovery.order import Ranking, order_units
from amcc.passes.recovery.solve import reconstruct
from amcc.passes.rewrite import shrink

SHARES = (0.25, 0.5, 0.75)
"""The shares of a group's units of which the first that changes the outputs is removed to measure."""


@one_thread
def rank(channels: Channels, statistics: Statistics, *, threads: int = 0) -> tuple[Ranking, ...]:
    """Rank the units of every group.

    Costs a run over the statistics' probes for each group.

    Args:
        threads: of ONNX Runtime, 0 for all cores.
    """
    return weigh(channels, statistics, order_units(channels, statistics), threads=threads)


def weigh(
    channels: Channels,
    statistics: Statistics,
    rankings: Sequence[Ranking],
    *,
    threads: int = 0,
) -> tuple[Ranking, ...]:
    """Scale the losses of rankings by what the network's outputs make of them."""
    measure = deviations(channels.graph, statistics, threads=threads)

    def weighed(group: Group, ranking: Ranking) -> Ranking:
        for share in SHARES:
            gone = min(max(1, round(group.size * share)), group.size - 1)
            if ranking.loss[gone] > 0:
                removal = {group.index: np.sort(ranking.order[:gone])}
                cut = reconstruct(channels, removal, shrink(channels, removal), statistics)
                if deviation := measure(cut):
                    return dataclasses.replace(ranking, loss=ranking.loss * (deviation / ranking.loss[gone]))
        return dataclasses.replace(ranking, loss=np.zeros_like(ranking.loss))

    return tuple(weighed(group, ranking) for group, ranking in zip(channels.groups, rankings, strict=True))


def deviations(graph: Graph, statistics: Statistics, *, threads: int = 0) -> Callable[[Graph], float]:
    """What tells how far the outputs of a changed network are from the original's, over the statistics' probes.

    That is the mean over the outputs of the squared change, relative to the output's variance over samples.
    """
    from amcc.backends.runtime import Session

    how = batching(graph)

    def outputs(of: Graph) -> list[Array]:
        session = Session(of, threads=threads)
        parts = []
        for feeds in chunks(graph, statistics.probes, graph.outputs):
            found, count = session.run(feeds), how.count_in(feeds)
            parts.append([how.samples_first(graph.values[n].shape, found[n], count) for n in graph.outputs])
        return [np.concatenate(arrays).astype(np.float64) for arrays in zip(*parts, strict=True)]

    original = outputs(graph)
    return lambda changed: _deviation(original, outputs(changed))


def _deviation(original: Sequence[Array], changed: Sequence[Array]) -> float:
    found = []
    for before, after in zip(original, changed, strict=True):
        if before.shape != after.shape:
            continue
        spread = float(np.square(before - before.mean(axis=0)).mean())
        change = float(np.square(after - before).mean())
        if np.isfinite(spread) and np.isfinite(change) and spread > 0:
            found.append(change / spread)
    return float(np.mean(found)) if found else 0.0
