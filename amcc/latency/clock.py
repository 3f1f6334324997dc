"""What a compilation asks about time: what plans take by the table, and what a network takes when it is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from amcc.ir import Shape
from amcc.jsontext import Document, dumps
from amcc.latency import cache
from amcc.latency.device import Device
from amcc.latency.measure import Bench, measure
from amcc.latency.table import Table, pace_of
from amcc.passes.channels import Channels, Removal
from amcc.passes.cost import ONE, CostModel, Pace
from amcc.passes.rewrite import shrink
from amcc.plan import fingerprint


class Runs(Document):
    """Whole networks that were run: for each plan its nanoseconds, and those of the original beside it."""

    plans: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Latency:
    """A network's times on a device.

    Attributes:
        name: of the table in the cache.
        scale: what predicted savings are multiplied by; the table's own until a plan that was run says better.
        file: the network as it came, where it came as a file.
    """

    channels: Channels
    device: Device
    shapes: Mapping[str, Shape]
    table: Table
    name: str
    scale: float
    file: Path | None = None
    _runs: dict[str, tuple[float, float]] = field(default_factory=dict, compare=False)

    @property
    def whole(self) -> int:
        """Nanoseconds of the network as it is."""
        return self.table.whole

    @property
    def sha256(self) -> str:
        """Of all that decides what plans are said to take."""
        return hashlib.sha256(f"{self.table.sha256} {self.scale!r}".encode()).hexdigest()

    def pace(self) -> Pace:
        """For `amcc.passes.cost.CostModel`."""
        return pace_of(self.channels, self.table.operators, self.whole, self.scale)

    def measured(self, removal: Removal) -> int:
        """Nanoseconds of the network under a plan, run beside the original and scaled by it; kept in the cache.

        Raises:
            ModelError, DataError: the device fails.
        """
        key = _digest(self.channels, removal)
        if key not in self._runs:
            bench = Bench(self.channels, self.device, self.shapes, self.file)
            whole, plan = bench.beside([shrink(self.channels, removal)]).tolist()
            self._runs[key] = (whole, plan)
            before = cache.recall(_runs_name(self.name), Runs)
            plans = {**(before.plans if before is not None else {}), **self._runs}
            cache.keep(_runs_name(self.name), Runs(plans=dict(sorted(plans.items()))))
        whole, plan = self._runs[key]
        return round(self.whole * plan / whole)

    def corrected(self, removal: Removal) -> Latency:
        """The same with savings scaled so that this plan takes what it took when it was run."""
        unscaled = replace(self.pace(), scale=ONE)
        saved = self.whole - CostModel(self.channels, pace=unscaled).of_removal(removal).latency
        return self if saved <= 0 else replace(self, scale=max(self.whole - self.measured(removal), 0) / saved)


def latency_of(
    channels: Channels,
    device: Device,
    shapes: Mapping[str, Shape],
    *,
    file: Path | None = None,
    fresh: bool = False,
) -> tuple[Latency, bool]:
    """The network's times on a device, from the cache or measured now; and whether they could be kept.

    Args:
        shapes: of the network's inputs.
        file: the network as it came, where it came as a file.
        fresh: measure whatever the cache holds.

    Raises:
        ModelError, DataError: the device fails.
    """
    name = f"latency-{_key(channels, device, shapes)}.json"
    if fresh:
        cache.forget(name)
        cache.forget(_runs_name(name))
    table, kept = cache.recall(name, Table), True
    if table is None or not _fits(table, channels):
        table = measure(Bench(channels, device, shapes, file), fingerprint(channels.graph))
        kept = cache.keep(name, table)
    runs = cache.recall(_runs_name(name), Runs)
    return Latency(channels, device, shapes, table, name, table.scale, file, dict(runs.plans) if runs else {}), kept


def _fits(table: Table, channels: Channels) -> bool:
    sizes = [group.size for group in channels.groups]
    places = (place for line in table.operators for term in line.terms for place in term.axes)
    return [widths[-1] for widths in table.widths] == sizes and all(place in channels.axes for place in places)


def _runs_name(name: str) -> str:
    return name.replace("latency-", "latency-runs-")


def _key(channels: Channels, device: Device, shapes: Mapping[str, Shape]) -> str:
    from amcc import __version__

    facts = {
        "amcc": __version__,
        "device": device.facts,
        "network": fingerprint(channels.graph),
        "groups": [(group.name, group.size) for group in channels.groups],
        "shapes": {name: list(shape) for name, shape in shapes.items()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _digest(channels: Channels, removal: Removal) -> str:
    """Of what is left of every axis: all that time depends on."""
    lengths = {f"{name}[{axis}]": len(kept) for (name, axis), kept in channels.kept(removal).items()}
    return hashlib.sha256(dumps(dict(sorted(lengths.items()))).encode()).hexdigest()[:16]
