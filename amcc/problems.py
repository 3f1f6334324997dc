"""The search's view of a network: what a plan settles, what it costs, what it may cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from amcc.budget import Budget, Limits
from amcc.ir import Array, Graph, Node
from amcc.passes.channels import Channels, Group
from amcc.passes.cost import CostModel
from amcc.passes.sparsity import Layer, Layers, SparseCosts
from amcc.search import GroupInfo, Problem
from amcc.settings import Settings
from amcc.stages import Learned, Subject, blank, reasons

AIM = Fraction(985, 1000)
"""The share of a limit of latency that plans are fitted to."""


def check_reachable(subject: Subject, budget: Budget, settings: Settings) -> None:
    """Find out before the work whether any plan meets the budget.

    Raises:
        BudgetError: none does; names the smallest reachable value and the locks in its way.
    """
    learned = blank(subject)
    if costs_of(subject, budget, learned.orders).regular:
        problem_of(subject, learned, budget, settings, lambda keep: 0.0).check_reachable()


def problem_of(
    subject: Subject,
    learned: Learned,
    budget: Budget,
    settings: Settings,
    score: Callable[[Any], float],
    original_score: float | None = None,
) -> Problem:
    """The search's view of a network."""
    model = costs_of(subject, budget, learned.orders)
    locks = reasons(subject.cuts, 3)
    return Problem(
        groups=decisions(subject, settings),
        limits=limits_of(budget, model),
        cost=model.costs,
        score=score,
        losses=learned.losses,
        magnitudes=learned.magnitudes,
        why=f"in the way: {locks}" if locks else "",
        original_score=original_score,
    )


def decisions(subject: Subject, settings: Settings) -> list[GroupInfo]:
    """What a plan settles: how many units of each group stay, or how many of a layer's levels."""
    if subject.layers is None:
        return [_group_info(subject, group, settings) for group in subject.channels.groups]
    return [_layer_info(subject.graph, layer, settings) for layer in subject.layers.layers]


def costs_of(subject: Subject, budget: Budget, orders: Sequence[Array] | None = None) -> CostModel | SparseCosts:
    """The costs of all plans of a network, in all resources that a budget limits."""
    if subject.layers is not None:
        return SparseCosts(subject.layers, memory=budget.of("memory") is not None)
    pace = subject.latency.pace() if subject.latency is not None and budget.of("latency") is not None else None
    return CostModel(subject.channels, orders, memory=budget.of("memory") is not None, pace=pace)


def limits_of(budget: Budget, costs: CostModel | SparseCosts) -> Limits:
    """What plans may cost; of latency a little less than was asked, for what is predicted and what is run differ."""
    limits = budget.resolve(costs.original)
    if limits.latency is None or limits.latency >= costs.original.latency:
        return limits
    return replace(limits, latency=math.floor(AIM * limits.latency))


def within_reach(cuts: Channels | Layers) -> float:
    """Share of the MACs that goes when of every group a single unit stays, or of every layer the least."""
    model = CostModel(cuts) if isinstance(cuts, Channels) else SparseCosts(cuts)
    whole = model.original.flops
    return 1 - model.costs(np.ones(len(cuts.groups), np.int64)).flops / whole if whole else 0.0


def _layer_info(graph: Graph, layer: Layer, settings: Settings) -> GroupInfo:
    """A layer with the facts of AMC's state."""
    node, (groups, outputs, columns) = layer.linear.node, layer.shape
    spatial = [d for d in graph.shape(layer.linear.y)[2:] if isinstance(d, int)] if layer.linear.kernel else []
    strides = node.attributes.get("strides", (1,))
    return GroupInfo(
        index=layer.index,
        name=layer.name,
        size=layer.levels,
        n=groups * outputs,
        c=columns // layer.linear.taps,
        h=spatial[0] if spatial else 1,
        w=spatial[-1] if spatial else 1,
        stride=int(strides[0]) if isinstance(strides, tuple) and strides else 1,
        k=layer.linear.kernel[-1] if layer.linear.kernel else 1,
        macs=layer.macs,
        minimum=int(layer.kept.searchsorted(settings.minimum(layer.units))),
    )


def _group_info(subject: Subject, group: Group, settings: Settings) -> GroupInfo:
    """A group with the facts of the layer that makes its units, for the agent's state.

    Under a budget of latency its widths are those that are worth having on the device.
    """
    graph, measured = subject.graph, subject.latency if settings.round is None else None
    node = _maker(graph, group)
    output = graph.values[next(filter(None, node.outputs))].shape if node is not None else None
    weight = graph.params[group.slices[0].param].shape
    n, c = (weight[0], weight[1]) if len(weight) > 1 else (group.size, 1)
    spatial = [d for d in (output or ())[2:] if isinstance(d, int)]
    strides = node.attributes.get("strides", (1,)) if node is not None else (1,)
    return GroupInfo(
        index=group.index,
        name=group.name,
        size=group.size,
        n=n,
        c=c,
        h=spatial[0] if spatial else 1,
        w=spatial[-1] if spatial else 1,
        stride=int(strides[0]) if isinstance(strides, tuple) and strides else 1,
        k=weight[-1] if len(weight) > 2 else 1,
        macs=group.macs,
        multiple=settings.multiple(group.size),
        minimum=settings.minimum(group.size),
        choices=measured.table.widths[group.index] if measured is not None else (),
    )


def _maker(graph: Graph, group: Group) -> Node | None:
    readers = graph.consumers.get(group.slices[0].param, ())
    return readers[0] if readers else None
