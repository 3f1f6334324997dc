"""Operators that move, merge and split axes without touching elements."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Dim, Node, Shape
from amcc.passes.dims import parse, product
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Place, Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def _relate_transpose(r: Relation, node: Node) -> None:
    x = node.inputs[0]
    order = node.attributes.get("perm", tuple(reversed(range(r.rank(x)))))
    assert isinstance(order, tuple)
    r.set(node.outputs[0], [r.axis(x, a) for a in order])


def _relate_trilu(r: Relation, node: Node) -> None:
    """The last two axes hold a triangle; all in front of them are a batch."""
    x = node.inputs[0]
    for axis in (r.rank(x) - 2, r.rank(x) - 1):
        r.lock(r.axis(x, axis), (x, axis), "one side of a diagonal is set to zero")
    r.set(node.outputs[0], [*(r.axis(x, axis) for axis in range(r.rank(x) - 2)), None, None])


# -- Reshape and its kin -----------------------------------------------------------------------------

_REMEMBERED = 4096  # layers repeat each other's shapes


def _relate_reshape(r: Relation, node: Node) -> None:
    """Row-major regrouping of axes, found from the two shapes alone."""
    x, y = node.inputs[0], node.outputs[0]
    out: list[Axis] = [None] * r.rank(y)
    axes = r.all_axes(x)
    regrouped: set[int] = set()
    for source, target in segments(r.shape(x), r.shape(y)):
        n = r.shape(x)[source[0]]
        if len(source) == len(target) == 1 and isinstance(n, int):
            regrouped.update(source)
            out[target[0]] = r.split(axes[source[0]], [n], (x, source[0]))[0]
            continue
        labelled = tuple(axes[a] is not None for a in source)
        found = factors(tuple(r.shape(x)[a] for a in source), tuple(r.shape(y)[a] for a in target), labelled)
        if found is None:
            continue
        regrouped.update(source)
        parts: list[tuple[Axis, Dim]] = []
        for axis, split in zip(source, found[0], strict=True):
            sizes = [n for n in split if isinstance(n, int)]
            ends = iter(r.split(axes[axis], sizes, (x, axis)) if sizes else ())
            parts.extend((next(ends) if isinstance(n, int) else None, n) for n in split)
        for axis, merge in zip(target, found[1], strict=True):
            out[axis] = _merged(r, parts[: len(merge)], (y, axis))
            parts = parts[len(merge) :]
    for axis, own in enumerate(axes):
        if axis not in regrouped and r.shape(x)[axis] != 1:
            r.lock(own, (x, axis), "regrouped across the bounds of rows")
    r.set(y, out)


def _merged(r: Relation, parts: Sequence[tuple[Axis, Dim]], where: Place) -> Axis:
    """The merge of parts; a length only known at run time must lead, for the cut sets to repeat."""
    sizes = [(axis, n) for axis, n in parts if isinstance(n, int)]
    leads = not any(isinstance(n, int) and isinstance(after, str) for (_, n), (_, after) in itertools.pairwise(parts))
    if leads:
        return r.grid(*sizes)
    for axis, _ in sizes:
        r.lock(axis, where, "merged with an axis of unknown length behind it")
    return None


@lru_cache(_REMEMBERED)
def factors(source: Shape, target: Shape, labelled: tuple[bool, ...]) -> tuple[list[list[Dim]], list[list[Dim]]] | None:
    """The finest common split of two lists of lengths with equal product, symbols included.

    `factors((6, "4*batch", 4), ("6*batch", 16), ...)` is `[[6], ["batch", 4], [4]], [[6, "batch"], [4, 4]]`. A labelled
    axis is one whose cut sets repeat: its symbols lead.
    """
    ours = [_orders(dim, leads) for dim, leads in zip(source, labelled, strict=True)]
    theirs = [_orders(dim, False) for dim in target]
    choices = itertools.product(itertools.product(*ours), itertools.product(*theirs))
    for one, other in itertools.islice(choices, 256):
        found = _common([n for dim in one for n in dim], [n for dim in other for n in dim])
        if found is not None:
            return _regrouped(found[0], one), _regrouped(found[1], other)
    return None


def _orders(dim: Dim, leads: bool) -> list[tuple[Dim, ...]]:
    """In which order the parts of a length may vary."""
    parsed = parse(dim)
    if isinstance(dim, int) or parsed is None:
        return [(dim,)]
    number, symbols = parsed
    if leads:
        return [(*order, number) for order in itertools.permutations(symbols)]
    return list(itertools.permutations((*symbols, number) if number != 1 else symbols))


def _common(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[list[list[Dim]], list[list[Dim]]] | None:
    """For each entry its parts: symbols must match, the numbers in between are refined."""
    if [n for n in a if isinstance(n, str)] != [n for n in b if isinstance(n, str)]:
        return None
    ours: list[list[int]] = []
    theirs: list[list[int]] = []
    for one, other in zip(_runs(a), _runs(b), strict=True):
        found = refine(one, other)
        if found is None:
            return None
        ours += found[0]
        theirs += found[1]
    return _spread(a, ours), _spread(b, theirs)


def _runs(dims: Sequence[Dim]) -> list[list[int]]:
    """The numbers before, between and behind symbols."""
    runs: list[list[int]] = [[]]
    for dim in dims:
        if isinstance(dim, int):
            runs[-1].append(dim)
        else:
            runs.append([])
    return runs


def _spread(dims: Sequence[Dim], splits: Sequence[Sequence[int]]) -> list[list[Dim]]:
    remaining = iter(splits)
    return [list(next(remaining)) if isinstance(dim, int) else [dim] for dim in dims]


def _regrouped(parts: Sequence[Sequence[Dim]], like: Sequence[Sequence[Dim]]) -> list[list[Dim]]:
    """The parts of each entry of one list, joined as the entries of another."""
    remaining = iter(parts)
    return [[n for _ in entry for n in next(remaining)] for entry in like]


@lru_cache(_REMEMBERED)
def segments(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of both shapes with equal products; axes of length 1 are left out.

    What matches nothing is not in the result; runs are looked for from the front, and behind an unknown length
    from the back.
    """
    found: list[tuple[list[int], list[int]]] = []
    left = [a for a, dim in enumerate(source) if dim != 1]
    right = [a for a, dim in enumerate(target) if dim != 1]
    while run := _run(source, target, left, right):
        found.append((left[: run[0]], right[: run[1]]))
        left, right = left[run[0] :], right[run[1] :]
    last = len(found)
    while run := _run(source, target, left[::-1], right[::-1]):
        found.insert(last, (left[len(left) - run[0] :], right[len(right) - run[1] :]))
        left, right = left[: -run[0]], right[: -run[1]]
    return found


