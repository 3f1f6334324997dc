"""Picks in front of reshapes: queries, keys and values become three tensors before they are cut into heads.

A fused projection `[B, N, 3 * H * d]` is reshaped to `[B, N, 3, H, d]`, transposed, and taken apart at the 3. As
long as it is one tensor all three lose the same positions. Taken apart first, each has axes of its own, so that
queries with keys and values with outputs become separate choices. The arithmetic is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array, Dim, Graph, Node, Shape, Value, frozen
from amcc.passes.rules.layout import segments
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.slicing import slices

_OLDEST = 13  # Squeeze and Slice read their axes as inputs


@dataclass(frozen=True)
class _Pick:
    """One output that a node takes out of a reshaped tensor.

    Attributes:
        chain: the nodes between the Reshape and the pick.
        output: what is made, and `node` what makes it.
        indices: taken from the axis; `axes` where that axis stands behind the Reshape and each node of the chain.
        single: the axis vanishes.
    """

    chain: tuple[Node, ...]
    node: Node
    output: str
    indices: Array
    axes: tuple[int, ...]
    single: bool


def picks_first(graph: Graph) -> Graph:
    """The graph with every Reshape whose results are all taken apart along one of its new axes moved behind that."""
    if graph.opset < _OLDEST:
        return graph
    params, values = dict(graph.params), dict(graph.values)
    instead: dict[str, list[Node]] = {}
    for reshape in graph.nodes:
        for pick, places, axis in _planned(graph, reshape):
            made = _picked_first(graph, reshape, pick, places, axis, params, values)
            instead.setdefault(pick.node.name, []).extend(made)
    if not instead:
        return graph
    nodes = tuple(new for node in graph.nodes for new in instead.get(node.name, [node]))
    return graph.replace(nodes=nodes, params=params, values=values).live()


def _planned(graph: Graph, reshape: Node) -> Iterator[tuple[_Pick, Array, int]]:
    """For each pick the places that it takes of the Reshape's input, and along which axis."""
    if reshape.op != "Reshape" or reshape.domain:
        return
    x, y = reshape.inputs[0], reshape.outputs[0]
    if graph.values[x].shape is None or graph.values[y].shape is None:
        return
    for source, target in segments(graph.shape(x), graph.shape(y)):
        lengths = [n for axis in target if isinstance(n := graph.shape(y)[axis], int)]
        if len(source) > 1 or len(target) < 2 or math.prod(lengths) != graph.shape(x)[source[0]]:
            continue
        if _target(graph.shape(x), graph.shape(y)).count(-1) > 1:
            continue
        for position, axis in enumerate(target):
            picks = _picks(graph, y, axis, (), (axis,))
            if picks is not None and len(picks) > 1:
                places = np.arange(math.prod(lengths)).reshape(lengths)
                yield from ((pick, places.take(pick.indices, position).ravel(), source[0]) for pick in picks)
                return


def _picks(graph: Graph, value: str, axis: int, chain: tuple[Node, ...], axes: tuple[int, ...]) -> list[_Pick] | None:
    """All that is made of the tensor, if every bit of it is picked along the axis."""
    if value in graph.outputs:
        return None
    found: list[_Pick] = []
    for node in graph.consumers.get(value, ()):
        if node.domain or node.reads.count(value) != 1 or node.inputs[0] != value:
            return None
        moved = _moved(graph, node, axis)
        if moved is not None:
            deeper = _picks(graph, node.outputs[0], moved, (*chain, node), (*axes, moved))
        else:
            n = graph.shape(value)[axis]
            taken = _taken(graph, node, axis, n) if isinstance(n, int) else None
            deeper = None if taken is None else [_Pick(chain, node, o, i, axes, i.ndim == 0) for o, i in taken]
        if deeper is None:
            return None
        found += deeper
    return found


