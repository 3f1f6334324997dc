"""The IR and what the channel analysis found, as versioned JSON: what `amcc inspect --json` prints.

Weights are not in it. Dimensions are integers, or text where they are known only at run time.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from amcc.ir import Array, Graph, Node, Opaque, Value
from amcc.jsontext import Document
from amcc.passes.channels import Approximation, Channels, Group, Lock, Slice
from amcc.passes.cost import node_macs, parameter_count, weight_bytes
from amcc.passes.memory import peak_activations

Count = Annotated[int, Field(ge=0)]
Dims = tuple[int | str, ...]
_SHOWN_ELEMENTS = 64


class JsonValue(Document):
    """A tensor; `shape` is null when even the rank is unknown."""

    name: str
    dtype: str
    shape: Dims | None


class JsonParam(Document):
    """A parameter."""

    name: str
    dtype: str
    shape: tuple[Count, ...]
    bytes: Count


class JsonNode(Document):
    """An operator.

    Attributes:
        attributes: numbers, text and lists as they are; a tensor as `{"tensor": dtype, "shape": [...]}`
            with its `values` if it is small; what amcc carries unread as `{"opaque": kind}`.
        macs: multiply-accumulates for one sample.
        params: elements of the parameters that it reads.
        bytes: of these.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    source: str
    macs: Count
    params: Count
    bytes: Count


class JsonSlice(Document):
    """An axis of a parameter that a group cuts: unit i takes `indices[i]`; null where that is just i."""

    param: str
    axis: Count
    indices: tuple[tuple[Count, ...], ...] | None


class JsonGroup(Document):
    """Units that can be removed one by one; see `amcc.passes.channels.Group`."""

    name: str
    size: Count
    macs: Count
    inexact: bool
    slices: tuple[JsonSlice, ...]


class JsonApproximation(Document):
    """A node that computes over an axis of which units may go, and the groups that this makes inexact."""

    value: str
    axis: int
    node: str
    op: str
    reason: str
    groups: tuple[str, ...]


class JsonObstacle(Document):
    """All locks with one reason: the parameter axes that they freeze, and what they keep out of reach together."""

    op: str
    reason: str
    locks: Count
    axes: Count
    macs: Count


class JsonLock(Document):
    """An axis that cannot shrink, why, and the multiply-accumulates that this keeps out of reach."""

    value: str
    axis: int
    node: str
    op: str
    reason: str
    macs: Count


class JsonTotals(Document):
    """Of the whole network.

    Attributes:
        macs: multiply-accumulates for one sample.
        params: elements of all floating-point parameters.
        bytes: of these.
        memory: bytes of activations alive at the worst moment, one sample.
    """

    macs: Count
    params: Count
    bytes: Count
    memory: Count


class GraphJson(Document):
    """A network and its analysis.

    Attributes:
        obstacles: the ledger summed up by operator and reason, the most out of reach first.
        ledger: every locked axis once.
    """

    version: Literal[1] = 1
    name: str
    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    totals: JsonTotals
    nodes: tuple[JsonNode, ...]
    values: tuple[JsonValue, ...]
    params: tuple[JsonParam, ...]
    groups: tuple[JsonGroup, ...]
    approximations: tuple[JsonApproximation, ...]
    obstacles: tuple[JsonObstacle, ...]
    ledger: tuple[JsonLock, ...]
    metadata: dict[str, str]


def graph_json(channels: Channels) -> GraphJson:
    """The JSON form of an analysed graph."""
    graph = channels.graph
    macs = node_macs(graph)
    nodes = tuple(_node(graph, node, macs.get(node.name, 0)) for node in graph.nodes)
    return GraphJson(
        name=graph.name,
        ir_version=graph.ir_version,
        opsets=dict(graph.opsets),
        inputs=graph.inputs,
        outputs=graph.outputs,
        totals=totals(graph),
        nodes=nodes,
        values=tuple(_value(value) for name, value in graph.values.items() if name not in graph.params),
        params=tuple(_param(name, array) for name, array in graph.params.items()),
        groups=tuple(_group(group) for group in channels.groups),
        approximations=tuple(_approximation(channels, found) for found in channels.approximations),
        obstacles=tuple(JsonObstacle(**vars(obstacle)) for obstacle in channels.obstacles),
        ledger=tuple(_lock(lock) for lock in channels.ledger),
        metadata=dict(graph.metadata),
    )


def totals(graph: Graph) -> JsonTotals:
    """Exact totals of a graph."""
    return JsonTotals(
        macs=sum(node_macs(graph).values()),
        params=parameter_count(graph),
        bytes=weight_bytes(graph),
        memory=peak_activations(graph),
    )


def _node(graph: Graph, node: Node, macs: int) -> JsonNode:
    read = [graph.params[name] for name in dict.fromkeys(node.inputs) if name in graph.params]
    return JsonNode(
        name=node.name,
        op=node.op,
        domain=node.domain,
        inputs=node.inputs,
        outputs=node.outputs,
        attributes={name: _plain(value) for name, value in node.attributes.items()},
        source=node.source,
        macs=macs,
        params=sum(array.size for array in read),
        bytes=sum(array.nbytes for array in read),
    )


def _plain(value: Any) -> Any:
    """An attribute as JSON."""
    if isinstance(value, Opaque):
        return {"opaque": value.kind}
    if isinstance(value, np.ndarray):
        return _tensor(value)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _tensor(array: Array) -> dict[str, Any]:
    shown: dict[str, Any] = {"tensor": array.dtype.name, "shape": list(array.shape)}
    if array.size <= _SHOWN_ELEMENTS:
        shown["values"] = [_plain(item) for item in array.ravel().tolist()]
    return shown


def _value(value: Value) -> JsonValue:
    return JsonValue(name=value.name, dtype=value.dtype, shape=value.shape)


def _param(name: str, array: Array) -> JsonParam:
    return JsonParam(name=name, dtype=array.dtype.name, shape=array.shape, bytes=array.nbytes)


def _group(group: Group) -> JsonGroup:
    return JsonGroup(
        name=group.name,
        size=group.size,
        macs=group.macs,
        inexact=group.inexact,
        slices=tuple(_slice(piece) for piece in group.slices),
    )


def _slice(piece: Slice) -> JsonSlice:
    if len(piece.flat) == len(piece.bounds) - 1 and np.array_equal(piece.flat, np.arange(len(piece.flat))):
        return JsonSlice(param=piece.param, axis=piece.axis, indices=None)
    return JsonSlice(param=piece.param, axis=piece.axis, indices=tuple(tuple(unit.tolist()) for unit in piece.indices))


def _approximation(channels: Channels, found: Approximation) -> JsonApproximation:
    names = tuple(channels.groups[number].name for number in found.groups)
    return JsonApproximation(
        value=found.value, axis=found.axis, node=found.node, op=found.op, reason=found.reason, groups=names
    )


def _lock(lock: Lock) -> JsonLock:
    return JsonLock(value=lock.value, axis=lock.axis, node=lock.node, op=lock.op, reason=lock.reason, macs=lock.macs)
