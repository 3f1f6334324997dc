"""The graph in the spelling that reads best as PyTorch: same computation, other names of weights.

Weights get the names under which PyTorch's layers hold them: exporters that fold a BatchNorm call the new bias
`conv1.weight_bias`, others number all weights. A matrix product with a weight becomes that of a linear layer, which
holds its weight transposed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from amcc.backends.torch_notes import BUFFERS, KEPT, noted, tied
from amcc.backends.torch_ops.names import keys
from amcc.ir import Array, Graph, Node, Value, frozen

# What a layer calls the parameters that an operator reads, from input 1 on.
_WEIGHT, _AFFINE = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var")
_LAYERS: Mapping[str, tuple[str, ...]] = {
    "BatchNormalization": _AFFINE,
    "Conv": _WEIGHT,
    "ConvTranspose": _WEIGHT,
    "Gemm": _WEIGHT,
    "GroupNormalization": _WEIGHT,
    "InstanceNormalization": _WEIGHT,
    "LayerNormalization": _WEIGHT,
}
_CALLED = {"BatchNormalization": "norm", "Conv": "conv", "ConvTranspose": "conv", "Gemm": "linear", "MatMul": "linear"}
_STEP = re.compile(r"[A-Za-z_]\w*|\d+", re.ASCII)
_SUFFIX = re.compile(r"[._/](weight|weights|kernel|w|W|gamma)(:0|_0)?$")


def readable(graph: Graph) -> Graph:
    """The graph with weights named and laid out as layers hold them; those of a torch source as they are."""
    return _named(_linears(graph))


def _linears(graph: Graph) -> Graph:
    """Matrix products with a weight of their own as products with its transpose, transposed."""
    kept = noted(graph, KEPT) | set(tied(graph).values())
    nodes: list[Node] = []
    params, values = dict(graph.params), dict(graph.values)
    for node in graph.nodes:
        name = node.input(1)
        weight = params.get(name)
        alone = graph.consumers.get(name, ()) == (node,) and name not in graph.outputs and name not in kept
        turned = f"{name}/transposed"
        plain = node.op == "MatMul" or (node.op == "Gemm" and not node.attributes.get("transB", 0))
        if node.domain or not plain or not alone or turned in values or weight is None or weight.ndim != 2:
            nodes.append(node)
            continue
        params[name] = frozen(np.ascontiguousarray(weight.T))
        values[name] = Value(name, values[name].dtype, params[name].shape)
        if node.op == "Gemm":
            nodes.append(node.replace(attributes={**node.attributes, "transB": 1}))
            continue
        values[turned] = Value(turned, values[name].dtype, weight.shape)
        nodes.append(Node(turned, "Transpose", (name,), (turned,), {"perm": (1, 0)}, source=node.source))
        nodes.append(node.replace(inputs=(node.inputs[0], turned)))
    return graph.replace(nodes=tuple(nodes), params=params, values=values)


def _named(graph: Graph) -> Graph:
    """Parameters under the names by which layers hold them, where they have others."""
    held = keys(graph.params)
    taken, names = set(held.values()), dict[str, str]()
    fixed = noted(graph, KEPT) | noted(graph, BUFFERS) | set(tied(graph)) | set(tied(graph).values())
    numbers: dict[str, int] = {}
    for node in graph.nodes:
        given = _layer(graph, node)
        if not given or fixed.intersection(given.values()) or any(name in names for name in given.values()):
            continue
        weight = held[given["weight"]]
        prefix = _prefix(node, weight, numbers)
        wanted = {name: f"{prefix}.{attribute}" for attribute, name in given.items()}
        if all(held[name] == key for name, key in wanted.items()):
            continue
        free = taken - {held[name] for name in given.values()}
        if any(_meet(key, other) for key in wanted.values() for other in free):
            continue
        names.update(wanted)
        taken = free | set(wanted.values())
    return _renamed(graph, names)


def _meet(key: str, other: str) -> bool:
    """Whether one key cannot stand beside another: they are the same, or one goes on below the other."""
    return key == other or other.startswith(f"{key}.") or key.startswith(f"{other}.")


def _layer(graph: Graph, node: Node) -> dict[str, str]:
    """The parameters of a node that could be a layer, by the layer's names; none where another node reads one."""
    if node.domain:
        return {}
    if node.op == "MatMul":
        made = graph.producers.get(node.input(1))
        found = {"weight": made.inputs[0]} if made is not None and made.op == "Transpose" else {}
        readers = graph.consumers.get(node.outputs[0], ())
        if found and len(readers) == 1 and readers[0].op == "Add" and node.outputs[0] not in graph.outputs:
            size = graph.values[node.input(1)].shape
            bias = [n for n in readers[0].inputs if n in graph.params and graph.params[n].shape == (size or ())[1:]]
            found.update({"bias": bias[0]} if bias else {})
    else:
        places = _LAYERS.get(node.op, ())
        found = {attribute: node.input(i) for i, attribute in enumerate(places, start=1) if node.input(i)}
    single = all(n in graph.params and len(graph.consumers[n]) == 1 and n not in graph.outputs for n in found.values())
    distinct = len(set(found.values())) == len(found)
    return found if "weight" in found and single and distinct and _is_weight(graph.params[found["weight"]]) else {}


def _is_weight(array: Array) -> bool:
    return array.dtype.kind in "fV" and array.size > 1


def _prefix(node: Node, key: str, numbers: dict[str, int]) -> str:
    """Where the layer stands: by its weight's name, by the node's, or by a number."""
    for stem in (_SUFFIX.sub("", key) if _SUFFIX.search(key) else "", _scope(node.source)):
        steps = stem.replace("/", ".").split(".") if stem else []
        if steps and all(_STEP.fullmatch(step) for step in steps):
            return ".".join(steps)
    stem = _CALLED.get(node.op, "norm")
    numbers[stem] = numbers.get(stem, 0) + 1
    return f"{stem}{numbers[stem]}"


def _scope(source: str) -> str:
    """The module's path in a node's name as torch's older exporter writes it: `/layer1/layer1.0/conv1/Conv`."""
    steps = source.split("/")
    if len(steps) < 3 or steps[0]:
        return ""
    path: list[str] = []
    for step in steps[1:-1]:
        parts = step.split(".")
        path += parts[1:] if path and parts[0] == path[-1] and len(parts) > 1 else parts
    return ".".join(path)


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    if not names:
        return graph
    if clash := set(names.values()) & (graph.values.keys() - names.keys()):
        names = {old: new for old, new in names.items() if new not in clash}

    def call(name: str) -> str:
        return names.get(name, name)

    nodes = tuple(node.replace(inputs=tuple(map(call, node.inputs))) for node in graph.nodes)
    values = {call(n): Value(call(n), v.dtype, v.shape) for n, v in graph.values.items()}
    params = {call(n): array for n, array in graph.params.items()}
    return graph.replace(nodes=nodes, values=values, params=params)
