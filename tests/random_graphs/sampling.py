"""Resizing, padding, sampling and selecting in space; masks."""

from __future__ import annotations

import numpy as np

from tests.random_graphs.builder import Builder, Tensor


def resize(b: Builder, x: Tensor) -> None:
    """Nearest or linear, by scales or sizes; channels last now and then."""
    name, (n, c, h, w) = x
    height, width = b.pick(2, 10), b.pick(2, 10)
    how = str(b.random.choice(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]))
    mode = str(b.random.choice(["nearest", "linear"]))
    if b.pick(0, 2) == 0:
        last = b.op("Transpose", name, perm=[0, 2, 3, 1])
        scales = b.constant(np.array([1, 2, 1, 1], np.float32))
        if h <= 8:
            back = b.op("Transpose", b.op("Resize", last, "", scales, mode="nearest"), perm=[0, 3, 1, 2])
            b.put(back, (n, c, 2 * h, w))
        return
    y = b.op(
        "Resize", name, "", "", b.sizes(name, height, width, channels=c), mode=mode, coordinate_transformation_mode=how
    )
    b.put(y, (n, c, height, width))


def pad(b: Builder, x: Tensor) -> None:
    """Any mode, space or channels."""
    name, (_n, _c, _h, _w) = x
    mode = str(b.random.choice(["constant", "reflect", "edge"]))
    axis = b.pick(1, 3)
    most = 3 if mode != "reflect" else x[1][axis] - 1
    before, after = b.pick(0, min(2, most)), b.pick(0, min(2, most))
    if x[1][axis] > 10:
        return
    pads = [0] * 8
    pads[axis], pads[4 + axis] = before, after
    shape = list(x[1])
    shape[axis] += before + after
    b.put(b.op("Pad", name, b.ints(*pads), mode=mode), tuple(shape))


def grid_sample(b: Builder, x: Tensor) -> None:
    """At fixed places, or where the features themselves say."""
    name, (n, c, _h, _w) = x
    mode = "linear" if b.opset >= 20 else "bilinear"
    padding = str(b.random.choice(["zeros", "border", "reflection"]))
    if b.pick(0, 1) and not b.dynamic:
        places = b.constant(b.random.uniform(-1.1, 1.1, (n, 3, 5, 2)).astype(np.float32))
        b.put(b.op("GridSample", name, places, mode=mode, padding_mode=padding), (n, c, 3, 5))
    else:
        flow = b.op("Tanh", b.op("Conv", name, b.param(2, c, 1, 1)))
        places = b.op("Transpose", flow, perm=[0, 2, 3, 1])
        b.put(b.op("GridSample", name, places, mode=mode, padding_mode="border"), x[1])


def regions(b: Builder, x: Tensor) -> None:
    """Boxes cut out of the pictures."""
    name, (n, c, _h, _w) = x
    if b.opset >= 22 or b.dynamic:  # ONNX Runtime has it up to opset 21
        return
    low, high = b.random.uniform(0, 2, (3, 2)), b.random.uniform(3, 7, (3, 2))
    boxes = b.constant(np.concatenate([low, high], 1).astype(np.float32))
    of = b.ints(*(i % n for i in range(3)))
    cut = b.op("RoiAlign", name, boxes, of, output_height=2, output_width=3)
    first = b.op("Slice", cut, b.ints(0), b.ints(n), b.ints(0))
    b.put(first, (n, c, 2, 3))


def gather_nd(b: Builder, x: Tensor) -> None:
    """Pairs of channel and row; or channels alone."""
    name, (n, c, h, w) = x
    turned = b.op("Transpose", name, perm=[1, 2, 0, 3])
    some = b.random.integers(-c, c, b.pick(1, c))
    if b.pick(0, 1):
        pairs = np.stack(np.meshgrid(some, b.random.permutation(h), indexing="ij"), -1).astype(np.int64)
        y = b.op("GatherND", turned, b.constant(pairs))
    else:
        y = b.op("GatherND", turned, b.constant(some[:, None].astype(np.int64)))
    b.put(b.op("Transpose", y, perm=[2, 0, 1, 3]), (n, len(some), h, w))


def scatter_nd(b: Builder, x: Tensor) -> None:
    """Channels or rows written over."""
    name, (_n, _c, _h, _w) = x
    axis = b.pick(1, 2)
    perm = [1, 0, 2, 3] if axis == 1 else [2, 0, 1, 3]
    turned = b.op("Transpose", name, perm=perm)
    many = x[1][axis]
    places = b.random.permutation(many)[: b.pick(1, many)]
    source = b.op("Slice", b.op("Sigmoid", turned), b.ints(0), b.ints(len(places)), b.ints(0))
    y = b.op("ScatterND", turned, b.constant(places[:, None].astype(np.int64)), source)
    b.put(b.op("Transpose", y, perm=np.argsort(perm).tolist()), x[1])


def mask(b: Builder, x: Tensor) -> None:
    """Places or channels hidden; or the lower triangle of space."""
    name, (_n, c, h, w) = x
    kind = b.pick(0, 2)
    if kind == 2:
        b.put(b.op("Trilu", name, upper=b.pick(0, 1)), x[1])
        return
    shape = (1, 1, h, w) if kind else (1, c, 1, 1)
    hidden = b.constant(b.random.integers(0, 2, shape).astype(bool))
    b.put(b.op("Where", hidden, name, b.constant(np.float32(-1))), x[1])


def chosen(b: Builder, x: Tensor) -> None:
    """Columns in an order that comes from the input alone, so that rounding changes nothing."""
    name, (n, c, h, w) = x
    entry, (_, _, own_h, own_w) = b.pool[0]
    if (h, w) != (own_h, own_w):
        return
    order = b.op("TopK", b.reduce("ReduceMean", entry, 1), b.ints(3), outputs=2, axis=3)[:-1] + "1"
    spread = b.expand(order, name, n, c, h, 3)
    b.put(b.op("GatherElements", name, spread, axis=3), (n, c, h, 3))


GROWTHS = (resize, resize, pad, pad, grid_sample, regions, gather_nd, scatter_nd, scatter_nd, mask, chosen)
