"""Between plans and analysed graphs: write a removal down, and find a plan's removal in a graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from amcc.errors import PlanError
from amcc.granularity import Granularity
from amcc.ir import Array, Graph, Node
from amcc.passes.channels import Channels, Group, Removal
from amcc.passes.cost import node_macs
from amcc.passes.dims import per_sample
from amcc.passes.sparsity import Layer, Layers, SparseCosts, layers_of
from amcc.passes.twins import Twin, twin_of, twins
from amcc.plan import (
    Plan,
    PlanGroup,
    PlanInput,
    PlanLayer,
    PlanNode,
    PlanSparsity,
    PlanWeight,
    fingerprint,
    packed,
)

_OTHER_MODEL = "this is the plan of another model"


def describe(
    channels: Channels,
    removal: Removal,
    shrunk: Graph,
    *,
    model: str,
    budget: str,
    policy: str,
    seed: int,
    exact: bool = False,
) -> Plan:
    """The plan that says what a removal is."""
    groups = tuple(_plan_group(group, removal.get(group.index)) for group in channels.groups)
    return Plan(
        fingerprint=fingerprint(channels.graph),
        model=model,
        budget=budget,
        policy=policy,
        seed=seed,
        exact=exact,
        inputs=_plan_inputs(channels.graph),
        weights=_plan_weights(channels.graph, {param for group in groups for param in group.slices or ()}),
        groups=groups,
        nodes=_plan_nodes(channels.graph, shrunk),
    )


def describe_weights(
    layers: Layers, removal: Removal, *, model: str, budget: str, policy: str, seed: int, exact: bool = False
) -> Plan:
    """The plan that says which weights of each layer go."""
    masks = layers.masks(removal)
    file = packed(masks)
    before, after = node_macs(layers.graph), SparseCosts(layers).node_macs(removal)
    nodes = tuple(
        PlanNode(name=node.name, op=node.op, macs=macs, sparsity=round(1 - after[node.name] / macs, 6) if macs else 0)
        for node in layers.graph.nodes
        for macs in (before.get(node.name, 0),)
    )
    return Plan(
        fingerprint=fingerprint(layers.graph),
        model=model,
        budget=budget,
        policy=policy,
        seed=seed,
        exact=exact,
        inputs=_plan_inputs(layers.graph),
        weights=_plan_weights(layers.graph, set(masks)),
        groups=(),
        nodes=nodes,
        sparsity=PlanSparsity(
            granularity=str(layers.granularity),
            layers=tuple(_plan_layer(layers, layer, masks.get(layer.name)) for layer in layers.layers),
            sha256=hashlib.sha256(file).hexdigest(),
        ),
    ).with_masks(file)


def _plan_layer(layers: Layers, layer: Layer, mask: Array | None) -> PlanLayer:
    kept = layer.weights if mask is None else int(mask.sum())
    return PlanLayer(
        name=layer.linear.node.name,
        param=layer.name,
        shape=layers.graph.params[layer.name].shape,
        outputs=layer.linear.output_axis,
        weights=layer.weights,
        kept=kept,
        sparsity=round(1 - kept / layer.weights, 6),
    )


def planned_layers(sparsity: PlanSparsity, graph: Graph) -> Layers:
    """The layers of a network at a plan's granularity."""
    granularity = Granularity.parse(sparsity.granularity)
    if granularity is None:
        raise PlanError(f"'{sparsity.granularity}' is no granularity of weights", where="sparsity.granularity")
    return layers_of(graph, granularity)


def weights_of(plan: Plan, layers: Layers) -> dict[int, Array]:
    """What a plan removes from the layers of a graph, a matrix transposed where it is there.

    A weight is found by its name, or else as `removal_of` finds one that has another.

    Raises:
        PlanError: a layer does not fit.
    """
    assert plan.sparsity is not None
    masks, by_name = plan.masks, {layer.name: layer for layer in layers.layers}
    renamed, found = _renamed(plan, layers.graph), {}
    for place, listed in enumerate(plan.sparsity.layers):
        mask, where = masks.get(listed.param), f"sparsity.layers[{place}] '{listed.param}'"
        if listed.kept != (listed.weights if mask is None else int(mask.sum())):
            raise PlanError(f"{listed.kept} weights are kept, but not by the masks", where=where)
        if mask is None:
            continue
        name, _ = renamed.get(listed.param, (listed.param, False))
        if name not in by_name:
            raise PlanError("the model has no linear layer with this weight", where=where, hint=_OTHER_MODEL)
        turned = mask.ndim == 2 and listed.outputs != by_name[name].linear.output_axis
        found[name] = mask.T if turned else mask
    try:
        return layers.of_masks(found)
    except ValueError as error:
        raise PlanError(str(error), hint=_OTHER_MODEL) from None


