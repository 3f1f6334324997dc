"""Measuring a network on a device: from plans that are run to the table."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from amcc.backends.to_onnx import write_onnx
from amcc.ir import Array, Graph, Shape
from amcc.latency import designs
from amcc.latency.device import Device, Local
from amcc.latency.fit import by_operator, nonnegative, scale_of
from amcc.latency.operators import Operators
from amcc.latency.profile import profiled
from amcc.latency.table import Table, Way, lines_of
from amcc.passes.channels import Channels
from amcc.passes.cost import CostModel, node_macs
from amcc.passes.rewrite import shrink

Plan = Sequence[int] | Array
"""How many units of each group stay."""

LEVELS, DRAWN, WHOLE = 32, 24, 5
"""Widths of a group and plans at random whose operators are timed; how many of these are run as they are, too."""
NETWORKS, TWICE = 24, 2
"""Plans at random where only whole networks can be timed, and how often each plan that looks for treads is."""
DROPS = (8, 4, 2, 1)
"""Units that all groups lose at once, to see whether that saves anything."""

_SECONDS, _MOST_SECONDS = 30.0, 150.0
_RUNS = (8, 32)
_ANYBODY = 0.2
_NOTICED, _SAVED = 0.03, 0.3
_RIDGE = 1e-3
_AT_ONCE = 6


class Bench:
    """Runs plans of one network on a device.

    Args:
        shapes: of the network's inputs, for dimensions that are free.
        file: the network as it came, where it came as a file: what is run as the original here.
    """

    def __init__(
        self, channels: Channels, device: Device, shapes: Mapping[str, Shape], file: Path | None = None
    ) -> None:
        self.channels, self.device, self.shapes = channels, device, shapes
        self._file = file if isinstance(device, Local) else None

    def graph(self, plan: Plan) -> Graph:
        """The network that keeps so many units of each group, the last ones going first."""
        orders = [np.arange(group.size)[::-1] for group in self.channels.groups]
        return shrink(self.channels, self.channels.removal(plan, orders))

    def beside(self, graphs: Sequence[Graph]) -> Array:
        """Nanoseconds of the whole network, float, and of each graph: `[1 + graphs]`, measured side by side.

        Raises:
            ModelError, DataError: the device fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            files = {str(number): Path(folder) / f"{number}.onnx" for number in range(len(graphs) + 1)}
            for path, graph in zip(files.values(), (self.channels.graph, *graphs), strict=True):
                write_onnx(graph, path)
            if self._file is not None:
                files["0"] = self._file
            return np.array([timing.low * 1e6 for timing in self.device.compare(files, self.shapes)])

    def networks(self, plans: Sequence[Plan]) -> tuple[float, Array]:
        """Nanoseconds of the whole network, and of the network under each plan as if all had been run at once."""
        if not isinstance(self.device, Local):
            found = self.beside([self.graph(plan) for plan in plans])
            return float(found[0]), found[1:]
        parts = [self.beside([self.graph(p) for p in plans[a : a + _AT_ONCE]]) for a in range(0, len(plans), _AT_ONCE)]
        whole = min(float(part[0]) for part in parts)
        return whole, np.concatenate([whole * part[1:] / part[0] for part in parts])


def measure(bench: Bench, network: str) -> Table:
    """The table of a network on a device.

    Args:
        network: the fingerprint of the network.

    Raises:
        ModelError, DataError: the device fails.
    """
    operators = Operators(bench.channels)
    found = _by_operators(bench, operators) if isinstance(bench.device, Local) else None
    way, widths, coefficients, whole, scale, plans = found or _by_networks(bench, operators)
    return Table(
        device=bench.device.facts,
        network=network,
        way=way,
        whole=round(whole),
        scale=round(scale, 6),
        widths=widths,
        operators=lines_of(operators, coefficients),
        plans=plans,
    )


_Found = tuple[Way, tuple[tuple[int, ...], ...], Array, float, float, int]


def _by_operators(bench: Bench, operators: Operators) -> _Found | None:
    """From times of operators inside networks; None if the runtime does not tell whose they are."""
    channels, device = bench.channels, bench.device
    assert isinstance(device, Local)
    sizes = [group.size for group in channels.groups]

    def times(plans: Sequence[Plan], runs: int) -> tuple[Array, float]:
        return profiled([bench.graph(plan) for plan in plans], operators, device, bench.shapes, runs)

    first, nobodys = times([sizes], _RUNS[0])
    if nobodys > _ANYBODY:
        return None
    colour, most = designs.colours(operators), LEVELS
    plans = designs.sweeps(sizes, colour, most)
    each = max(float(first.sum()) / 1e9, 1e-4)
    while most > 8 and len(plans) * _RUNS[0] * each > _MOST_SECONDS:
        most //= 2
        plans = designs.sweeps(sizes, colour, most)
    runs = int(np.clip(_SECONDS / (len(plans) * each), *_RUNS))
    swept, _ = times(plans, runs)
    widths = tuple(_stairs(operators, plans, swept, colour, group) for group in range(len(sizes)))
    random = designs.drawn(widths, DRAWN, np.random.default_rng(0))
    legal = [number for number, plan in enumerate(plans) if all(k in w for k, w in zip(plan, widths, strict=True))]
    chosen: list[Plan] = [*(plans[number] for number in legal), *random]
    spent = np.concatenate([swept[legal], times(random, runs)[0]])
    shares = np.array([operators.shares(_removal(channels, plan)) for plan in chosen])
    coefficients = by_operator(shares, spent, operators.bounds)
    sample = random[:WHOLE]
    whole, measured = bench.networks(sample)
    predicted = np.array([coefficients.sum(), *(shares[len(legal) : len(legal) + WHOLE] @ coefficients)])
    scale = scale_of(predicted, np.array([whole, *measured]))
    return "operators", widths, coefficients, whole, scale, len(plans) + len(random)


