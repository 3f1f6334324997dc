"""Batch normalisation put back behind the convolutions of a network in which it was folded, and folded again.

Exported networks have their batch normalisation multiplied into the convolutions, and train badly without it
(Ioffe and Szegedy 2015, arXiv 1502.03167). `restored` puts a node behind every convolution that can have one, its
running statistics those of the convolution's output on samples, its scale and shift such that the two cancel:
the network computes what it did before. `folded` multiplies them into the convolutions again.

With `s` the standard deviation of an output channel: the weights are divided by s, so that all filters learn at one
pace whatever scale was folded into them, and the bias, which the normalisation takes away, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array, Graph, Node, Value, frozen, unused, verify
from amcc.passes.regions import closed

EPSILON = 1e-5
_LEAST_DEVIATION = 1e-4
"""A channel that varies less, in units of its network's largest deviation, keeps its weights as they are."""


@dataclass(frozen=True)
class Norm:
    """One batch normalisation that was put in.

    Attributes:
        node: the convolution's name.
        weight, bias: its parameters; "" where it has no bias.
        scale, shift, mean, variance: the normalisation's.
    """

    node: str
    weight: str
    bias: str
    scale: str
    shift: str
    mean: str
    variance: str


@dataclass(frozen=True)
class Restored:
    """A network with batch normalisation put in.

    Attributes:
        original: as it was.
    """

    original: Graph
    graph: Graph
    norms: tuple[Norm, ...] = ()


def places(graph: Graph) -> list[Node]:
    """The convolutions that can have batch normalisation behind them.

    Not those that have it, that share their weights, whose output is one number a channel (a gate's), or that
    are the last sums in front of an output.
    """
    from amcc.certificate import last_sums

    last, shut = {*last_sums(graph), *graph.outputs}, closed(graph)
    found = []
    for node in graph.nodes:
        if node.op != "Conv" or node.domain or node.name in shut or node.outputs[0] in last:
            continue
        array, shape = graph.params.get(node.input(1)), graph.values[node.outputs[0]].shape
        readers = graph.consumers.get(node.outputs[0], ())
        if array is None or array.dtype != np.float32 or shape is None or all(dim == 1 for dim in shape[2:]):
            continue
        if len(shape) not in (3, 4, 5) or any(reader.op == "BatchNormalization" for reader in readers):
            continue
        own = [name for name in node.inputs[1:] if name]
        if all(name in graph.params and len(graph.consumers[name]) == 1 for name in own):
            found.append(node)
    return found