def masks_of(plan: Plan, graph: Graph) -> dict[str, Array]:
    """What a plan leaves of the weights of layers, by parameter; nothing where channels go.

    Raises:
        PlanError: a layer does not fit.
    """
    if plan.sparsity is None:
        return {}
    layers = planned_layers(plan.sparsity, graph)
    return layers.masks(weights_of(plan, layers))


def _plan_inputs(graph: Graph) -> dict[str, PlanInput]:
    known = ((name, graph.values[name]) for name in graph.inputs)
    return {name: PlanInput(dtype=v.dtype, shape=v.shape) for name, v in known if v.shape is not None}


def _plan_weights(graph: Graph, cut: set[str]) -> dict[str, PlanWeight]:
    known = ((name, twin) for name, twin in twins(graph).items() if name in cut)
    return {name: PlanWeight(path=t.path, shape=tuple(map(int, t.shape)), out=t.out) for name, t in known}


def removal_of(plan: Plan, channels: Channels) -> dict[int, Array]:
    """What a plan removes from an analysed graph.

    On a graph of the plan's own structure the unit numbers count; on any other (a PyTorch twin, with
    BatchNorm folded or not) the units are those whose indices the plan lists for parameters that
    both have, and all of these must come out exactly as listed. A weight that has another name here is found by
    its submodule, shape and orientation.

    Raises:
        PlanError: a group or a parameter does not fit.
    """
    if plan.fingerprint == fingerprint(channels.graph):
        return _same_structure(plan, channels)
    removal: dict[int, Array] = {}
    taken: dict[int, str] = {}
    renamed = _renamed(plan, channels.graph)
    for place, wanted in enumerate(plan.groups):
        if not wanted.removed:
            continue
        wanted = wanted.model_copy(update={"slices": _with_names(wanted.slices or {}, renamed)})
        group, units = _find(wanted, channels, f"groups[{place}]")
        if group.index in taken:
            raise PlanError(f"'{wanted.name}' and '{taken[group.index]}' are one group here", hint=_OTHER_MODEL)
        taken[group.index] = wanted.name
        removal[group.index] = units
    return removal


def _plan_group(group: Group, gone: Array | None) -> PlanGroup:
    removed = [] if gone is None else sorted(int(u) for u in gone)
    slices: dict[str, dict[int, tuple[int, ...]]] = {}
    if removed:
        for piece in group.slices:
            slices.setdefault(piece.param, {})[piece.axis] = _cut(piece.indices, removed)
    return PlanGroup(
        name=group.name,
        size=group.size,
        kept=group.size - len(removed),
        removed=tuple(removed),
        slices=slices,
        inexact=group.inexact,
    )