def _stairs(
    operators: Operators, plans: Sequence[Sequence[int]], times: Array, colour: Sequence[int], group: int
) -> tuple[int, ...]:
    """The widths of a group that are worth having, by the plans in which the groups of its colour alone are cut."""
    sizes = plans[0]
    touched = [number for number, operator in enumerate(operators.listed) if group in operator.groups]
    found = {}
    for plan, row in zip(plans, times, strict=True):
        if all(k == n for k, n, c in zip(plan, sizes, colour, strict=True) if c != colour[group]):
            found[plan[group]] = float(row[touched].sum())
    return designs.stairs(found)


def _by_networks(bench: Bench, operators: Operators) -> _Found:
    """From times of whole networks alone: operators of a kind share their speed, and groups their tread."""
    sizes, random = [group.size for group in bench.channels.groups], np.random.default_rng(0)
    length, tried = _common_tread(bench, sizes)
    widths = tuple(_multiples(size, length) for size in sizes)
    plans = designs.drawn(widths, NETWORKS, random)
    whole, measured = bench.networks(plans)
    shares = np.array([operators.shares(_removal(bench.channels, plan)) for plan in plans])
    coefficients = _pooled(operators, shares, whole, measured)
    predicted = np.array([coefficients.sum(), *(shares @ coefficients)])
    scale = scale_of(predicted, np.array([whole, *measured]))
    return "networks", widths, coefficients, whole, scale, tried + len(plans)


def _common_tread(bench: Bench, sizes: Sequence[int]) -> tuple[int, int]:
    """Twice the most units that all large groups can lose for nothing; 1 if there are none. And how many plans ran."""
    costs = CostModel(bench.channels)
    plans = {drop: [n - drop if n >= 4 * drop else n for n in sizes] for drop in DROPS}
    expected = {drop: 1 - costs.macs(plan) / max(costs.original.flops, 1) for drop, plan in plans.items()}
    plans = {drop: plan for drop, plan in plans.items() if expected[drop] >= _NOTICED}
    whole, measured = bench.networks([*plans.values()] * TWICE)
    saved = 1 - measured.reshape(TWICE, len(plans)).mean(axis=0) / whole
    flat = [drop for drop, share in zip(plans, saved, strict=True) if share < _SAVED * expected[drop]]
    return 2 * max(flat) if flat else 1, TWICE * len(plans)


def _multiples(size: int, multiple: int) -> tuple[int, ...]:
    """Multiples up to the whole; of a small group, of a smaller power of two, so that two are left."""
    while multiple > 1 and multiple * 2 > size:
        multiple //= 2
    return (*range(multiple, size, multiple), size)


def _pooled(operators: Operators, shares: Array, whole: float, measured: Array) -> Array:
    """Coefficients, float [terms]: one speed for each kind of operator and of term, near to one for all MACs."""
    graph = operators.channels.graph
    macs = node_macs(graph)
    kinds: dict[tuple[object, ...], int] = {}
    column, amount, work = [], [], []
    for operator in operators.listed:
        count = macs.get(operator.node.name, 0)
        for axes in operator.terms:
            last = bool(axes) and len(axes) == max(map(len, operator.terms))
            kind = (operator.node.op, operator.node.attributes.get("group", 1) != 1, last, len(axes) > 0)
            column.append(kinds.setdefault(kind if axes else (), len(kinds)))
            amount.append(float(count if last and count else _elements(graph, axes)))
            work.append(float(count if last else 0))
    which, units = np.array(column), np.array(amount)
    gather = np.zeros((len(which), len(kinds)))
    gather[np.arange(len(which)), which] = units
    totals = np.maximum(gather.sum(axis=0), 1.0)
    rows = np.concatenate([np.ones((1, len(which))), shares]) @ (gather / totals)
    y = np.array([whole, *measured])
    prior = np.bincount(which, np.array(work), len(kinds)) / max(sum(work), 1.0)
    found = nonnegative(rows / y[:, None], np.ones(len(y)), _RIDGE, prior * whole)
    return np.asarray((gather / totals) @ found)


def _elements(graph: Graph, axes: Sequence[tuple[str, int]]) -> int:
    """Of the tensors that some axes belong to; 1 for none."""
    from amcc.passes.dims import per_sample

    sizes = [int(np.prod([per_sample(d) for d in graph.shape(name)], dtype=np.int64)) for name, _ in axes]
    return sum(sizes) or 1


def _removal(channels: Channels, plan: Plan) -> dict[int, Array]:
    return channels.removal(plan, [np.arange(group.size)[::-1] for group in channels.groups])
