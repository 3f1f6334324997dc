"""Operators that move, merge and split axes without touching elements."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Dim, Node, Shape
from amcc.passes.dims import is_static, per_sample, product
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import UNKNOWN, Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def _relate_transpose(r: Relation, node: Node) -> None:
    x = node.inputs[0]
    order = node.attributes.get("perm", tuple(reversed(range(r.rank(x)))))
    assert isinstance(order, tuple)
    r.set(node.outputs[0], [r.axis(x, a) for a in order])


# -- Reshape and its kin -----------------------------------------------------------------------------


def _relate_reshape(r: Relation, node: Node) -> None:
    """Row-major regrouping of axes, found from the two shapes alone."""
    x, y = node.inputs[0], node.outputs[0]
    out: list[Axis] = [None] * r.rank(y)
    for source, target in segments(r.shape(x), r.shape(y)):
        sizes = refine([r.shape(x)[a] for a in source], [r.shape(y)[a] for a in target])
        if sizes is None:
            continue  # axes that regroup in no clean way stay unmentioned, and so locked
        parts: list[tuple[Axis, int]] = []
        for axis, split in zip(source, sizes[0], strict=True):
            parts.extend(zip(r.split(r.axis(x, axis), split, (x, axis)), split, strict=True))
        position = 0
        for axis, merge in zip(target, sizes[1], strict=True):
            out[axis] = r.grid(*parts[position : position + len(merge)])
            position += len(merge)
        if not target:
            for axis in source:
                r.axis(x, axis)
    r.set(y, out)


def segments(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of both shapes with equal products; axes of length 1 are left out.

    What matches nothing is not in the result.
    """
    found: list[tuple[list[int], list[int]]] = []
    left = [a for a, dim in enumerate(source) if dim != 1]
    right = [a for a, dim in enumerate(target) if dim != 1]
    while left and right:
        for i, j in sorted(itertools.product(range(1, len(left) + 1), range(1, len(right) + 1)), key=sum):
            whole = product(source[a] for a in left[:i])
            if "?" not in str(whole) and whole == product(target[a] for a in right[:j]):
                found.append((left[:i], right[:j]))
                left, right = left[i:], right[j:]
                break
        else:
            break
    return found


def refine(source: Sequence[Dim], target: Sequence[Dim]) -> tuple[list[list[int]], list[list[int]]] | None:
    """The finest common split of two lists of lengths with equal product.

    `refine([6, 4], [3, 8])` is `[[3, 2], [4]], [[3], [2, 4]]`; None if there is none. A symbol that leads on
    both sides is left out: `refine(["batch", 6], ["2*batch", 3])` is `[[1], [2, 3]], [[2], [3]]`.
    """
    if not is_static([*source[1:], *target[1:]]) or "?" in (*source, *target):
        return None
    a, b = [per_sample(dim) for dim in source], [per_sample(dim) for dim in target]
    if math.prod(a) != math.prod(b):
        return None
    marks = sorted({1, *itertools.accumulate(a, operator.mul), *itertools.accumulate(b, operator.mul)})
    steps = list(itertools.pairwise(marks))
    if any(high % low for low, high in steps):
        return None
    return _cut(a, steps), _cut(b, steps)


def _cut(sizes: list[int], steps: list[tuple[int, int]]) -> list[list[int]]:
    parts: list[list[int]] = []
    remaining = iter(steps)
    for size in sizes:
        part: list[int] = []
        while math.prod(part) < size:
            low, high = next(remaining)
            part.append(high // low)
        parts.append(part or [1])
    return parts


def _respell_reshape(shrink: Respell, node: Node) -> Node:
    """The target, if what it says no longer gives the new shape; a dynamic length is written as -1."""
    x, y = node.inputs[0], node.outputs[0]
    if not (shrink.changes(x) or shrink.changes(y)):
        return node
    target, new = shrink.constant(node.inputs[1]), shrink.shape(y)
    zero_copies = not node.attributes.get("allowzero", 0)
    if target is not None:
        said = [int(t) for t in target]
        spelled = [
            t if t == -1 or (t == 0 and zero_copies and shrink.shape(x)[a] == new[a]) else new[a]
            for a, t in enumerate(said)
        ]
    else:
        spelled = [dim if isinstance(dim, int) else -1 for dim in new]
    numbers = [s if isinstance(s, int) else -1 for s in spelled]
    if numbers.count(-1) > 1:
        return node  # two lengths that only run time knows: the target's own arithmetic follows the new shape
    return shrink.with_constant(node, 1, np.array(numbers, np.int64))


# -- shapes as data ----------------------------------------------------------------------------------

_FORWARDS = {"Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast", "Identity"}
_SPELLS = {("Reshape", 1), ("Expand", 1), ("Resize", 3), ("ConstantOfShape", 0)}


def _relate_shape(r: Relation, node: Node) -> None:
    """Sizes taken at run time follow the cut by themselves where they only spell other shapes."""
    x = node.inputs[0]
    if _only_spells(r, node):
        r.all_axes(x)
    else:
        UNKNOWN.relate(r, node)
    r.set(node.outputs[0], [None])


def _only_spells(r: Relation, node: Node) -> bool:
    pending = [node.outputs[0]]
    while pending:
        value = pending.pop()
        if value in r.graph.outputs:
            return False
        for consumer in r.graph.consumers.get(value, ()):
            if consumer.op in _FORWARDS and consumer.input(0) == value and _reads_no_channel(r, node, consumer):
                continue
            if consumer.op in _FORWARDS and consumer.domain == "":
                pending.extend(consumer.outputs)
            elif any((consumer.op, i) not in _SPELLS for i, name in enumerate(consumer.inputs) if name == value):
                return False
    return True


def _reads_no_channel(r: Relation, node: Node, consumer: Node) -> bool:
    """Whether a Gather takes only rigid lengths out of a shape: dynamic batches, mostly."""
    if consumer.op != "Gather" or consumer.inputs[0] != node.outputs[0] or "start" in node.attributes:
        return False
    indices = r.constant(consumer.inputs[1])
    return indices is not None and all(r.axis(node.inputs[0], int(i)) is None for i in indices.reshape(-1))


RULES = {
    "Transpose": Rule(_relate_transpose),
    "Reshape": Rule(_relate_reshape, respell=_respell_reshape),
    **table(("Flatten", "Squeeze", "Unsqueeze"), Rule(_relate_reshape)),
    "Shape": Rule(_relate_shape),
}