def _run(source: Shape, target: Shape, left: Sequence[int], right: Sequence[int]) -> tuple[int, int] | None:
    """How many of the first axes on either side have the same product, the fewest."""
    if left and right and source[left[0]] == target[right[0]] != "?":
        return 1, 1
    for i, j in sorted(itertools.product(range(1, len(left) + 1), range(1, len(right) + 1)), key=sum):
        whole = product(source[a] for a in left[:i])
        if whole != "?" and whole == product(target[a] for a in right[:j]):
            return i, j
    return None


def refine(source: Sequence[int], target: Sequence[int]) -> tuple[list[list[int]], list[list[int]]] | None:
    """The finest common split of two lists of lengths with equal product.

    `refine([6, 4], [3, 8])` is `[[3, 2], [4]], [[3], [2, 4]]`; None if there is none.
    """
    if math.prod(source) != math.prod(target) or not math.prod(source):
        return None
    marks = sorted({1, *itertools.accumulate(source, operator.mul), *itertools.accumulate(target, operator.mul)})
    steps = list(itertools.pairwise(marks))
    if any(high % low for low, high in steps):
        return None
    return _cut(source, steps), _cut(target, steps)


def _cut(sizes: Sequence[int], steps: Sequence[tuple[int, int]]) -> list[list[int]]:
    parts: list[list[int]] = []
    remaining = iter(steps)
    for size in sizes:
        part: list[int] = []
        while math.prod(part) < size:
            low, high = next(remaining)
            part.append(high // low)
        parts.append(part)
    return parts


def _respell_reshape(shrink: Respell, node: Node) -> Node:
    """The target, if what it says no longer gives the new shape; a dynamic length is written as -1."""
    x, y = node.inputs[0], node.outputs[0]
    if not (shrink.changes(x) or shrink.changes(y)):
        return node
    target, old, new = shrink.constant(node.inputs[1]), shrink.graph.shape(y), shrink.shape(y)
    if target is None and sum(not isinstance(dim, int) for dim in new) > 1:
        return shrink.with_lengths(node, 1, old, new)
    copied = shrink.shape(x) if not node.attributes.get("allowzero", 0) else ()
    said = [0] * len(new) if target is None else target.tolist()
    spelled = [
        dim if isinstance(dim, int) else 0 if number == 0 and dim in copied[axis : axis + 1] else -1
        for axis, (number, dim) in enumerate(zip(said, new, strict=True))
    ]
    if -1 in said and -1 not in spelled:
        spelled[said.index(-1)] = -1
    return shrink.with_constant(node, 1, np.array(spelled, np.int64))


RULES = {
    "Transpose": Rule(_relate_transpose, periodic=True),
    "Reshape": Rule(_relate_reshape, respell=_respell_reshape, periodic=True),
    **table(("Flatten", "Squeeze", "Unsqueeze"), Rule(_relate_reshape, periodic=True)),
    "Trilu": Rule(_relate_trilu, periodic=True),
}
