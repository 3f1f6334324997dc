"""Front-to-back repair: every linear operator refitted on what really reaches it.

The original and the shrunk network run side by side over calibration inputs, from one linear operator to
the next. Each is fitted by least squares on the inputs that the shrunk network gives it, as repaired
so far, to the original's output. Where that output is added to another value that is already repaired,
the target is the original's sum less that value: the error that the shortcut carries is folded in
(He, Zhang and Sun 2017, arXiv 1707.06168, section 3.2, for any sum behind per-channel affine nodes).

Memory: the live activations of both networks for all samples, at most `LIVE_BYTES`; with larger activations
fewer samples are used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.channels.model import Channels, Removal
from amcc.passes.recovery.blas import one_thread
from amcc.passes.recovery.chunks import chunks, sample_bytes
from amcc.passes.recovery.fit import Fit, Rows
from amcc.passes.recovery.gram import generator
from amcc.passes.recovery.live import Live
from amcc.passes.recovery.masked import NO_MASKS, Masks
from amcc.passes.recovery.patches import draw, outputs_at
from amcc.passes.recovery.schedule import front_to_back, frontiers
from amcc.passes.recovery.sites import Bound, Site, bind, sites

POSITIONS = 32
"""Output positions taken of each sample."""

LIVE_BYTES = 2 << 30
"""Bytes of activations that are held for all samples together."""


def repair(
    channels: Channels,
    removal: Removal,
    shrunk: Graph,
    inputs: Mapping[str, Array],
    *,
    seed: int = 0,
    limit: int | None = None,
    positions: int = POSITIONS,
    threads: int = 0,
    masks: Masks = NO_MASKS,
) -> Graph:
    """Refit every linear operator of a shrunk network, front to back, against the original.

    Args:
        shrunk: the original without the removed units, best as `reconstruct` left it.
        inputs: calibration inputs, `[samples, ...]` for every input of the network.
        seed: of the output positions.
        limit: samples to use, all that fit in memory by default.
        positions: output positions of a sample, at most.
        threads: of ONNX Runtime, 0 for all cores.
        masks: for the names of weights, bool of their shape, false where they stay zero.

    Returns:
        `shrunk` with other weights and biases in the same places; parameters are never added.
    """
    return Repairer(channels, inputs, seed=seed, limit=limit, positions=positions, threads=threads).repair(
        removal, shrunk, masks
    )


class Repairer:
    """Repairs any number of candidates over the same samples.

    Args:
        quick: for comparing candidates: keep what the original gives at the drawn positions for the next
            candidate (memory: samples times positions times all outputs of linear operators), refit only
            operators that lost inputs, and meet clipped targets too.
    """

    def __init__(
        self,
        channels: Channels,
        inputs: Mapping[str, Array],
        *,
        seed: int = 0,
        limit: int | None = None,
        positions: int = POSITIONS,
        threads: int = 0,
        quick: bool = False,
    ) -> None:
        graph = channels.graph
        self._channels = channels
        self._seed, self._positions, self._threads = seed, positions, threads
        self._sites = sites(graph)
        self._order = front_to_back(graph)
        self._samples = _samples(graph, self._order, self._sites, inputs, limit)
        self._remembered = list(self._original()) if quick else None
        self._quick = quick

    def on(self, threads: int) -> Repairer:
        """The same with another number of threads of ONNX Runtime."""
        other = copy(self)
        other._threads = threads
        return other

    @one_thread
    def repair(self, removal: Removal, shrunk: Graph, masks: Masks = NO_MASKS) -> Graph:
        """Refit every linear operator of one candidate; see `repair`."""
        kept = self._channels.kept(removal)
        bound = bind(self._channels, shrunk, self._sites, kept)
        if self._quick:
            bound = {name: b for name, b in bound.items() if (b.site.linear.x, b.site.linear.x_axis) in kept}
        left = {node.name for node in shrunk.nodes}
        order = [node for node in self._order if node.name in left]
        live = Live(shrunk, order, _stops(order, bound), self._samples, self._threads)
        stop = 0
        for site, wanted in zip(self._sites, self._remembered or self._original(), strict=True):
            if site.name not in bound:
                continue
            fit = Fit(bound[site.name], shrunk, quick=self._quick, mask=_matrix(bound[site.name], shrunk, masks))
            needed = {fit.bound.linear.x, site.other} - {""}
            for values, rows in zip(live.advance(shrunk, stop, needed), wanted, strict=True):
                fit.add(values[fit.bound.linear.x], values.get(site.other), rows)
            shrunk = shrunk.with_params(fit.solved())
            stop += 1
        return shrunk

    def _original(self) -> Iterator[list[Rows]]:
        """For each site, for each chunk of samples, what the original gives at positions drawn anew."""
        graph = self._channels.graph
        stops = [stop + 1 for stop in _stops(self._order, {site.name for site in self._sites})]
        live = Live(graph, self._order, stops, self._samples, self._threads)
        for number, site in enumerate(self._sites):
            found = []
            for chunk, values in enumerate(live.advance(graph, number, {site.linear.x, site.target})):
                random = generator(self._seed, site.name, chunk)
                y = values[site.target]
                at = draw(site.linear, values[site.linear.x], y.shape, self._positions, random)
                found.append(Rows(at, outputs_at(site.linear, y, at)))
            yield found


def _matrix(bound: Bound, graph: Graph, masks: Masks) -> Array | None:
    """The mask of an operator's weight as it is in the shrunk network, in the form of its matrix."""
    mask = masks.get(bound.linear.weight)
    if mask is None:
        return None
    name = bound.linear.weight
    return np.asarray(bound.linear.matrix(graph.with_params({name: mask.astype(graph.params[name].dtype)})) != 0)


def _stops(order: Sequence[Node], names: Collection[str]) -> list[int]:
    return [position for position, node in enumerate(order) if node.name in names]


def _samples(
    graph: Graph, order: Sequence[Node], found: Sequence[Site], inputs: Mapping[str, Array], limit: int | None
) -> list[dict[str, Array]]:
    """Chunks of samples, as many as fit in memory while both networks are run side by side."""
    names = [name for site in found for name in (site.linear.x, site.target)]
    alive = frontiers(graph, order, _stops(order, {site.name for site in found}))
    most = max((sample_bytes(graph, values) for values in alive), default=1)
    fitting = max(1, LIVE_BYTES // max(2 * most, 1))
    return list(chunks(graph, inputs, names, limit=fitting if limit is None else min(fitting, limit)))
