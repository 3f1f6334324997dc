"""What is known of a compilation once it is settled what goes, and the summary of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from amcc.budget import Budget, Key
from amcc.certificate import Certificate
from amcc.finals import Finalist
from amcc.ir import Array, Graph
from amcc.passes.channels import Channels, Group, Removal
from amcc.passes.cost import CostModel, parameter_count, weight_bytes
from amcc.passes.memory import peak_activations
from amcc.passes.sparsity import Layers, SparseCosts, sizes
from amcc.problems import costs_of, within_reach
from amcc.search import SearchResult
from amcc.settings import Recover
from amcc.study import Study
from amcc.summary import (
    BudgetLine,
    CertificateLine,
    Change,
    FinalistLine,
    GroupLine,
    GuaranteeLine,
    MetricLine,
    PolicyLine,
    SparsityLine,
    Summary,
    Timings,
    Totals,
    TuningLine,
    versions,
)
from amcc.training import Training


@dataclass(frozen=True)
class Shipment:
    """All that is known once it is settled what goes.

    Attributes:
        search: None where a plan was given.
        finalists: of the last round, best first; none where there was none.
        graph: the network with its weights recovered, where that was done already.
        guarantee: what was asked for in place of a budget.
        training: to come, after the weights are recovered.
        lines: of trainings that were.
    """

    study: Study
    removal: Removal
    budget: Budget
    policy: str
    search: SearchResult | None
    finalists: tuple[Finalist, ...] = ()
    graph: Graph | None = None
    guarantee: GuaranteeLine | None = None
    training: Training | None = None
    lines: tuple[TuningLine, ...] = ()


def summarize(
    shipment: Shipment, final: Graph, certificate: Certificate, metric: MetricLine, timings: Timings
) -> Summary:
    """Everything in numbers; `files` is still empty."""
    study = shipment.study
    subject, splits, settings = study.subject, study.splits, study.settings
    data = {"calibration": splits.calibration, "search": splits.search, "report": splits.report}
    full = study.learned.statistics is not None
    return Summary(
        model=subject.name,
        budget=budget_lines(shipment),
        guarantee=shipment.guarantee,
        totals=_totals(subject.graph, final, shipment),
        metric=metric,
        certificate=CertificateLine(
            error=certificate.error,
            tolerance=certificate.tolerance,
            outputs=dict(certificate.outputs),
            seed=certificate.seed,
            passed=certificate.passed,
        ),
        groups=(
            group_lines(subject.channels, shipment.removal)
            if subject.layers is None
            else layer_lines(subject.layers, shipment.removal)
        ),
        policies=_policies(shipment),
        policy=shipment.policy,
        finalists=tuple(
            FinalistLine(policy=f.record.policy, episode=f.record.episode, score=f.score, samples=f.samples)
            for f in shipment.finalists
        ),
        recover=cast(Recover, settings.recover) if full else "none",
        calibration=splits.calibration.source if full else None,
        within_reach=round(within_reach(subject.cuts), 6),
        sparsity=None if subject.layers is None else sparsity_line(subject.layers, final),
        seed=settings.seed,
        versions=versions(),
        inputs={
            "model": subject.sha256,
            **{name: part.sha256 for name, part in data.items()},
            **({"latency": subject.latency.sha256} if subject.latency is not None else {}),
        },
        tuning=shipment.lines,
        files={},
        warnings=tuple(study.notes.texts),
        timings=timings,
    )


def _totals(original: Graph, final: Graph, shipment: Shipment) -> Totals:
    layers = shipment.study.subject.layers
    costs = CostModel(shipment.study.subject.channels) if layers is None else SparseCosts(layers)
    after = costs.of_removal(shipment.removal)
    params, size = (parameter_count(final), weight_bytes(final)) if layers is None else (after.params, after.size)
    return Totals(
        macs=Change(before=costs.original.flops, after=after.flops),
        params=Change(before=parameter_count(original), after=params),
        bytes=Change(before=weight_bytes(original), after=size),
        memory=Change(before=peak_activations(original), after=peak_activations(final)),
    )


def budget_lines(shipment: Shipment) -> tuple[BudgetLine, ...]:
    """The parts of the budget, and what the plan reaches of each: of latency what it took when it was run."""
    model = costs_of(shipment.study.subject, shipment.budget)
    before, after = model.original, model.of_removal(shipment.removal)
    latency = shipment.study.subject.latency
    limits = shipment.budget.resolve(before)
    asked: dict[Key, str] = {term.key: str(term) for term in shipment.budget.terms}
    lines = []
    for key, limit in limits.items():
        original, reached = before.of(key), after.of(key)
        if key == "latency":
            if latency is None:
                continue  # a plan is put on a network, and no device was asked
            reached = latency.measured(shipment.removal)
            limit = limit if shipment.guarantee is None else reached
        lines.append(
            BudgetLine(
                asked=asked[key],
                resource=key,
                original=original,
                limit=limit,
                reached=reached,
                ratio=round(reached / max(original, 1), 6),
            )
        )
    return tuple(lines)


def _policies(shipment: Shipment) -> tuple[PolicyLine, ...]:
    found = shipment.search
    if found is None:
        return ()
    finals = {finalist.record.keep: finalist.score for finalist in shipment.finalists}
    keep = shipment.study.subject.keep(shipment.removal)
    searched = next((record.score for record in found.fitting if record.keep == keep), None)
    lines = []
    for name in dict.fromkeys(record.policy for record in found.records):
        best = found.by_policy.get(name)
        score, final = (None, None) if best is None else (best.score, finals.get(best.keep))
        lines.append(
            PolicyLine(
                policy=name,
                score=score,
                final=final,
                margin=_ahead(searched, score),
                final_margin=_ahead(finals.get(keep), final),
                evaluations=sum(record.policy == name for record in found.records),
                shipped=name == shipment.policy,
            )
        )
    return tuple(lines)


def _ahead(shipped: float | None, other: float | None) -> float | None:
    return None if shipped is None or other is None else shipped - other


def group_lines(channels: Channels, removal: Removal) -> tuple[GroupLine, ...]:
    """What stays of each group, what reads it, and the MACs of the nodes that hold its parameters."""
    costs = CostModel(channels)
    before, after = costs.node_macs({}), costs.node_macs(removal)
    readers = _consumers(channels)
    return tuple(
        GroupLine(
            name=group.name,
            size=group.size,
            kept=group.size - len(removal.get(group.index, ())),
            consumers=tuple(readers[group.index]),
            macs=_group_macs(channels.graph, group, before, after),
            inexact=group.inexact,
        )
        for group in channels.groups
    )


def layer_lines(layers: Layers, removal: Removal) -> tuple[GroupLine, ...]:
    """What stays of each layer's weights."""
    after = SparseCosts(layers).node_macs(removal)
    return tuple(
        GroupLine(
            name=layer.name,
            size=layer.weights,
            kept=layer.weights - layer.unit * len(removal.get(layer.index, ())),
            consumers=(layer.linear.node.name,),
            macs=Change(before=layer.macs, after=after[layer.linear.node.name]),
        )
        for layer in layers.layers
    )


