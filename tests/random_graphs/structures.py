"""Blocks of known networks: splits, hierarchies, gates over branches, rearrangements of space and channels."""

from __future__ import annotations

import itertools

import numpy as np

from tests.random_graphs.builder import Builder, Tensor


def _conv(b: Builder, x: str, n_in: int, n_out: int, k: int = 1, groups: int = 1) -> str:
    weight = b.param(n_out, n_in // groups, k, k)
    y = b.op("Conv", x, weight, b.param(n_out), pads=[k // 2] * 4, group=groups)
    return b.op("Relu", y) if b.pick(0, 1) else y


def _parts(b: Builder, x: str, sizes: list[int]) -> list[str]:
    """The channels in runs of these lengths, by Split or by Slices."""
    if b.pick(0, 1):
        y = b.op("Split", x, b.ints(*sizes), outputs=len(sizes), axis=1)
        return [y[:-1] + str(i) for i in range(len(sizes))]
    ends = np.cumsum([0, *sizes]).tolist()
    return [b.op("Slice", x, b.ints(start), b.ints(end), b.ints(1)) for start, end in itertools.pairwise(ends)]


def hierarchy(b: Builder, x: Tensor) -> None:
    """Res2Net: each part is added to the one before it goes through its convolution."""
    name, (n, c, h, w) = x
    count = int(b.random.choice([s for s in (1, 2, 3, 4) if c % s == 0]))
    if count == 1:
        return
    each = c // count
    parts = _parts(b, name, [each] * count)
    done = [parts[0]]
    for part in parts[1:]:
        done.append(_conv(b, b.op("Add", part, done[-1]) if len(done) > 1 else part, each, each, 3))
    joined = _conv(b, b.op("Concat", *done, axis=1), c, c)
    b.put(b.op("Add", joined, name), (n, c, h, w))


def cross_stage(b: Builder, x: Tensor) -> None:
    """CSP, and ShuffleNetV2: one part goes through, another goes by; maybe shuffled."""
    name, (n, c, h, w) = x
    if c < 2:
        return
    first = c // 2 if c % 2 == 0 else b.pick(1, c - 1)
    through, by = _parts(b, name, [first, c - first])
    for _ in range(b.pick(1, 2)):
        through = (
            b.op("Add", through, _conv(b, through, first, first, 3))
            if b.pick(0, 1)
            else _conv(b, through, first, first)
        )
    joined = b.op("Concat", by, through, axis=1)
    if c % 2 == 0 and b.pick(0, 1):
        two = b.reshape(joined, n, 2, c // 2, h, w)
        joined = b.reshape(b.op("Transpose", two, perm=[0, 2, 1, 3, 4]), n, c, h, w)
    b.put(joined, (n, c, h, w))


def split_attention(b: Builder, x: Tensor) -> None:
    """ResNeSt: a softmax over two branches, for each channel."""
    name, (n, c, h, w) = x
    width, radix = b.pick(1, 4), 2
    branches = b.reshape(_conv(b, name, c, radix * width), n, radix, width, h, w)
    pooled = b.reduce("ReduceMean", b.reduce("ReduceSum", branches, 1, keep=False), 2, 3)
    inner = b.pick(1, 3)
    scores = b.reshape(_conv(b, _conv(b, pooled, width, inner), inner, radix * width), n, radix, width)
    gate = b.reshape(b.op("Softmax", scores, axis=1), n, radix, width, 1, 1)
    b.put(b.reduce("ReduceSum", b.op("Mul", branches, gate), 1, keep=False), (n, width, h, w))


def selective_kernels(b: Builder, x: Tensor) -> None:
    """SKNet: branches stacked on a new axis, weighed by a softmax over it."""
    name, (n, c, h, w) = x
    width, inner = b.pick(1, 5), b.pick(1, 3)
    branches = [_conv(b, name, c, width, k) for k in (1, 3)]
    pooled = b.op("GlobalAveragePool", b.op("Add", *branches))
    squeezed = _conv(b, pooled, width, inner)
    scores = b.op("Concat", *(b.op("Unsqueeze", _conv(b, squeezed, inner, width), b.ints(1)) for _ in branches), axis=1)
    stacked = b.op("Concat", *(b.op("Unsqueeze", branch, b.ints(1)) for branch in branches), axis=1)
    weighed = b.op("Mul", stacked, b.op("Softmax", scores, axis=1))
    b.put(b.reduce("ReduceSum", weighed, 1, keep=False), (n, width, h, w))


def dual_path(b: Builder, x: Tensor) -> None:
    """DPN: some channels are added, others are appended."""
    name, (n, c, h, w) = x
    if c < 2 or c > 16:
        return
    kept, more = b.pick(1, c - 1), b.pick(1, 3)
    old_sum, old_dense = _parts(b, name, [kept, c - kept])
    new_sum, new_dense = _parts(b, _conv(b, name, c, kept + more, 3), [kept, more])
    summed, dense = b.op("Add", old_sum, new_sum), b.op("Concat", old_dense, new_dense, axis=1)
    b.put(b.op("Concat", summed, dense, axis=1), (n, c + more, h, w))


def patch_merging(b: Builder, x: Tensor) -> None:
    """Four strided slices of space side by side (Swin, YOLO's focus), then a product."""
    name, (n, c, h, w) = x
    if h % 2 or w % 2 or c > 8:
        return
    corners = [
        b.op("Slice", name, b.ints(i, j), b.ints(1000, 1000), b.ints(2, 3), b.ints(2, 2))
        for i in (0, 1)
        for j in (0, 1)
    ]
    out = b.pick(2, 8)
    b.put(_conv(b, b.op("Concat", *corners, axis=1), 4 * c, out), (n, out, h // 2, w // 2))


def shuffled_pixels(b: Builder, x: Tensor) -> None:
    """Pixel shuffle and its inverse as reshapes and a transpose."""
    name, (n, c, h, w) = x
    if b.pick(0, 1):
        out = b.pick(1, 4)
        wide = _conv(b, name, c, 4 * out)
        six = b.reshape(wide, n, out, 2, 2, h, w)
        turned = b.op("Transpose", six, perm=[0, 1, 4, 2, 5, 3])
        if h <= 8:
            b.put(b.reshape(turned, n, out, 2 * h, 2 * w), (n, out, 2 * h, 2 * w))
    elif h % 2 == 0 and w % 2 == 0 and c <= 6:
        six = b.reshape(name, n, c, h // 2, 2, w // 2, 2)
        turned = b.op("Transpose", six, perm=[0, 1, 3, 5, 2, 4])
        b.put(b.reshape(turned, n, 4 * c, h // 2, w // 2), (n, 4 * c, h // 2, w // 2))


def grouped(b: Builder, x: Tensor) -> None:
    """A product in front, a grouped convolution, a shuffle, another grouping."""
    name, (n, c, h, w) = x
    groups = b.pick(2, 4)
    width = groups * b.pick(1, 4)
    inner = _conv(b, _conv(b, name, c, width), width, width, 3, groups)
    if b.pick(0, 1):
        five = b.reshape(inner, n, groups, width // groups, h, w)
        inner = b.reshape(b.op("Transpose", five, perm=[0, 2, 1, 3, 4]), n, width, h, w)
    again = int(b.random.choice([g for g in range(1, width + 1) if width % g == 0]))
    b.put(_conv(b, inner, width, width, 1, again), (n, width, h, w))


def tied(b: Builder, x: Tensor) -> None:
    """One weight read twice: in a row, in two branches, or turned as a decoder."""
    name, (n, c, h, w) = x
    kind = b.pick(0, 2)
    if kind == 0:
        weight = b.param(c, c, 1, 1)
        b.put(b.op("Conv", b.op("Relu", b.op("Conv", name, weight)), weight), (n, c, h, w))
    elif kind == 1:
        out = b.pick(2, 6)
        weight = b.param(out, c, 3, 3)
        one, two = (b.op("Conv", side, weight, pads=[1] * 4) for side in (name, b.op("Neg", name)))
        b.put(b.op("Concat", one, b.op("Relu", two), axis=1), (n, 2 * out, h, w))
    else:
        hidden = b.pick(2, 6)
        weight = b.param(c, hidden)
        last = b.op("Transpose", name, perm=[0, 2, 3, 1])
        code = b.op("Tanh", b.op("MatMul", last, weight))
        decoded = b.op("MatMul", code, b.op("Transpose", weight, perm=[1, 0]))
        b.put(b.op("Transpose", decoded, perm=[0, 3, 1, 2]), (n, c, h, w))


def correlation(b: Builder, x: Tensor) -> None:
    """Optical flow: products of all features of two tensors, as channels."""
    name, (n, c, h, w) = x
    alike = [o for o in b.pool if o[1][1:] == (c, h, w)]
    if h * w > 16 or not alike:
        return
    other = alike[b.pick(0, len(alike) - 1)][0]
    left = b.op("Transpose", b.reshape(name, n, c, h * w), perm=[0, 2, 1])
    product = b.op("MatMul", left, b.reshape(other, n, c, h * w))
    b.put(b.reshape(product, n, h * w, h, w), (n, h * w, h, w))


def weighted_fusion(b: Builder, x: Tensor) -> None:
    """BiFPN: tensors added with normalised weights."""
    _name, shape = x
    alike = [o[0] for o in b.pool if o[1] == shape][:3]
    weights = b.op("Relu", b.param(len(alike), positive=True))
    normal = b.op("Div", weights, b.op("Add", b.reduce("ReduceSum", weights, 0), b.constant(np.float32(1e-3))))
    total = ""
    for number, tensor in enumerate(alike):
        part = b.op("Mul", tensor, b.op("Gather", normal, b.constant(np.int64(number)), axis=0))
        total = b.op("Add", total, part) if total else part
    b.put(total, shape)


def bottleneck_vector(b: Builder, x: Tensor) -> None:
    """An autoencoder's code: flattened, squeezed, and spread out again."""
    name, (n, c, h, w) = x
    if c * h * w > 256:
        return
    code = b.pick(2, 6)
    flat = b.op("Flatten", name)
    squeezed = b.op("Relu", b.op("Gemm", flat, b.param(code, c * h * w), b.param(code), transB=1))
    out = b.pick(1, 6)
    spread = b.op("Gemm", squeezed, b.param(code, out * h * w), b.param(out * h * w))
    b.put(b.reshape(spread, n, out, h, w), (n, out, h, w))


def coordinates(b: Builder, x: Tensor) -> None:
    """YOLO's decode: anchors on an axis of their own, offsets and sizes treated apart."""
    name, (n, c, h, w) = x
    anchors, entries = b.pick(1, 3), b.pick(4, 7)
    raw = _conv(b, name, c, anchors * entries)
    five = b.op("Transpose", b.reshape(raw, n, anchors, entries, h, w), perm=[0, 1, 3, 4, 2])
    y = b.op("Split", b.op("Sigmoid", five), b.ints(2, 2, entries - 4), outputs=3, axis=4)
    grid = b.constant(np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1).astype(np.float32))
    places = b.op("Add", y, grid)
    sizes = b.op("Mul", y[:-1] + "1", b.param(anchors, 1, 1, 2))
    boxes = b.op("Concat", places, sizes, y[:-1] + "2", axis=-1)
    flat = b.reshape(b.op("Transpose", boxes, perm=[0, 4, 1, 2, 3]), n, entries * anchors, h, w)
    b.put(flat, (n, entries * anchors, h, w))


def computed_weight(b: Builder, x: Tensor) -> None:
    """A convolution whose weight the network makes itself: a mixture of experts, or all of it from the features."""
    name, (n, c, h, w) = x
    out = b.pick(2, 5)
    means = b.reduce("ReduceMean", name, 0, 2, 3, keep=False)
    if b.pick(0, 1):
        experts = b.pick(2, 3)
        gate = b.op("Softmax", b.op("MatMul", means, b.param(c, experts)), axis=0)
        weighed = b.op("Mul", b.param(experts, out, c, 3, 3), b.op("Reshape", gate, b.ints(experts, 1, 1, 1, 1)))
        y = b.op("Conv", name, b.reduce("ReduceSum", weighed, 0, keep=False), pads=[1] * 4)
    else:
        made = b.op("Add", b.op("MatMul", b.op("Tanh", means), b.param(c, out * c)), b.param(out * c))
        y = b.op("Conv", name, b.op("Reshape", made, b.ints(out, c, 1, 1)))
    b.put(y, (n, out, h, w))


def deformed(b: Builder, x: Tensor) -> None:
    """A convolution that looks where the features say, maybe with a weight for each place."""
    name, (n, c, h, w) = x
    if b.opset < 19:
        return
    groups = int(b.random.choice([g for g in (1, 2) if c % g == 0]))
    out = groups * b.pick(1, 3)
    offsets = b.op("Tanh", b.op("Conv", name, b.param(18, c, 1, 1)))
    extra = ["", b.op("Sigmoid", b.op("Conv", name, b.param(9, c, 1, 1)))] if b.pick(0, 1) else []
    weight = b.param(out, c // groups, 3, 3)
    y = b.op("DeformConv", name, weight, offsets, *extra, pads=[1] * 4, group=groups, kernel_shape=[3, 3])
    b.put(y, (n, out, h, w))


GROWTHS = (
    hierarchy, hierarchy, cross_stage, cross_stage, split_attention, selective_kernels, dual_path, patch_merging,
    shuffled_pixels, grouped, grouped, tied, tied, correlation, weighted_fusion, bottleneck_vector, coordinates,
    computed_weight, deformed,
)  # fmt: skip