def measured(graph: Graph, nodes: Iterable[Node], feeds: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """Mean and variance of each channel of the nodes' outputs: float64 `[2, C]` by output.

    Args:
        feeds: what each run is fed.
    """
    from amcc.backends.runtime import Session

    names = [node.outputs[0] for node in nodes]
    session = Session(graph, outputs=names)
    sums: dict[str, Array] = {}
    for inputs in feeds:
        for name, array in session.run(inputs).items():
            axes = (0, *range(2, array.ndim))
            wide = array.astype(np.float64)
            count = np.full(array.shape[1], array.size / array.shape[1])
            added = np.stack([count, wide.sum(axes), np.square(wide).sum(axes)])
            sums[name] = sums[name] + added if name in sums else added
    found = {}
    for name, (count, total, squares) in sums.items():
        mean = total / count
        found[name] = np.stack([mean, np.maximum(squares / count - mean**2, 0)])
    return found


def restored(graph: Graph, feeds: Iterable[Mapping[str, Array]]) -> Restored:
    """The network with batch normalisation behind its convolutions, equivalent to what it was.

    Args:
        feeds: samples on which statistics are measured, run by run.
    """
    nodes = places(graph)
    statistics = measured(graph, nodes, feeds) if nodes else {}
    if not statistics:
        return Restored(graph, graph)
    floor = _LEAST_DEVIATION * max(float(np.sqrt(variance.max())) for _, variance in statistics.values())
    values, params = dict(graph.values), dict(graph.params)
    prefix = unused("norms", {name.partition(".")[0] for name in params})
    norms: list[Norm] = []

    def put(name: str, array: Array) -> str:
        params[name] = frozen(array.astype(np.float32))
        values[name] = Value(name, "float32", array.shape)
        return name

    changed: dict[str, tuple[Node, Node]] = {}
    for node in nodes:
        out, weight, bias = node.outputs[0], node.inputs[1], node.input(2)
        mean, variance = statistics[out]
        deviation = np.sqrt(variance)
        deviation = np.where(deviation > floor, deviation, 1.0)
        offset = params[bias].astype(np.float64) if bias else 0.0
        own = f"{prefix}.{len(norms)}"
        running = variance / deviation**2
        put(weight, params[weight].astype(np.float64) / deviation.reshape(-1, *(1,) * (params[weight].ndim - 1)))
        norm = Norm(
            node.name,
            weight,
            bias,
            put(f"{own}.weight", deviation * np.sqrt(running + EPSILON)),
            put(f"{own}.bias", mean),
            put(f"{own}.running_mean", (mean - offset) / deviation),
            put(f"{own}.running_var", running),
        )
        norms.append(norm)
        inner = unused(f"{out}.unnormed", values)
        values[inner] = Value(inner, "float32", graph.values[out].shape)
        conv = node.replace(inputs=node.inputs[:2], outputs=(inner, *node.outputs[1:]))
        batch_norm = Node(
            f"{node.name}.norm",
            "BatchNormalization",
            (inner, norm.scale, norm.shift, norm.mean, norm.variance),
            (out,),
            {"epsilon": EPSILON},
        )
        changed[node.name] = (conv, batch_norm)
    spread = tuple(part for node in graph.nodes for part in changed.get(node.name, (node,)))
    made = graph.replace(nodes=spread, values=values, params=params).live()
    verify(made, after="restoring batch normalisation")
    return Restored(graph, made, tuple(norms))


def folded(given: Restored, arrays: Mapping[str, Array]) -> Graph:
    """The network as it was before normalisations were put in, with trained parameters.

    A convolution without a bias gets one.

    Args:
        arrays: the trained parameters of `given.graph`, by name.
    """
    weights = {n: a for n, a in arrays.items() if n in given.original.params}
    biases: dict[str, Array] = {}
    for norm in given.norms:
        scale, shift, mean, variance = (
            arrays[name].astype(np.float64) for name in (norm.scale, norm.shift, norm.mean, norm.variance)
        )
        factor = scale / np.sqrt(variance + np.float64(np.float32(EPSILON)))
        wide = arrays[norm.weight].astype(np.float64)
        weights[norm.weight] = (wide * factor.reshape(-1, *(1,) * (wide.ndim - 1))).astype(np.float32)
        bias = (shift - mean * factor).astype(np.float32)
        if norm.bias:
            weights[norm.bias] = bias
        else:
            biases[norm.node] = bias
    return with_biases(given.original.with_params(weights), biases)


def with_biases(graph: Graph, biases: Mapping[str, Array]) -> Graph:
    """The graph with a bias for convolutions that have none.

    Args:
        biases: [C] by the name of the convolution.
    """
    if not biases:
        return graph
    values, params, nodes = dict(graph.values), dict(graph.params), []
    for node in graph.nodes:
        if node.name in biases:
            stem = node.inputs[1].removesuffix(".weight").removesuffix("_weight")
            name = unused(f"{stem}.bias", values)
            params[name] = frozen(biases[node.name])
            values[name] = Value(name, biases[node.name].dtype.name, biases[node.name].shape)
            node = node.replace(inputs=(*node.inputs[:2], name))
        nodes.append(node)
    made = graph.replace(nodes=tuple(nodes), values=values, params=params)
    verify(made, after="adding biases")
    return made


def with_room(graph: Graph, tuned: Graph) -> Graph:
    """A graph with zeros for the biases that a training added to its twin, and no others."""
    readers = {node.name: node for node in graph.nodes}
    added = {}
    for node in tuned.nodes:
        own = readers.get(node.name)
        if own is not None and node.op == own.op == "Conv" and node.input(2) and not own.input(2):
            dtype = graph.params[own.inputs[1]].dtype
            added[node.name] = np.zeros(tuned.params[node.inputs[2]].shape, dtype)
    return with_biases(graph, added)
