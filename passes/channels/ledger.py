"""The ledger: every lock once, with what it freezes and the MACs that it keeps out of reach."""

from __future__ import annotations

import dataclasses

from amcc.passes.channels.cutsets import Solution
from amcc.passes.channels.model import Channels, Lock
from amcc.passes.channels.relation import Relation
from amcc.passes.cost import CostModel
from amcc.passes.rules.rule import Place


def write_ledger(channels: Channels, relation: Relation, solution: Solution) -> Channels:
    """The analysis with its ledger, and each group with the MACs that it holds."""
    graph = channels.graph
    model = CostModel(channels)
    macs_of = model.macs_by_place()
    frozen: dict[int, dict[Place, int]] = {}
    for value, axes in relation.axes.items():
        if value not in graph.params:
            continue
        for axis, cuts in enumerate(axes):
            if cuts is None:
                continue
            for tag, count in solution.frozen(cuts).items():
                shares = frozen.setdefault(tag, {})
                shares[value, axis] = shares.get((value, axis), 0) + count
    whole = model.macs(model.full)
    groups = []
    for group in channels.groups:
        keep = model.full.copy()
        keep[group.index] = 1
        groups.append(dataclasses.replace(group, macs=whole - model.macs(keep)))
    ledger: dict[tuple[str, int, str, str], Lock] = {}
    for tag, shares in sorted(frozen.items()):
        if tag < 0:
            continue
        reason = relation.reasons[tag]
        macs = sum(macs_of.get((p, a), 0) * n // graph.params[p].shape[a] for (p, a), n in shares.items())
        key = (reason.value, reason.axis, reason.node, reason.text)
        lock = Lock(reason.value, reason.axis, reason.node, reason.op, reason.text, tuple(shares), macs)
        if key in ledger:
            old = ledger[key]
            lock = dataclasses.replace(lock, axes=tuple(dict.fromkeys(old.axes + lock.axes)), macs=old.macs + macs)
        ledger[key] = lock
    return dataclasses.replace(channels, groups=tuple(groups), ledger=tuple(ledger.values()))
