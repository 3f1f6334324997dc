"""Front-to-back repair: every linear operator refitted on what really reaches it.

The original and the shrunk network run side by side over calibration inputs, one linear operator after
the other. Each is fitted by least squares on the inputs that the shrunk network gives it, as repaired
so far, to the original's output. Where that output is added to another value that is already repaired,
the target is the original's sum less that value: the error that the shortcut carries is folded in
(He, Zhang and Sun 2017, section 3.2, generalised to any sum behind per-channel affine nodes).

Memory: both networks' live activations for all samples, at most `LIVE_BYTES`: with larger activations fewer
samples are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.channels.model import Channels, Removal
from amcc.passes.extract import sub_graph
from amcc.passes.recovery.affine import Tail, tail
from amcc.passes.recovery.chunks import chunks, sample_bytes
from amcc.passes.recovery.gram import generator, parts, with_ones
from amcc.passes.recovery.linear import Cut, Linear, cut, linears
from amcc.passes.recovery.patches import Positions, draw, inputs_at, outputs_at
from amcc.passes.recovery.schedule import ancestors, front_to_back, frontiers
from amcc.passes.recovery.solve import least_squares

POSITIONS = 32
"""Output positions taken of each sample."""

RIDGE = 3e-3
"""Pull towards the weights before repair, in units of the mean square of the inputs."""

LIVE_BYTES = 2 << 30
"""Bytes of activations that are held for all samples together."""

_SMALLEST_SCALE = 1e-6


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
) -> Graph:
    """Refit every linear operator of a shrunk network, front to back, against the original.

    Args:
        shrunk: the original without the removed units, best as `reconstruct` left it.
        inputs: calibration inputs, `[samples, ...]` for every input of the network.
        seed: of the output positions.
        limit: samples to use, all that fit in memory by default.
        positions: output positions of a sample, at most.
        threads: of ONNX Runtime, 0 for all cores.

    Returns:
        `shrunk` with other weights and biases in the same places; parameters are never added.
    """
    sites = _sites(channels, removal, shrunk)
    if not sites:
        return shrunk
    runs = _SideBySide(channels.graph, shrunk, sites, inputs, limit, threads)
    for number, site in enumerate(sites):
        original, now = runs.advance(number)
        fit = _Fit(site, runs.shrunk)
        for chunk, (before, after) in enumerate(zip(original, now, strict=True)):
            fit.add(before, after, positions, generator(seed, site.linear.node.name, chunk))
        runs.shrunk = runs.shrunk.with_params(fit.solved())
    return runs.shrunk


@dataclass(frozen=True)
class _Site:
    """One linear operator to repair.

    Attributes:
        original: the operator in the original network, and `linear` in the shrunk one.
        stays: what the removal leaves of it.
        tail: the affine nodes behind it, in the shrunk network.
        target: the original's value that is fitted: the operator's output, or the sum it goes into.
        other: the value of the shrunk network that is added in that sum, or "".
    """

    original: Linear
    linear: Linear
    stays: Cut
    tail: Tail
    target: str
    other: str

    @property
    def fits_offset(self) -> bool:
        return bool(self.linear.bias or self.tail.holder)


def _sites(channels: Channels, removal: Removal, shrunk: Graph) -> list[_Site]:
    graph, kept = channels.graph, channels.kept(removal)
    before, after = linears(graph), linears(shrunk)
    repaired: set[str] = set()
    sites = []
    for node in front_to_back(graph):
        if node.name not in before or node.name not in after:
            continue
        original, linear = before[node.name], after[node.name]
        stays = cut(channels, original, kept)
        behind = tail(shrunk, linear)
        target, other = original.y, ""
        if behind.total and _may_fold(shrunk, behind.other, after, repaired):
            whole, own = (kept.get((name, original.y_axis)) for name in (behind.total, original.y))
            if (whole is None and own is None) or np.array_equal(whole, own):  # type: ignore[arg-type]
                target, other = behind.total, behind.other
        sites.append(_Site(original, linear, stays, behind, target, other))
        repaired.add(node.name)
    return sites


def _may_fold(shrunk: Graph, other: str, all_linears: Mapping[str, Linear], repaired: set[str]) -> bool:
    return ancestors(shrunk, other, all_linears) <= repaired


class _SideBySide:
    """Both networks, advanced from one linear operator to the next; live values of all samples are held."""

    def __init__(
        self,
        graph: Graph,
        shrunk: Graph,
        sites: Sequence[_Site],
        inputs: Mapping[str, Array],
        limit: int | None,
        threads: int,
    ) -> None:
        self.shrunk = shrunk
        self._graph = graph
        self._sites = sites
        self._threads = threads
        order = front_to_back(graph)
        left = {node.name for node in shrunk.nodes}
        at = {node.name: position for position, node in enumerate(order)}
        stops = [at[site.linear.node.name] for site in sites]
        # the original has already run the operator whose output is the target
        self._alive = frontiers(graph, order, [stop + 1 for stop in stops])
        self._alive_shrunk = [
            frozenset(name for name in alive if name in shrunk.values)
            for alive in frontiers(shrunk, [n for n in order if n.name in left], _stops(order, left, stops))
        ]
        most = max(
            sample_bytes(graph, a | {s.target}) + sample_bytes(shrunk, b | {s.linear.x, s.other} - {""})
            for a, b, s in zip(self._alive, self._alive_shrunk, sites, strict=True)
        )
        fits = max(1, LIVE_BYTES // max(most, 1))
        names = [v for s in sites for v in (s.original.x, s.original.y)]
        parts_ = list(chunks(graph, inputs, names, limit=fits if limit is None else min(fits, limit)))
        self._original_values: list[dict[str, Array]] = [dict(part) for part in parts_]
        self._shrunk_values: list[dict[str, Array]] = [dict(part) for part in parts_]

    def advance(self, number: int) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
        """Run up to a site: for each chunk the original's and the shrunk network's live values."""
        site = self._sites[number]
        self._run(self._graph, self._original_values, {site.target, site.original.y}, self._alive[number])
        needed = {site.linear.x} | ({site.other} if site.other else set())
        self._run(self.shrunk, self._shrunk_values, needed, self._alive_shrunk[number])
        return self._original_values, self._shrunk_values

    def _run(self, graph: Graph, live: list[dict[str, Array]], needed: set[str], alive: frozenset[str]) -> None:
        from amcc.backends.runtime import Session

        held = set(live[0])
        missing = sorted((needed | alive) - held - set(graph.params))
        if missing:
            session = Session(sub_graph(graph, sorted(held), missing), threads=self._threads)
        for values in live:
            if missing:
                values.update(session.run(values))
            for name in set(values) - needed - alive:
                del values[name]


def _stops(order: Sequence[object], left: set[str], stops: Sequence[int]) -> list[int]:
    """Stops in terms of the nodes that are left in the shrunk network."""
    import itertools

    counts = [0, *itertools.accumulate(int(node.name in left) for node in order)]  # type: ignore[attr-defined]
    return [counts[stop] for stop in stops]


class _Fit:
    """The normal equations of one site."""

    def __init__(self, site: _Site, shrunk: Graph) -> None:
        self._site = site
        self._shrunk = shrunk
        matrix = site.linear.matrix(shrunk)
        offset = site.linear.offset(shrunk)
        self._free = site.fits_offset
        if self._free:
            offset = np.zeros(matrix.shape[:2]) if offset is None else offset
            matrix = np.concatenate([matrix, offset[..., None]], axis=2)
        self._current = matrix.transpose(0, 2, 1)
        groups = self._current.shape[0]
        self._scale = site.tail.scale.reshape(groups, 1, -1) if site.other else None
        self._gram = np.zeros((groups, matrix.shape[2], matrix.shape[2]))
        self._cross = np.zeros_like(self._current)
        self._rows = 0

    def add(
        self, original: Mapping[str, Array], shrunk: Mapping[str, Array], positions: int, rng: np.random.Generator
    ) -> None:
        """Add the rows of one chunk."""
        site = self._site
        x, y = shrunk[site.linear.x], original[site.target]
        at = draw(site.linear, x, y.shape, positions, rng)
        for part in parts(site.linear, x, len(at.outputs)):
            rows = inputs_at(site.linear, x[part], at)
            rows = with_ones(rows) if self._free else rows
            targets = self._targets(y[part], shrunk[site.other][part] if site.other else None, at)
            across = rows.transpose(0, 2, 1)
            self._gram += across @ rows
            self._cross += across @ targets
            self._rows += rows.shape[1]

    def _targets(self, y: Array, other: Array | None, at: Positions) -> Array:
        """`[G', R, O']` what the operator should give."""
        site, stays = self._site, self._site.stays
        rows = outputs_at(site.original, y, at)[stays.groups]
        rows = np.take_along_axis(rows, stays.outputs[:, None, :], axis=2)
        if other is None:
            return rows
        assert self._scale is not None
        behind = site.tail
        rest = rows - np.float32(behind.other_sign) * outputs_at(site.linear, other, at)
        shift = behind.shift.reshape(self._scale.shape)
        safe = np.where(np.abs(self._scale) > _SMALLEST_SCALE, self._scale, np.inf)
        targets: Array = ((rest * behind.sign - shift) / safe).astype(np.float32)
        return targets

    def solved(self) -> dict[str, Array]:
        """The parameters of the shrunk network after the fit; none where activations are not finite."""
        site, graph = self._site, self._shrunk
        if not self._rows or not (np.isfinite(self._gram).all() and np.isfinite(self._cross).all()):
            return {}
        fitted = least_squares(self._gram / self._rows, self._cross / self._rows, self._current, RIDGE, free=self._free)
        if self._scale is not None:
            fitted = np.where(np.abs(self._scale) > _SMALLEST_SCALE, fitted, self._current)
        fitted = fitted.transpose(0, 2, 1)
        if not self._free:
            return site.linear.params(graph, fitted, None)
        matrix, offset = fitted[..., :-1], fitted[..., -1]
        if site.linear.bias:
            return site.linear.params(graph, matrix, offset)
        factor = site.tail.holder_factor
        assert factor is not None
        return site.linear.params(graph, matrix, None) | site.tail.held(graph, factor * offset.reshape(-1))