def _cut(indices: tuple[Array, ...], units: list[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unique(np.concatenate([np.asarray(indices[u]) for u in units])))


def _plan_nodes(graph: Graph, shrunk: Graph) -> tuple[PlanNode, ...]:
    after = {node.name: node for node in shrunk.nodes}
    macs_before, macs_after = node_macs(graph), node_macs(shrunk)
    nodes = []
    for node in graph.nodes:
        macs = macs_before.get(node.name, 0)
        if node.name not in after:
            share = 1.0
        elif macs:
            share = 1 - macs_after.get(node.name, 0) / macs
        else:
            share = 1 - _elements(shrunk, after[node.name]) / max(_elements(graph, node), 1)
        nodes.append(PlanNode(name=node.name, op=node.op, macs=macs, sparsity=round(min(max(share, 0.0), 1.0), 6)))
    return tuple(nodes)


def _elements(graph: Graph, node: Node) -> int:
    shapes = (graph.values[o].shape for o in node.outputs if o and o in graph.values)
    return sum(int(np.prod([per_sample(d) for d in s], dtype=object)) for s in shapes if s is not None)


def _same_structure(plan: Plan, channels: Channels) -> dict[int, Array]:
    groups = {group.name: group for group in channels.groups}
    removal: dict[int, Array] = {}
    for place, wanted in enumerate(plan.groups):
        where = f"groups[{place}] '{wanted.name}'"
        group = groups.get(wanted.name)
        if group is None:
            raise PlanError("the model has no such group", where=where, hint="see `amcc inspect`")
        if group.size != wanted.size:
            raise PlanError(f"has {wanted.size} units in the plan and {group.size} in the model", where=where)
        if not wanted.removed:
            continue
        if wanted.slices is not None and wanted.slices != _plan_group(group, np.array(wanted.removed)).slices:
            raise PlanError(
                "'slices' is not what removing the units in 'removed' removes",
                where=where,
                hint="delete the group's 'slices' after editing; they are worked out again",
            )
        removal[group.index] = np.array(wanted.removed, np.int64)
    return removal


def _renamed(plan: Plan, graph: Graph) -> dict[str, tuple[str, bool]]:
    """Of the plan's weights their names here, and whether they lie transposed."""
    found = twins(graph)
    renamed = {}
    for name, known in plan.weights.items():
        wanted = Twin(known.path, known.shape, known.out)
        other = name if name in graph.params else twin_of(wanted, found, plan.weights)
        if other in found:
            renamed[name] = other, found[other].out != wanted.out
    return renamed


def _with_names(
    slices: Mapping[str, Mapping[int, tuple[int, ...]]], renamed: Mapping[str, tuple[str, bool]]
) -> dict[str, dict[int, tuple[int, ...]]]:
    made = {}
    for param, axes in slices.items():
        name, turned = renamed.get(param, (param, False))
        made[name] = {1 - axis if turned else axis: indices for axis, indices in axes.items()}
    return made


def _find(wanted: PlanGroup, channels: Channels, where: str) -> tuple[Group, Array]:
    """The group of the graph that the plan's group means, and its units that go."""
    where = f"{where} '{wanted.name}'"
    if not wanted.slices:
        raise PlanError("'slices' is missing, and the model is not the one the plan was made for", where=where)
    found: list[tuple[int, Group, Array]] = []
    problem = f"none of its parameters {_some(wanted.slices)} can shrink in this model"
    for group in channels.groups:
        common = [
            (piece.param, piece.axis, piece.indices, wanted.slices[piece.param][piece.axis])
            for piece in group.slices
            if piece.axis in wanted.slices.get(piece.param, {})
        ]
        if not common:
            continue
        if group.size != wanted.size:
            problem = f"has {wanted.size} units in the plan and {group.size} in the model"
            continue
        _, _, indices, listed = common[0]
        units = [u for u in range(group.size) if np.isin(indices[u], listed).all()]
        wrong = next((c for c in common if not units or _cut(c[2], units) != c[3]), None)
        if wrong is not None:
            problem = f"the indices listed for axis {wrong[1]} of '{wrong[0]}' are not whole units of this model"
            continue
        missing = _not_cut(wanted.slices, group, channels.graph)
        if missing:
            problem = f"here it does not cut axis {missing[1]} of '{missing[0]}'"
            continue
        found.append((len(common), group, np.array(units, np.int64)))
    if not found:
        raise PlanError(problem, where=where, hint=_OTHER_MODEL)
    _, group, units_gone = max(found, key=lambda item: item[0])
    return group, units_gone


def _not_cut(slices: Mapping[str, Mapping[int, object]], group: Group, graph: Graph) -> tuple[str, int] | None:
    """A parameter axis that the plan cuts and the graph has, but its group does not cut."""
    cut = {(piece.param, piece.axis) for piece in group.slices}
    listed = ((param, axis) for param, axes in slices.items() for axis in axes)
    return next((place for place in listed if place[0] in graph.params and place not in cut), None)


def _some(names: Mapping[str, object]) -> str:
    shown = [f"'{n}'" for n in list(names)[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")