def _moved(graph: Graph, node: Node, axis: int) -> int | None:
    """Where the axis stands behind a node that moves axes; None for any other node."""
    shape = graph.values[node.outputs[0]].shape if node.outputs else None
    if shape is None:
        return None
    if node.op == "Identity":
        return axis
    if node.op == "Transpose":
        order = node.attributes.get("perm", tuple(reversed(range(len(shape)))))
        assert isinstance(order, tuple)
        return order.index(axis)
    if node.op == "Reshape":
        source = graph.shape(node.inputs[0])
        alone = [b[0] for a, b in segments(source, shape) if a == [axis] and len(b) == 1]
        return alone[0] if alone and _target(source, shape).count(-1) < 2 else None
    listed = graph.params.get(node.input(1))
    if node.op not in ("Squeeze", "Unsqueeze") or listed is None:
        return None
    rank = len(shape) if node.op == "Unsqueeze" else len(graph.shape(node.inputs[0]))
    moved = {int(a) % rank for a in listed.reshape(-1)}
    if node.op == "Unsqueeze":
        return [a for a in range(rank) if a not in moved][axis]
    return None if axis in moved else axis - sum(a < axis for a in moved)


def _taken(graph: Graph, node: Node, axis: int, n: int) -> list[tuple[str, Array]] | None:
    """What the node takes along the axis, by output: one index, or several."""
    rank, every = len(graph.shape(node.inputs[0])), np.arange(n)
    along = node.attributes.get("axis", 0)
    if node.op == "Slice":
        ranges = slices(Respell(graph, {}), node)
        if ranges is None or list(ranges) != [axis] or (bounds := ranges[axis]) is None:
            return None
        return [(node.outputs[0], every[bounds])]
    if not isinstance(along, int) or along % rank != axis:
        return None
    if node.op == "Gather" and (indices := graph.params.get(node.inputs[1])) is not None and indices.ndim < 2:
        return [(node.outputs[0], np.asarray(every[indices]))]
    if node.op == "Split" and all(node.outputs):
        sizes = [size for o in node.outputs if isinstance(size := graph.shape(o)[axis], int)]
        ends = np.cumsum(sizes)
        return list(zip(node.outputs, np.split(every, ends[:-1]), strict=True)) if ends[-1] == n else None
    return None


def _picked_first(
    graph: Graph,
    reshape: Node,
    pick: _Pick,
    places: Array,
    axis: int,
    params: dict[str, Array],
    values: dict[str, Value],
) -> list[Node]:
    """The nodes that make one pick's output, the pick first."""
    x, n, nodes = reshape.inputs[0], pick.indices.size, list[Node]()

    def constant(what: str, array: Array) -> str:
        name = f"{pick.output}/{what}"
        params[name] = frozen(array.astype(np.int64))
        values[name] = Value(name, "int64", array.shape)
        return name

    def step(node: Node, shape: Shape, number: int, *, last: bool) -> str:
        name = pick.output if last else f"{pick.output}/{number}"
        if not last:
            values[name] = Value(name, graph.values[x].dtype, shape)
        nodes.append(node.replace(name=f"{name}/{node.op}", outputs=(name,), source=pick.node.source))
        return name

    first = Node("", "Gather", (x, constant("places", places)), ("",), {"axis": axis})
    if places.size and (np.diff(places) == 1).all():
        bounds = (constant(what, np.array([at])) for what, at in (("start", places[0]), ("end", places[-1] + 1)))
        first = Node("", "Slice", (x, *bounds, constant("axis", np.array([axis]))), ("",))
    shape = _with(graph.shape(x), axis, len(places))
    name = step(first, shape, 0, last=False)
    for number, (node, at) in enumerate(zip((reshape, *pick.chain), pick.axes, strict=True), start=1):
        made = _with(graph.shape(node.outputs[0]), at, n)
        rest = node.inputs[1:]
        if node.op == "Reshape":
            rest = (constant(f"target/{number}", np.array(_target(shape, made))),)
            node = node.replace(attributes={})
        last = number > len(pick.chain) and not pick.single
        name, shape = step(node.replace(inputs=(name, *rest)), made, number, last=last), made
    if pick.single:
        step(Node("", "Squeeze", (name, constant("axes", np.array([pick.axes[-1]]))), ("",)), (), 0, last=True)
    return nodes


def _with(shape: Shape, axis: int, n: int) -> Shape:
    return (*shape[:axis], n, *shape[axis + 1 :])


def _target(source: Shape, wanted: Shape) -> list[int]:
    """A Reshape's target: lengths that run time knows are copied, one may follow from the rest."""
    return [_entry(dim, source[axis : axis + 1]) for axis, dim in enumerate(wanted)]


def _entry(dim: Dim, copied: Shape) -> int:
    return dim if isinstance(dim, int) else 0 if dim in copied else -1


__all__ = ["picks_first"]
