"""Operators of detectors, segmenters and generators: sampling in space, which leaves the channels alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Graph, Node
from amcc.passes.rules.known import entries
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


# -- Resize ------------------------------------------------------------------------------------------


def _text(node: Node, attribute: str, default: str) -> str:
    said = node.attributes.get(attribute, default)
    return said.decode() if isinstance(said, bytes) else str(said)


def _resize_inputs(graph: Graph, node: Node) -> tuple[list[float | None] | None, int]:
    """The scales, as far as they are known, and the number of the input with sizes (-1: none)."""
    written = node.attributes.get("scales")
    if isinstance(written, tuple):
        return [float(s) for s in written], -1
    old = node.op == "Upsample" or (len(node.inputs) == 2 and graph.opset < 11)
    if not old and node.input(3):
        return None, 3
    return entries(graph, node.input(1 if old else 2)), -1


def _resized(graph: Graph, node: Node) -> dict[int, int]:
    """The axes that scales and sizes speak of, each with its place there."""
    rank = len(graph.shape(node.inputs[0]))
    axes = node.attributes.get("axes", tuple(range(rank)))
    assert isinstance(axes, tuple)
    return {int(axis) % rank: place for place, axis in enumerate(axes)}


def _untouched(r: Relation, node: Node) -> set[int]:
    """The axes that come out as they went in, and would if indices of theirs were cut."""
    x, y = node.inputs[0], node.outputs[0]
    spoken_of = _resized(r.graph, node)
    scales, sizes = _resize_inputs(r.graph, node)
    same = {axis for axis in range(r.rank(x)) if axis not in spoken_of}
    if _text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return same  # one scale for all axes, that follows from all lengths
    roi = entries(r.graph, node.input(1)) if _crops(node) else None
    for axis, place in spoken_of.items():
        # a size is spelled anew where its axis shrinks, a scale must be 1
        keeps = r.shape(x)[axis] == r.shape(y)[axis] and (sizes >= 0 or (scales is not None and scales[place] == 1))
        if _crops(node):
            keeps = keeps and roi is not None and roi[place] == 0 and roi[place + len(spoken_of)] == 1
        if keeps:
            same.add(axis)
    return same


def _crops(node: Node) -> bool:
    return _text(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"


def _relate_resize(r: Relation, node: Node) -> None:
    """Axes that keep their length keep their meaning; the others are interpolated over."""
    x, y = node.inputs[0], node.outputs[0]
    same = _untouched(r, node)
    for axis in range(r.rank(x)):
        if axis not in same:
            r.lock(r.axis(x, axis), (x, axis), f"{node.op} interpolates along this axis")
    r.set(y, [r.axis(x, axis) if axis in same else None for axis in range(r.rank(y))])


def _respell_resize(shrink: Respell, node: Node) -> Node:
    _, place = _resize_inputs(shrink.graph, node)
    if place < 0:
        return node
    old, new = (
        tuple(shape[axis] for axis in _resized(shrink.graph, node))
        for shape in (shrink.graph.shape(node.outputs[0]), shrink.shape(node.outputs[0]))
    )
    return shrink.with_lengths(node, place, old, new)


# -- sampling at given places ------------------------------------------------------------------------


def _relate_grid_sample(r: Relation, node: Node) -> None:
    """`[N, C, H, W]` at the places `[N, H', W', 2]`; as well with three axes in space."""
    x, grid = node.inputs[:2]
    batch = r.axis(x, 0)
    r.same(batch, r.axis(grid, 0), (grid, 0))
    for axis in range(2, r.rank(x)):
        r.lock(r.axis(x, axis), (x, axis), "sampled along this axis")
    r.set(node.outputs[0], [batch, r.axis(x, 1), *(r.axis(grid, axis) for axis in range(1, r.rank(grid) - 1))])


def _relate_affine_grid(r: Relation, node: Node) -> None:
    """Transforms `[N, 2, 3]` and a size give places `[N, H, W, 2]`."""
    y = node.outputs[0]
    batch = r.axis(node.inputs[0], 0)
    r.lock(batch, (node.inputs[0], 0), "its length is also written in AffineGrid's size")
    r.set(y, [None] * r.rank(y))


def _relate_regions(r: Relation, node: Node) -> None:
    """Regions `[K, 4]` of pictures `[N, C, H, W]` give `[K, C, h, w]`."""
    x, regions = node.inputs[:2]
    chosen = r.axis(regions, 0)
    for axis in (0, 2, 3):
        r.lock(r.axis(x, axis), (x, axis), "cut into regions")
    if picture := node.input(2):
        r.same(chosen, r.axis(picture, 0), (picture, 0))
    r.set(node.outputs[0], [chosen, r.axis(x, 1), None, None])


# -- space and channels ------------------------------------------------------------------------------


def _relate_depth_to_space(r: Relation, node: Node) -> None:
    """All `b*b` input channels of an output channel go with it."""
    x, y = node.inputs[0], node.outputs[0]
    channels, block = r.axis(x, 1, single=True), node.attributes["blocksize"]
    assert isinstance(block, int)
    first = _text(node, "mode", "DCR") == "CRD"
    r.set(y, [r.axis(x, 0), _blocks(r, node, channels, block * block, together=first), None, None])


def _blocks(r: Relation, node: Node, channels: Axis, block: int, *, together: bool) -> Axis:
    """The channels of which each spreads over a block: its parts lie together, or a stride apart."""
    if channels is None:
        return None
    out = r.cuts.fresh(len(channels) // block)
    spread = np.repeat(out, block) if together else np.tile(out, block)
    r.same(channels, spread, (node.inputs[0], 1), "goes only with all of its block")
    return out


def _relate_space_to_depth(r: Relation, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    channels, block = r.axis(x, 1, single=True), node.attributes["blocksize"]
    assert isinstance(block, int)
    r.set(y, [r.axis(x, 0), None if channels is None else np.tile(channels, block * block), None, None])


def _relate_col2im(r: Relation, node: Node) -> None:
    """Columns `[N, C * block, L]` are summed up into pictures `[N, C, ...]`."""
    x, y = node.inputs[0], node.outputs[0]
    channels, (whole, n) = r.axis(x, 1, single=True), (r.shape(x)[1], r.shape(y)[1])
    out: Axis = None
    if isinstance(whole, int) and isinstance(n, int):
        out = _blocks(r, node, channels, whole // n, together=True)
    else:
        r.lock(channels, (x, 1), "a block of unknown length")
    r.set(y, [r.axis(x, 0), out, *[None] * (r.rank(y) - 2)])


RULES = {
    **table(("Resize", "Upsample"), Rule(_relate_resize, respell=_respell_resize, periodic=True)),
    "GridSample": Rule(_relate_grid_sample, periodic=True),
    "AffineGrid": Rule(_relate_affine_grid),
    **table(("RoiAlign", "MaxRoiPool"), Rule(_relate_regions, periodic=True)),
    "DepthToSpace": Rule(_relate_depth_to_space, periodic=True),
    "SpaceToDepth": Rule(_relate_space_to_depth, periodic=True),
    "Col2Im": Rule(_relate_col2im, periodic=True),
}
