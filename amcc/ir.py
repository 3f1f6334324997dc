"""The graph that every pass reads: ONNX operators, immutable, arrays shared.

A `Graph` holds nodes in topological order, a `Value` for every tensor and an array for every
parameter. Nothing here changes in place: a rewrite makes a new graph (`Graph.replace`) that shares
the arrays of the old one. `verify` states what must hold between the parts.

Dimensions are ints, or text for what is only known at run time: a symbol (`"batch"`), a multiple of
one (`"4*batch"`), or `"?"` when nothing is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from amcc.errors import ModelError, VerificationError

Dim = int | str
Shape = tuple[Dim, ...]
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Opaque:
    """An attribute that amcc carries and never reads: a body, a sparse tensor, a type.

    Attributes:
        kind: what it is, for people (`"GRAPH"`).
        data: the serialised `onnx.AttributeProto`.
        captures: names of outer values that a body reads.
        why: for people, why a body is carried unread; "" where nobody has tried to read it.
    """

    kind: str
    data: bytes
    captures: tuple[str, ...] = ()
    why: str = ""


Attribute = int | float | str | bytes | tuple[Any, ...] | Array | Opaque


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor: its name, its element type (`"float32"`, numpy's name) and its shape.

    `shape` is None when even the rank is unknown, and `dtype` is "" when the type is unknown.
    """

    name: str
    dtype: str
    shape: Shape | None

    @property
    def rank(self) -> int | None:
        """The number of dimensions, None when unknown."""
        return None if self.shape is None else len(self.shape)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. An optional input that is left out is the empty name, as in ONNX.

    Attributes:
        source: where the node came from: the path of a torch submodule where that is known, else the ONNX node's name.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    domain: str = ""
    source: str = ""

    @property
    def label(self) -> str:
        """How messages name the node: `Conv 'layer1.0.conv1'`."""
        op = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"{op} '{self.name}'"

    @property
    def captures(self) -> tuple[str, ...]:
        """The outer values that the node's bodies read."""
        return tuple(c for a in self.attributes.values() if isinstance(a, Opaque) for c in a.captures)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every value the node needs: its inputs, and what its bodies capture."""
        inputs = self.inputs if all(self.inputs) else tuple(filter(None, self.inputs))
        return inputs + self.captures if self.attributes else inputs

    def input(self, index: int) -> str:
        """The name of input `index`, or "" if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def replace(self, **changes: Any) -> Node:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Graph:
    """A whole network.

    Attributes:
        nodes: in topological order.
        inputs: names fed by the user; never a parameter.
        outputs: names given back.
        values: every tensor by name, parameters included.
        params: read-only arrays by name, shared between graphs and memory-mapped where large.
        opsets: operator set version by domain ("" is the standard one).
        ir_version: of the ONNX file it came from or goes to.
        metadata: the file's own key-value notes, carried through.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    params: Mapping[str, Array]
    opsets: Mapping[str, int]
    name: str = "graph"
    ir_version: int = 10
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return self.opsets.get("", 1)

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each value."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, bodies' captures included, in order, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.reads):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def unranked(self) -> frozenset[str]:
        """The values of which not even the rank is known."""
        return frozenset(name for name, value in self.values.items() if value.shape is None)

    @cached_property
    def findings(self) -> dict[str, Any]:
        """Room for what a pass has found out about the graph, by the pass's name, so that it need not again."""
        return {}

    def shape(self, name: str) -> Shape:
        """The shape of a value whose rank is known."""
        shape = self.values[name].shape
        if shape is None:
            raise ModelError(f"the rank of '{name}' is unknown", hint="give --input-shape for every input")
        return shape

    def replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed; everything else is shared."""
        return dataclasses.replace(self, **changes)

    def with_params(self, arrays: Mapping[str, Array]) -> Graph:
        """The same graph with some parameters replaced by arrays of the same shape and type."""
        for name, array in arrays.items():
            old = self.params[name]
            if old.shape != array.shape or old.dtype != array.dtype:
                change = f"from {old.dtype}{list(old.shape)} to {array.dtype}{list(array.shape)}"
                raise VerificationError(f"parameter '{name}' would change {change}")
        return self.replace(params={**self.params, **{n: frozen(a) for n, a in arrays.items()}})

    def live(self) -> Graph:
        """Without the nodes, parameters and values that no output needs."""
        needed = set(self.outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.reads)
        kept.reverse()
        made = {o for node in kept for o in node.outputs if o}
        params = {n: a for n, a in self.params.items() if n in needed}
        names = made | set(params) | set(self.inputs)
        values = {n: v for n, v in self.values.items() if n in names}
        return self.replace(nodes=tuple(kept), params=params, values=values)


def frozen(array: Array) -> Array:
    """The array, marked read-only without a copy."""
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def unused(name: str, *taken: Container[str]) -> str:
    """The name, primed until none of `taken` holds it."""
    while any(name in names for names in taken):
        name += "'"
    return name


def topological(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes in topological order, stable with respect to the given one.

    Raises:
        ModelError: the nodes form a cycle; names the nodes on it.
    """
    ordered = list(nodes)
    if _is_ordered(ordered):
        yield from ordered
        return
    import networkx as nx

    producer = {o: i for i, node in enumerate(ordered) for o in node.outputs if o}
    dependencies: nx.DiGraph[int] = nx.DiGraph()
    dependencies.add_nodes_from(range(len(ordered)))
    for index, node in enumerate(ordered):
        dependencies.add_edges_from((producer[name], index) for name in node.reads if name in producer)
    try:
        yield from (ordered[i] for i in nx.lexicographical_topological_sort(dependencies))
    except nx.NetworkXUnfeasible:
        cycle = [ordered[i].label for i, _ in nx.find_cycle(dependencies)]
        raise ModelError(f"the graph has a cycle through {', '.join(cycle[:6])}") from None


def _is_ordered(nodes: list[Node]) -> bool:
    """Whether no node reads what a later one, or itself, makes."""
    last_made = {output: index for index, node in enumerate(nodes) for output in node.outputs if output}
    return all(last_made.get(name, -1) < index for index, node in enumerate(nodes) for name in node.reads)


def verify(graph: Graph, *, after: str = "frontend") -> None:
    """Check what every pass relies on.

    Every name is made once and before it is read, every value is described, parameters have the
    shape and type their value says and are read-only, node names are unique.

    Args:
        after: the pass that made the graph, for the message.

    Raises:
        VerificationError: names the first node or value that breaks a law.
    """

    def broken(message: str) -> VerificationError:
        return VerificationError(message, where=f"after {after}")

    known = set(graph.inputs) | set(graph.params)
    if overlap := set(graph.inputs) & set(graph.params):
        raise broken(f"'{min(overlap)}' is both an input and a parameter")
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise broken(f"two nodes are called '{node.name}'")
        names.add(node.name)
        for read in node.reads:
            if read not in known:
                raise broken(f"{node.label} reads '{read}', which nothing has made yet")
        for output in node.outputs:
            if output in known:
                raise broken(f"{node.label} makes '{output}' a second time")
            if output:
                known.add(output)
    for name in known | set(graph.outputs):
        if name not in known:
            raise broken(f"output '{name}' is made by nothing")
        if name not in graph.values:
            raise broken(f"'{name}' has no description")
    for name, array in graph.params.items():
        value = graph.values[name]
        if value.shape != array.shape or value.dtype != array.dtype.name:
            raise broken(f"parameter '{name}' is {array.dtype.name}{list(array.shape)}, described as {value}")
        if array.flags.writeable:
            raise broken(f"parameter '{name}' can be written to")
