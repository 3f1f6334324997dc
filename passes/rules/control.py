"""Control flow in the one graph: what is chosen, carried, taken apart and stacked keeps its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Node
from amcc.passes.branches import DOMAIN, operands
from amcc.passes.loops import axes, states
from amcc.passes.rules.rule import Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

_FIXED = "chosen among tensors of unlike lengths"


def _relate_select(r: Relation, node: Node) -> None:
    """Both sides lose the same indices."""
    for output, first, second in zip(node.outputs, *operands(node), strict=True):
        one, other = r.shape(first), r.shape(second)
        chosen: list[Axis] = []
        for axis, (n, m) in enumerate(zip(one, other, strict=True)):
            cuts = r.axis(first, axis)
            if n == m:
                r.same(cuts, r.axis(second, axis), (second, axis))
            else:
                r.lock(cuts, (first, axis), _FIXED)
                r.lock(r.axis(second, axis), (second, axis), _FIXED)
            chosen.append(cuts if n == m else None)
        r.set(output, chosen)


def _relate_loop_begin(r: Relation, node: Node) -> None:
    """Within the body a state begins as it is outside."""
    _, iteration, condition, *inside = node.outputs
    for value in (node.outputs[0], iteration, condition):
        r.set(value, [None] * r.rank(value))
    for value in filter(None, node.inputs[:2]):
        r.all_axes(value)
    for before, state in zip(node.inputs[2:], inside, strict=True):
        r.set(state, _of_one_length(r, before, state))


def _of_one_length(r: Relation, before: str, after: str) -> list[Axis]:
    """The axes of a state as they go on; those whose length differs from step to step are locked."""
    found = r.all_axes(before)
    for axis, (n, m) in enumerate(zip(r.shape(before), r.shape(after), strict=True)):
        if n != m:
            r.lock(found[axis], (before, axis), "a state whose length differs from step to step")
            found[axis] = None
    return found


def _relate_scan_begin(r: Relation, node: Node) -> None:
    """An element has the axes of what it is taken from but one."""
    count = states(node)
    r.set(node.outputs[0], [None])
    for before, state in zip(node.inputs[:count], node.outputs[1:], strict=False):
        r.set(state, r.all_axes(before))
    along = axes(node, "axes")
    for whole, element, axis in zip(node.inputs[count:], node.outputs[1 + count :], along, strict=True):
        r.lock(r.axis(whole, axis), (whole, axis), "taken step by step")
        r.set(element, [r.axis(whole, a) for a in range(r.rank(whole)) if a != axis])


def _relate_end(r: Relation, node: Node) -> None:
    """A state loses the same indices in every step; what is stacked has an axis more."""
    begin = r.graph.producers[node.inputs[0]]
    loop = node.op == "LoopEnd"
    count, first = states(node), 2 if loop else 1
    for value in node.inputs[:first]:
        r.all_axes(value)
    carried, stacked = node.inputs[first : first + count], node.inputs[first + count :]
    for before, after, output in zip(begin.outputs[3 if loop else 1 :], carried, node.outputs, strict=False):
        inside = _of_one_length(r, before, output)
        for axis, cuts in enumerate(inside):
            r.same(cuts, r.axis(after, axis), (after, axis), "a state that loses the same in every step")
        r.set(output, inside)
    for number, (element, output) in enumerate(zip(stacked, node.outputs[count:], strict=True)):
        along = 0 if loop else axes(node, "axes")[number] % r.rank(output)
        own = r.all_axes(element)
        r.set(output, [*own[:along], None, *own[along:]])


RULES = {
    f"{DOMAIN}.Select": Rule(_relate_select, periodic=True),
    f"{DOMAIN}.LoopBegin": Rule(_relate_loop_begin, periodic=True),
    f"{DOMAIN}.ScanBegin": Rule(_relate_scan_begin, periodic=True),
    **{f"{DOMAIN}.{op}": Rule(_relate_end, periodic=True) for op in ("LoopEnd", "ScanEnd")},
}