def sparsity_line(layers: Layers, final: Graph) -> SparsityLine:
    """What the zeros of a network save, against the one that the layers are of."""
    before, after = sizes(layers.graph, layers), sizes(final, layers)
    return SparsityLine(
        granularity=str(layers.granularity),
        nonzeros=Change(before=before.nonzeros, after=after.nonzeros),
        zlib=Change(before=before.zlib, after=after.zlib),
        bitmask=after.bitmask,
        csr=after.csr,
    )


def _group_macs(graph: Graph, group: Group, before: Mapping[str, int], after: Mapping[str, int]) -> Change:
    params = {piece.param for piece in group.slices}
    nodes = {node.name for param in params for node in graph.consumers.get(param, ())}
    return Change(before=sum(before.get(n, 0) for n in nodes), after=sum(after.get(n, 0) for n in nodes))


def _consumers(channels: Channels) -> list[list[str]]:
    """For each group the nodes that sum over its units, in order."""
    found: list[dict[str, None]] = [{} for _ in channels.groups]
    inputs = {node.name: node.inputs for node in channels.graph.nodes}
    for contraction in channels.contractions:
        place = (inputs[contraction.node][contraction.input], contraction.axis)
        rows: Array = channels.axes[place]
        for group in np.unique(channels.group_of[rows]):
            if group >= 0:
                found[int(group)][contraction.node] = None
    return [list(nodes) for nodes in found]
