"""Types of what control flow gives in the one graph; see `passes.branches` and `passes.loops`."""

from __future__ import annotations

from collections.abc import Sequence

from amcc.ir import Dim, Node, Shape
from amcc.passes import dims
from amcc.passes.loops import MOST_AXES, axes, states

Type = tuple[str, Shape | None]


def _select(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """What both sides have in common."""
    count = len(node.outputs)
    return [_common(*sides) for sides in zip(inputs[1 : 1 + count], inputs[1 + count :], strict=True)]


def _common(first: Type, second: Type) -> Type:
    (dtype, one), (_, other) = first, second
    if one is None or other is None or len(one) != len(other):
        return dtype, None
    return dtype, tuple(a if a == b else dims.UNKNOWN for a, b in zip(one, other, strict=True))


def _loop_begin(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """Iteration and condition are scalars, or of one element as the body has them."""
    trips = node.attributes.get("trips", dims.UNKNOWN)
    assert isinstance(trips, int | str)
    iteration, condition = axes(node, "counters")
    return [("int64", (trips,)), ("int64", (1,) * iteration), ("bool", (1,) * condition), *_loosened(node, inputs[2:])]


def _loosened(node: Node, states: Sequence[Type]) -> list[Type]:
    """The types of states, without the lengths that differ from step to step."""
    loose = axes(node, "loose") if "loose" in node.attributes else ()

    def shape_of(number: int, shape: Shape) -> Shape:
        return tuple(dims.UNKNOWN if number * MOST_AXES + a in loose else d for a, d in enumerate(shape))

    return [(dtype, None if shape is None else shape_of(k, shape)) for k, (dtype, shape) in enumerate(states)]


def _scan_begin(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    count = states(node)
    elements: list[Type] = []
    steps: Dim = dims.UNKNOWN
    for (dtype, shape), axis in zip(inputs[count:], axes(node, "axes"), strict=True):
        if shape is not None:
            steps = shape[axis] if steps == dims.UNKNOWN else steps
        elements.append((dtype, None if shape is None else tuple(d for a, d in enumerate(shape) if a != axis)))
    return [("int64", (steps,)), *inputs[:count], *elements]


def _end(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    loop, count = node.op == "LoopEnd", states(node)
    (_, steps), carried = inputs[0], inputs[2 if loop else 1 :]
    found = _loosened(node, carried[:count])
    for number, (dtype, shape) in enumerate(carried[count:]):
        if shape is None or steps is None:
            found.append((dtype, None))
            continue
        along = 0 if loop else axes(node, "axes")[number] % (len(shape) + 1)
        found.append((dtype, (*shape[:along], steps[0], *shape[along:])))
    return found


CONTROL_TYPES = {
    "Select": _select,
    "LoopBegin": _loop_begin,
    "ScanBegin": _scan_begin,
    "LoopEnd": _end,
    "ScanEnd": _end,
}
