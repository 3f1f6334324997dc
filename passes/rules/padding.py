"""Pad with every mode, and CenterCropPad: indices added at the ends of axes, or cut off there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.rules.known import wholes
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

Ends = tuple[int | None, int | None]
"""How much is added (or, negative, cut off) before and after; None if only run time knows."""


def _mode(node: Node) -> str:
    mode = node.attributes.get("mode", "constant")
    return mode.decode() if isinstance(mode, bytes) else str(mode)


def _pads(graph: Graph, node: Node) -> list[Ends]:
    """By axis, what is added at its ends."""
    rank = len(graph.shape(node.inputs[0]))
    listed = node.attributes.get("pads", node.attributes.get("paddings"))
    pads = wholes(graph, node.input(1)) if not isinstance(listed, tuple) else [int(p) for p in listed]
    axes = wholes(graph, node.input(3)) if node.input(3) else list(range(rank))
    ends: list[Ends] = [(0, 0)] * rank
    if pads is None or axes is None or None in axes:
        return [(None, None)] * rank
    for position, axis in enumerate(axes):
        ends[(axis or 0) % rank] = (pads[position], pads[position + len(axes)])
    return ends


def _relate_pad(r: Relation, node: Node) -> None:
    """What is added with a constant may go again, index by index; a copy of an index goes with it.

    A reflection turns round at the first and the last index, which stay.
    """
    x, y = node.inputs[0], node.outputs[0]
    can_respell = not node.input(1) or r.constant(node.input(1)) is not None
    out: list[Axis] = []
    for axis, (before, after) in enumerate(_pads(r.graph, node)):
        whole = r.axis(x, axis, single=before != 0 or after != 0)
        if before is None or after is None:
            r.lock(whole, (x, axis), "padded by lengths that only run time knows")
            whole = None
        elif whole is not None and (before or after):
            if can_respell:
                whole = _padded(r, whole, before, after, _mode(node), (x, axis))
            else:
                r.lock(whole, (x, axis), "padded by lengths of which others are only known at run time")
                whole = None
        out.append(whole)
    r.set(y, out)


def _padded(r: Relation, whole: Array, before: int, after: int, mode: str, where: tuple[str, int]) -> Axis:
    n = len(whole)
    if mode == "constant" or max(before, after) <= 0:
        inner = whole[max(-before, 0) : n + min(after, 0)]
        return np.concatenate([r.cuts.fresh(max(before, 0)), inner, r.cuts.fresh(max(after, 0))])
    most = {"edge": before + after, "wrap": n, "reflect": n - 1}.get(mode, 0)
    if min(before, after) < 0 or max(before, after) > most:
        r.lock(whole, where, f"padded with copies of its own indices ({mode})")
        return None
    source = np.concatenate([np.arange(-before, 0), np.arange(n), np.arange(n, n + after)])
    if mode == "reflect":
        source = (n - 1) - np.abs((n - 1) - np.abs(source))
        r.lock(whole[[0] * bool(before) + [n - 1] * bool(after)], where, "a reflection turns round here")
    elif mode == "edge":
        source = np.clip(source, 0, n - 1)
    return np.asarray(whole[source % n])


def _respell_pad(shrink: Respell, node: Node) -> Node:
    x, y = node.inputs[0], node.outputs[0]
    old = _pads(shrink.graph, node)
    new: list[tuple[int, int]] = []
    for axis, (before, after) in enumerate(old):
        if before is None or after is None:
            return node
        n = shrink.graph.shape(x)[axis]
        if isinstance(n, int) and (before or after):
            inside, outside = shrink.kept(x, axis), shrink.kept(y, axis)
            first = int((outside < before).sum()) if before > 0 else -int((inside < -before).sum())
            last = int((outside >= before + n).sum()) if after > 0 else -int((inside >= n + after).sum())
            before, after = first, last
        new.append((before, after))
    if new == old:
        return node
    axes = shrink.constant(node.input(3))
    listed = range(len(new)) if axes is None else [int(a) % len(new) for a in axes]
    spelled = [new[a][0] for a in listed] + [new[a][1] for a in listed]
    for attribute in ("pads", "paddings"):
        if attribute in node.attributes:
            return node.replace(attributes={**node.attributes, attribute: tuple(spelled)})
    return shrink.with_constant(node, 1, np.array(spelled, np.int64))


def _relate_center(r: Relation, node: Node) -> None:
    """Axes that keep their length keep their meaning; what is cut off or added depends on the length."""
    x, y = node.inputs[0], node.outputs[0]
    constant = r.constant(node.inputs[1]) is not None
    listed = _centered(r.graph, node)
    out: list[Axis] = []
    for axis in range(r.rank(x)):
        whole = r.axis(x, axis)
        if axis in listed and (r.shape(x)[axis] != r.shape(y)[axis] or not constant):
            r.lock(whole, (x, axis), "cropped or padded around its centre")
            whole = None
        out.append(whole)
    r.set(y, out)


def _centered(graph: Graph, node: Node) -> list[int]:
    rank = len(graph.shape(node.inputs[0]))
    axes = node.attributes.get("axes", tuple(range(rank)))
    assert isinstance(axes, tuple)
    return [int(a) % rank for a in axes]


def _respell_center(shrink: Respell, node: Node) -> Node:
    target = shrink.constant(node.inputs[1])
    if target is None:
        return node
    new = shrink.shape(node.outputs[0])
    spelled = [
        dim if isinstance(dim := new[axis], int) else int(said)
        for axis, said in zip(_centered(shrink.graph, node), target, strict=True)
    ]
    return shrink.with_constant(node, 1, np.array(spelled, np.int64))


RULES = {
    "Pad": Rule(_relate_pad, respell=_respell_pad, periodic=True),
    "CenterCropPad": Rule(_relate_center, respell=_respell_center, periodic=True),
}
