"""Loop and Scan in the one graph: a node that opens the body, the body's nodes, and one that closes it.

- `amcc.LoopBegin(trips, condition, initial states...)` gives steps, iteration, condition and states within the body,
  `amcc.LoopEnd(steps, condition, states..., stacked...)` the last states and what each step gives, stacked;
- `amcc.ScanBegin(initial states..., scanned...)` gives steps, the states, and an element of each scanned tensor,
  `amcc.ScanEnd(steps, states..., stacked...)` the last states and what is stacked.

`steps` is a name alone: it ties the two nodes together, and its shape `[T]` holds the number of steps. States that no
step changes (tf2onnx hands weights through) are read from outside instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from amcc.ir import Attribute, Dim, Graph, Node
from amcc.passes import dims
from amcc.passes.bodies import Inlined, Names, Why, body_of, inner_bodies, unreadable
from amcc.passes.branches import DOMAIN
from amcc.passes.protos import read_type
from amcc.passes.trips import known_trips

if TYPE_CHECKING:
    import onnx

BEGINS = ("LoopBegin", "ScanBegin")
ENDS = ("LoopEnd", "ScanEnd")
MOST_AXES = 64  # of a tensor: numpy's own limit
_SCAN_SINCE = 9  # before, Scan has a batch axis of its own

# What gives other numbers in every step although it reads nothing of the body.
_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")


def is_begin(node: Node) -> bool:
    """Whether a node opens the body of a loop."""
    return node.domain == DOMAIN and node.op in BEGINS


def is_end(node: Node) -> bool:
    """Whether a node closes the body of a loop."""
    return node.domain == DOMAIN and node.op in ENDS


def states(node: Node) -> int:
    """How many states a loop carries, from either of its nodes."""
    count = node.attributes["states"]
    assert isinstance(count, int)
    return count


def axes(node: Node, which: str = "axes") -> tuple[int, ...]:
    """The axes that a Scan takes elements along, or stacks along; or other numbers, one for each."""
    found = node.attributes[which]
    assert isinstance(found, tuple)
    return found


def steps(graph: Graph, begin: Node) -> Dim:
    """The number of steps; "?" where only run time knows."""
    return graph.shape(begin.outputs[0])[0]


def changing(graph: Graph, end: Node) -> frozenset[int] | None:
    """The axes of states whose length differs from step to step (see `as_region`); None where it is more than that."""
    begin, found = graph.producers[end.inputs[0]], set[int]()
    first = 1 if begin.op == "ScanBegin" else 3
    extra = 1 if end.op == "ScanEnd" else 2
    for number in range(states(end)):
        before, after = graph.values[begin.outputs[first + number]], graph.values[end.inputs[extra + number]]
        if before.dtype != after.dtype or before.shape is None or after.shape is None:
            return None
        if len(before.shape) != len(after.shape):
            return None
        unlike = (a not in (b, dims.UNKNOWN) for a, b in zip(before.shape, after.shape, strict=True))
        found |= {number * MOST_AXES + axis for axis, differs in enumerate(unlike) if differs}
    return frozenset(found) if end.op == "LoopEnd" or not found else None


def as_region(graph: Graph, node: Node, names: Names, loose: Collection[int]) -> tuple[list[Node], Inlined] | Why:
    """A Loop or Scan as the nodes of its body between two that open and close it, or why not.

    Args:
        loose: axes of states whose length differs from step to step: axis a of state k is `k * MOST_AXES + a`.
    """
    body = body_of(node, "body")
    if why := unreadable(body):
        return why
    if _draws(body):
        return "a body draws random numbers"
    if node.op == "Scan" and graph.opset < _SCAN_SINCE:
        return "a Scan of the first form"
    return _scan(graph, node, names) if node.op == "Scan" else _loop(graph, node, names, tuple(sorted(loose)))


def _draws(body: onnx.GraphProto) -> bool:
    """Whether a body, or one within, draws random numbers."""
    inner = (b for node in body.node for attribute in node.attribute for b in inner_bodies(attribute))
    return any(node.op_type in _RANDOM for node in body.node) or any(map(_draws, inner))


def _loop(graph: Graph, node: Node, names: Names, loose: tuple[int, ...]) -> tuple[list[Node], Inlined] | Why:
    body, initial = body_of(node, "body"), node.inputs[2:]
    if len(body.input) != 2 + len(initial) or not all(initial):
        return "a state is left out"
    parts = Inlined(names, node.name)
    kept = _changed(body, 2, len(initial), 1)
    entered, given = _entered(parts, body, 2, kept, initial)
    results = parts.add(body, given, node.source)
    go, after, stacked = results[0], results[1 : 1 + len(initial)], results[1 + len(initial) :]
    token = parts.value(f"{node.name}/steps", "int64", (dims.UNKNOWN,))
    ends = tuple(after[k] for k in kept)
    trips = known_trips(graph, node, parts, entered, go, [(initial[k], after[k]) for k in kept])
    attributes: dict[str, Attribute] = {"states": len(kept), "loose": loose}
    begin = Node(
        f"{node.name}/begin",
        "LoopBegin",
        (node.input(0), node.input(1), *(initial[k] for k in kept)),
        (token, *entered),
        {**attributes, "counters": _counters(body), **({} if trips is None else {"trips": trips})},
        DOMAIN,
        node.source,
    )
    outputs, copies = _left(parts, node, kept, initial, len(stacked))
    end = Node(node.name, "LoopEnd", (token, go, *ends, *stacked), outputs, attributes, DOMAIN, node.source)
    return [begin, *parts.nodes, end, *copies], parts


def _scan(graph: Graph, node: Node, names: Names) -> tuple[list[Node], Inlined] | Why:
    body, parts = body_of(node, "body"), Inlined(names, node.name)
    scanned = node.attributes["num_scan_inputs"]
    assert isinstance(scanned, int)
    count = len(node.inputs) - scanned
    initial, elements = node.inputs[:count], node.inputs[count:]
    ranks = [graph.values[name].rank or 0 for name in elements]
    if not all(ranks):
        return "the rank of a scanned tensor is unknown"
    kept = _changed(body, 0, count, 0)
    entered, given = _entered(parts, body, 0, kept, initial)
    results = parts.add(body, given, node.source)
    stacked = results[count:]
    token = parts.value(f"{node.name}/steps", "int64", (dims.UNKNOWN,))
    along = tuple(a % rank for a, rank in zip(_ints(node, "scan_input_axes", scanned), ranks, strict=True))
    begin = Node(
        f"{node.name}/begin",
        "ScanBegin",
        (*(initial[k] for k in kept), *elements),
        (token, *entered),
        {"states": len(kept), "axes": along, "directions": _ints(node, "scan_input_directions", scanned)},
        DOMAIN,
        node.source,
    )
    outputs, copies = _left(parts, node, kept, initial, len(stacked))
    onto, ways = (_ints(node, f"scan_output_{what}", len(stacked)) for what in ("axes", "directions"))
    end = Node(
        node.name,
        "ScanEnd",
        (token, *(results[k] for k in kept), *stacked),
        outputs,
        {"states": len(kept), "axes": onto, "directions": ways},
        DOMAIN,
        node.source,
    )
    return [begin, *parts.nodes, end, *copies], parts


def _counters(body: onnx.GraphProto) -> tuple[int, int]:
    """The ranks of iteration and condition within the body."""
    iteration, condition = (len(read_type(info.type)[1] or ()) for info in body.input[:2])
    return iteration, condition


def _changed(body: onnx.GraphProto, first_in: int, count: int, first_out: int) -> list[int]:
    """Which states the body changes: it does not hand them on as they are."""
    same = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}

    def origin(name: str) -> str:
        while name in same:
            name = same[name]
        return name

    return [k for k in range(count) if origin(body.output[first_out + k].name) != body.input[first_in + k].name]


def _entered(
    parts: Inlined, body: onnx.GraphProto, first: int, kept: Sequence[int], initial: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """What the opening node gives besides the steps, and the names of all of the body's inputs."""
    entered: list[str] = []
    given: dict[str, str] = {}
    for number, info in enumerate(body.input):
        if 0 <= number - first < len(initial) and number - first not in kept:
            given[info.name] = initial[number - first]
        else:
            given[info.name] = parts.value(info.name, *read_type(info.type))
            entered.append(given[info.name])
    return entered, given


def _left(
    parts: Inlined, node: Node, kept: Sequence[int], initial: Sequence[str], stacked: int
) -> tuple[tuple[str, ...], list[Node]]:
    """The outputs of the closing node, all with a name, and copies of the states that do not change."""
    names = [*node.outputs, *[""] * (len(initial) + stacked - len(node.outputs))]
    copies = [
        Node(f"{node.name}/{names[k]}", "Identity", (value,), (names[k],), source=node.source)
        for k, value in enumerate(initial)
        if k not in kept and names[k]
    ]
    wanted = [*kept, *range(len(initial), len(names))]
    return tuple(names[k] or parts.value(f"{node.name}/unread/{k}", "", None) for k in wanted), copies


def _ints(node: Node, name: str, count: int) -> tuple[int, ...]:
    found = node.attributes.get(name, (0,) * count)
    assert isinstance(found, tuple)
    return found
