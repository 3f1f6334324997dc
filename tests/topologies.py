"""Small networks of the topologies that detectors, segmenters and generators are made of.

Every function gives the network and the groups that must be found in it: by the parameter each is named after, how many
units it has. What is not named is locked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.random_graphs import BATCH, Builder


class Net(Builder):
    """A builder whose parameters have names."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        super().__init__(seed, opset)

    def weight(self, name: str, *shape: int, positive: bool = False) -> str:
        """A random parameter of this name."""
        self.param(*shape, positive=positive)
        self.constants[-1].name = name
        return name

    def conv(
        self, name: str, x: str, n_in: int, n_out: int, k: int = 1, *, groups: int = 1, act: str = "Relu", **how: object
    ) -> str:
        """A convolution of this name, padded, with an activation."""
        attributes = {"pads": [k // 2] * 4, "group": groups, **how}
        y = self.op("Conv", x, self.weight(name, n_out, n_in // groups, k, k), self.param(n_out), **attributes)
        return self.op(act, y) if act else y

    def linear(self, name: str, x: str, n_in: int, n_out: int) -> str:
        """A matrix product with a bias."""
        return self.op("Add", self.op("MatMul", x, self.weight(name, n_in, n_out)), self.param(n_out))

    def up(self, x: str, by: float = 2) -> str:
        """Nearest neighbours."""
        return self.op("Resize", x, "", self.constant(np.array([1, 1, by, by], np.float32)), mode="nearest")

    def down(self, x: str) -> str:
        """The largest of two by two."""
        return self.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def parts(self, x: str, *sizes: int, axis: int = 1) -> list[str]:
        """The runs of an axis."""
        y = self.op("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)
        return [y[:-1] + str(i) for i in range(len(sizes))]

    def join(self, *parts: str, axis: int = 1) -> str:
        """Side by side."""
        return self.op("Concat", *parts, axis=axis)

    def shape(self, x: str, *sizes: int) -> str:
        """Reshape."""
        return self.op("Reshape", x, self.ints(*sizes))

    def turn(self, x: str, *order: int) -> str:
        """Transpose."""
        return self.op("Transpose", x, perm=list(order))

    def scalar(self, value: float) -> str:
        """A constant number."""
        return self.constant(np.float32(value))


Groups = dict[str, int]
N = BATCH


def feature_pyramid(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """FPN, then PAN: laterals are added up the pyramid, one head is shared by all levels."""
    c1 = b.conv("c1", "x", 3, 4, 3)
    c2 = b.conv("c2", b.down(c1), 4, 6, 3)
    c3 = b.conv("c3", b.down(c2), 6, 8, 3)
    p3 = b.conv("l3", c3, 8, 5, act="")
    p2 = b.op("Add", b.conv("l2", c2, 6, 5, act=""), b.up(p3))
    p1 = b.op("Add", b.conv("l1", c1, 4, 5, act=""), b.up(p2))
    n2 = b.op("Add", p2, b.conv("d1", p1, 5, 5, 3, strides=[2, 2]))
    n3 = b.op("Add", p3, b.conv("d2", n2, 5, 5, 3, strides=[2, 2]))
    weight, bias = b.weight("head", 7, 5, 3, 3), b.param(7)
    last, outputs = b.weight("boxes", 4, 7, 1, 1), []
    for level in (p1, n2, n3):
        tower = b.op("Relu", b.op("Conv", level, weight, bias, pads=[1] * 4))
        outputs.append(b.op("Conv", tower, last))
    return b.finish(*outputs), {"c1": 4, "c2": 6, "c3": 8, "l3": 5, "head": 7}


def weighted_pyramid(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """BiFPN: normalised weights for every fusion, separable convolutions after it."""
    c1 = b.conv("c1", "x", 3, 5, 3)
    c2 = b.conv("c2", b.down(c1), 5, 5, 3)

    def fused(name: str, *parts: str) -> str:
        weights = b.op("Relu", b.weight(f"{name}.weights", len(parts), positive=True))
        normal = b.op("Div", weights, b.op("Add", b.reduce("ReduceSum", weights, 0), b.scalar(1e-4)))
        shares = [b.op("Gather", normal, b.constant(np.int64(i)), axis=0) for i in range(len(parts))]
        total = b.op("Sum", *(b.op("Mul", part, share) for part, share in zip(parts, shares, strict=True)))
        depth = b.conv(f"{name}.depth", total, 5, 5, 3, groups=5, act="")
        return b.conv(f"{name}.point", depth, 5, 5)

    top = fused("top", c1, b.up(c2))
    low = fused("low", c2, b.down(top), b.down(c1))
    outputs = [b.conv(f"out{i}", x, 5, 4, act="") for i, x in enumerate((top, low))]
    return b.finish(*outputs), {"c1": 5, "low.point": 5}


def unet(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """Skips joined with what a transposed convolution brings up."""
    e1 = b.conv("e1", "x", 3, 4, 3)
    e2 = b.conv("e2", b.down(e1), 4, 6, 3)
    middle = b.conv("m", b.down(e2), 6, 8, 3)
    u2 = b.op("ConvTranspose", middle, b.weight("u2", 8, 6, 2, 2), b.param(6), strides=[2, 2])
    d2 = b.conv("d2", b.join(u2, e2), 12, 6, 3)
    u1 = b.op("ConvTranspose", d2, b.weight("u1", 6, 4, 2, 2), b.param(4), strides=[2, 2])
    d1 = b.conv("d1", b.join(u1, e1), 8, 4, 3)
    y = b.conv("classes", d1, 4, 3, act="")
    return b.finish(y), {"e1": 4, "e2": 6, "m": 8, "u2": 6, "d2": 6, "u1": 4, "d1": 4}


def yolo(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """Heads on two scales, decoded in the graph; only what the output shows is locked."""
    anchors, entries = 2, 7
    c1 = b.conv("c1", "x", 3, 6, 3)
    c2 = b.conv("c2", b.down(c1), 6, 8, 3)
    decoded = []
    for name, x, n, side, stride in (("h1", c1, 6, 8, 8.0), ("h2", c2, 8, 4, 16.0)):
        tower = b.conv(f"{name}.tower", x, n, 5, 3)
        raw = b.conv(name, tower, 5, anchors * entries, act="")
        five = b.turn(b.shape(raw, N, anchors, entries, side, side), 0, 1, 3, 4, 2)
        xy, wh, rest = b.parts(b.op("Sigmoid", five), 2, 2, entries - 4, axis=4)
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="xy"), -1).astype(np.float32)
        centre = b.op("Mul", b.op("Add", xy, b.constant(grid)), b.scalar(stride))
        double = b.op("Mul", wh, b.scalar(2))
        size = b.op("Mul", b.op("Mul", double, double), b.param(anchors, 1, 1, 2))
        decoded.append(b.shape(b.join(centre, size, rest, axis=4), N, -1, entries))
    return b.finish(b.join(*decoded, axis=1)), {"c1": 6, "c2": 8, "h1.tower": 5, "h2.tower": 5}


def distribution_head(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """YOLOv8: distances as the mean of a softmax over bins, boxes from anchor points, classes beside them."""
    c1 = b.conv("c1", "x", 3, 6, 3)
    box = b.conv("box", b.conv("box.tower", c1, 6, 5, 3), 5, 16, act="")
    classes = b.conv("classes", b.conv("classes.tower", c1, 6, 4, 3), 4, 3, act="")
    flat = b.shape(b.join(box, classes), N, 19, 64)
    distances, scores = b.parts(flat, 16, 3)
    bins = b.turn(b.shape(distances, N, 4, 4, 64), 0, 2, 1, 3)
    mean = b.shape(b.op("Conv", b.op("Softmax", bins, axis=1), b.weight("bins", 1, 4, 1, 1)), N, 4, 64)
    left, right = b.parts(mean, 2, 2)
    points = b.param(1, 2, 64)
    low, high = b.op("Sub", points, left), b.op("Add", points, right)
    centre = b.op("Div", b.op("Add", low, high), b.scalar(2))
    boxes = b.join(centre, b.op("Sub", high, low))
    y = b.join(b.op("Mul", boxes, b.scalar(8)), b.op("Sigmoid", scores))
    return b.finish(y), {"c1": 6, "box.tower": 5, "box": 4, "classes.tower": 4}


def detections(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """Boxes chosen by NonMaxSuppression and cut out of the features for a second stage."""
    c1 = b.conv("c1", "x", 3, 6, 3)
    tower = b.conv("tower", c1, 6, 5, 3)
    scores = b.shape(b.op("Sigmoid", b.conv("scores", tower, 5, 1, act="")), N, 1, 64)
    raw = b.turn(b.shape(b.op("Sigmoid", b.conv("boxes", tower, 5, 4, act="")), N, 4, 64), 0, 2, 1)
    low, size = b.parts(raw, 2, 2, axis=2)
    boxes = b.op("Mul", b.join(low, b.op("Add", low, size), axis=2), b.scalar(7))
    chosen = b.op("NonMaxSuppression", boxes, scores, b.constant(np.int64(3)), b.scalar(0.9), b.scalar(0.0))
    where = b.op("Gather", chosen, b.ints(0, 2), axis=1)
    regions = b.op("GatherND", boxes, where)
    of = b.op("Gather", chosen, b.constant(np.int64(0)), axis=1)
    features = b.op("RoiAlign", c1, regions, of, output_height=2, output_width=2)
    vector = b.op("Flatten", b.op("Relu", b.op("Conv", features, b.weight("second", 5, 6, 1, 1))))
    y = b.op("Gemm", b.op("Relu", b.op("Gemm", vector, b.weight("fc", 20, 6))), b.weight("classes", 6, 3))
    return b.finish(y, boxes), {"c1": 6, "tower": 5, "second": 5, "fc": 6}


def pyramid_pooling(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """ASPP: dilated branches and the picture's mean, joined."""
    c1 = b.conv("c1", "x", 3, 6, 3)
    branches = [b.conv("a0", c1, 6, 4)]
    for i, rate in enumerate((2, 3)):
        branches.append(b.conv(f"a{i + 1}", c1, 6, 4, 3, dilations=[rate] * 2, pads=[rate] * 4))
    pooled = b.conv("pool", b.op("GlobalAveragePool", c1), 6, 4)
    branches.append(b.op("Resize", pooled, "", "", b.ints(N, 4, 8, 8), mode="linear"))
    y = b.conv("classes", b.conv("project", b.join(*branches), 16, 5), 5, 3, act="")
    grown = b.op("Resize", y, "", "", b.ints(N, 3, 16, 16), mode="linear")
    return b.finish(grown), {"c1": 6, "a0": 4, "a1": 4, "a2": 4, "pool": 4, "project": 5}


def super_resolution(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """Pixel shuffle, as a node and spelled out; whole blocks of channels go."""
    c1 = b.conv("c1", "x", 3, 5, 3)
    wide = b.conv("wide", c1, 5, 16, 3, act="")
    grown = b.op("Relu", b.op("DepthToSpace", wide, blocksize=2, mode="CRD"))
    again = b.conv("again", grown, 4, 12, 3, act="")
    spelled = b.turn(b.shape(again, N, 3, 2, 2, 16, 16), 0, 1, 4, 2, 5, 3)
    y = b.conv("last", b.shape(spelled, N, 3, 32, 32), 3, 3, 3, act="")
    return b.finish(y), {"c1": 5, "wide": 4, "again": 3}


def dense(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """DenseNet: each layer reads all before it, each with a scale of its own."""
    x, n, groups = b.conv("stem", "x", 3, 4, 3), 4, {"stem": 4}
    for i in range(3):
        scaled = b.op("Relu", b.op("Mul", x, b.weight(f"scale{i}", n, 1, 1)))
        x = b.join(x, b.conv(f"new{i}", b.conv(f"inner{i}", scaled, n, 6), 6, 3, 3, act=""))
        groups |= {f"inner{i}": 6, f"new{i}": 3}
        n += 3
    return b.finish(b.conv("last", x, n, 5, act="")), groups


def res2net(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """A hierarchy of four parts between two products, with a residual."""
    stem = b.conv("stem", "x", 3, 6, 3)
    parts = b.parts(b.conv("in", stem, 6, 12), 3, 3, 3, 3)
    done = [parts[0]]
    for i, part in enumerate(parts[1:]):
        done.append(b.conv(f"k{i}", b.op("Add", part, done[-1]) if i else part, 3, 3, 3))
    y = b.op("Add", stem, b.conv("out", b.join(*done), 12, 6, act=""))
    return b.finish(b.conv("last", y, 6, 4, act="")), {"stem": 6, "in": 3, "in:2": 3, "in:3": 3, "in:4": 3, "k2": 3}


def cross_stage(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """CSP: one half goes through residual blocks, the other by."""
    stem = b.conv("stem", "x", 3, 8, 3)
    through, by = b.parts(stem, 4, 4)
    for i in range(2):
        through = b.op("Add", through, b.conv(f"b{i}", b.conv(f"a{i}", through, 4, 3), 3, 4, 3))
    y = b.conv("merge", b.join(through, by), 8, 5)
    return b.finish(b.conv("last", y, 5, 4, act="")), {"stem": 4, "stem:2": 4, "a0": 3, "a1": 3, "merge": 5}


def shuffle_net(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """ShuffleNetV2: half the channels go through, then both halves are shuffled.

    Columns of a shuffle go together, in the half that goes by and in the one that goes through.
    """
    groups = {"stem": 4, "stem:2": 2, "stem:3": 2, "in0": 4, "in1": 4}
    x = b.conv("stem", "x", 3, 8, 3)
    for i in range(2):
        by, through = b.parts(x, 4, 4)
        inner = b.conv(f"depth{i}", b.conv(f"in{i}", through, 4, 4), 4, 4, 3, groups=4, act="")
        joined = b.join(by, b.conv(f"out{i}", inner, 4, 4))
        x = b.shape(b.turn(b.shape(joined, N, 2, 4, 8, 8), 0, 2, 1, 3, 4), N, 8, 8, 8)
    return b.finish(b.conv("last", x, 8, 4, act="")), groups


def split_attention(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """ResNeSt: a softmax over two branches of a grouped convolution."""
    radix, width = 2, 4
    stem = b.conv("stem", "x", 3, 6, 3)
    wide = b.shape(b.conv("wide", stem, 6, radix * width, 3), N, radix, width, 8, 8)
    pooled = b.op("GlobalAveragePool", b.reduce("ReduceSum", wide, 1, keep=False))
    scores = b.conv("fc2", b.conv("fc1", pooled, width, 3), 3, radix * width, act="")
    gate = b.op("Softmax", b.turn(b.shape(scores, N, 1, radix, width), 0, 2, 1, 3), axis=1)
    weighed = b.op("Mul", wide, b.shape(gate, N, radix, width, 1, 1))
    y = b.op("Add", stem, b.conv("out", b.reduce("ReduceSum", weighed, 1, keep=False), width, 6, act=""))
    return b.finish(b.conv("last", y, 6, 4, act="")), {"stem": 6, "wide": 2, "wide:2": 4, "fc1": 3}


def selective_kernels(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """SKNet: branches stacked on a new axis and weighed by a softmax over it."""
    stem = b.conv("stem", "x", 3, 6, 3)
    branches = [b.conv(f"b{i}", stem, 6, 5, k) for i, k in enumerate((1, 3))]
    stacked = b.join(*(b.op("Unsqueeze", x, b.ints(1)) for x in branches), axis=1)
    pooled = b.op("GlobalAveragePool", b.reduce("ReduceSum", stacked, 1, keep=False))
    squeezed = b.conv("fc", pooled, 5, 3)
    scores = b.join(*(b.op("Unsqueeze", b.conv(f"s{i}", squeezed, 3, 5, act=""), b.ints(1)) for i in range(2)), axis=1)
    y = b.reduce("ReduceSum", b.op("Mul", stacked, b.op("Softmax", scores, axis=1)), 1, keep=False)
    return b.finish(b.conv("last", y, 5, 4, act="")), {"stem": 6, "b0": 5, "fc": 3}


def dual_path(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """DPN: some channels are added up, others appended."""
    summed, dense_path, n = b.conv("r", "x", 3, 5, 3), b.conv("d", "x", 3, 2, 3), 2
    groups = {"r": 5, "d": 2}
    for i in range(2):
        inner = b.conv(f"in{i}", b.join(summed, dense_path), 5 + n, 4, 3)
        more, new = b.parts(b.conv(f"out{i}", inner, 4, 7, act=""), 5, 2)
        summed, dense_path, n = b.op("Add", summed, more), b.join(dense_path, new), n + 2
        groups |= {f"in{i}": 4, f"out{i}": 2}
    return b.finish(b.conv("last", b.join(summed, dense_path), 5 + n, 4, act="")), groups


def high_resolution(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """HRNet: two resolutions, each gets what the other has."""
    stem = b.conv("stem", "x", 3, 4, 3)
    fine, coarse = b.conv("f", stem, 4, 4, 3), b.conv("c", stem, 4, 6, 3, strides=[2, 2])
    for i in range(2):
        down = b.conv(f"down{i}", fine, 4, 6, 3, act="", strides=[2, 2])
        risen = b.up(b.conv(f"up{i}", coarse, 6, 4, act=""))
        fine, coarse = b.op("Relu", b.op("Add", fine, risen)), b.op("Relu", b.op("Add", coarse, down))
    y = b.conv("last", b.join(fine, b.up(coarse)), 10, 4, act="")
    return b.finish(y), {"stem": 4, "f": 4, "c": 6}


def generator(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """GAN: a vector is reshaped to a picture and grown by transposed convolutions."""
    vector = b.op("Flatten", b.op("GlobalAveragePool", "x"))
    small = b.op("Relu", b.shape(b.linear("fc", vector, 3, 6 * 4), N, 6, 2, 2))
    for name, n_in, n_out in (("t1", 6, 5), ("t2", 5, 4)):
        weight, bias = b.weight(name, n_in, n_out, 4, 4), b.param(n_out)
        grown = b.op("ConvTranspose", small, weight, bias, strides=[2, 2], pads=[1] * 4)
        small = b.op("LeakyRelu", b.op("InstanceNormalization", grown, b.param(n_out, positive=True), b.param(n_out)))
    y = b.op("Tanh", b.op("ConvTranspose", small, b.weight("rgb", 4, 3, 4, 4), strides=[2, 2], pads=[1] * 4))
    return b.finish(y), {"fc": 6, "t1": 5, "t2": 4}


def autoencoder(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """A code between two products, reshaped to a picture behind it."""
    e = b.conv("e2", b.conv("e1", "x", 3, 4, 3, strides=[2, 2]), 4, 6, 3, strides=[2, 2])
    code = b.op("Relu", b.linear("code", b.shape(e, N, -1), 24, 5))
    back = b.op("Relu", b.shape(b.linear("back", code, 5, 24), N, 6, 2, 2))
    d = b.op("Relu", b.op("ConvTranspose", back, b.weight("d1", 6, 4, 2, 2), strides=[2, 2]))
    y = b.op("ConvTranspose", d, b.weight("d2", 4, 3, 2, 2), strides=[2, 2])
    return b.finish(y), {"e1": 4, "e2": 6, "code": 5, "back": 6, "d1": 4}


def optical_flow(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """All products of two feature maps, looked up near each place, and a warp by the flow found."""
    left = b.conv("f2", b.conv("f1", "x", 3, 6, 3), 6, 5, 3, act="")
    right = b.conv("g2", b.conv("g1", b.op("Neg", "x"), 3, 6, 3), 6, 5, 3, act="")
    rows = b.turn(b.shape(left, N, 5, 64), 0, 2, 1)
    volume = b.shape(b.op("MatMul", rows, b.shape(right, N, 5, 64)), N, 64, 8, 8)
    motion = b.conv("motion", volume, 64, 4, 3)
    flow = b.op("Tanh", b.conv("flow", motion, 4, 2, 3, act=""))
    warped = b.op("GridSample", right, b.turn(flow, 0, 2, 3, 1), mode="bilinear")
    y = b.conv("last", b.join(warped, motion), 9, 2, act="")
    return b.finish(y), {"f1": 6, "f2": 5, "g1": 6, "motion": 4}


def spatial_transformer(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """The network turns its own features before it reads them."""
    features = b.conv("c1", "x", 3, 5, 3)
    inner = b.conv("l1", b.down(features), 5, 4, 3)
    theta = b.linear("theta", b.op("Flatten", b.op("GlobalAveragePool", inner)), 4, 6)
    grid = b.op("AffineGrid", b.shape(theta, N, 2, 3), b.ints(N, 5, 8, 8))
    y = b.conv("last", b.op("GridSample", features, grid), 5, 4, act="")
    return b.finish(y), {"c1": 5, "l1": 4}


def focus(b: Net) -> tuple[onnx.ModelProto, Groups]:
    """Strided slices of the picture, then of features (patch merging)."""

    def corners(x: str) -> str:
        places = [(i, j) for j in (0, 1) for i in (0, 1)]
        ends, axes, steps = b.ints(1000, 1000), b.ints(2, 3), b.ints(2, 2)
        return b.join(*(b.op("Slice", x, b.ints(i, j), ends, axes, steps) for i, j in places))

    c1 = b.conv("c1", corners("x"), 12, 5, 3)
    y = b.conv("c2", corners(c1), 20, 6, act="")
    return b.finish(b.conv("last", y, 6, 4, act="")), {"c1": 5, "c2": 6}


TOPOLOGIES: dict[str, Callable[[Net], tuple[onnx.ModelProto, Groups]]] = {
    make.__name__: make
    for make in (
        feature_pyramid, weighted_pyramid, unet, yolo, distribution_head, detections, pyramid_pooling,
        super_resolution, dense, res2net, cross_stage, shuffle_net, split_attention, selective_kernels, dual_path,
        high_resolution, generator, autoencoder, optical_flow, spatial_transformer, focus,
    )
}  # fmt: skip
