"""Lengths of one tensor, read at run time, that spell another's or are computed with."""

from __future__ import annotations

import numpy as np

from tests.random_graphs.builder import Builder, Tensor


def _conv(b: Builder, x: str, n_in: int, n_out: int) -> str:
    return b.op("Conv", x, b.param(n_out, n_in, 1, 1), b.param(n_out))


def _lengths(b: Builder, x: str) -> str:
    """A tensor's shape, by one of many ways."""
    whole, ways = b.op("Shape", x), ["plain", "joined", "turned", "cast", "computed", "chosen"]
    way = str(b.random.choice(ways[: 4 if b.opset < 13 else 6]))
    if way == "joined":
        at = b.pick(1, 3)
        parts = (b.op("Slice", whole, b.ints(low), b.ints(high)) for low, high in ((0, at), (at, 4)))
        return b.op("Concat", *parts, axis=0)
    if way == "turned":
        order = b.random.permutation(4)
        turned = b.op("Gather", whole, b.ints(*order.tolist()))
        return b.op("Gather", turned, b.ints(*np.argsort(order).tolist()))
    if way == "cast":
        return b.op("Cast", b.op("Cast", whole, to=1), to=7)
    if way == "computed":
        return b.op("Div", b.op("Mul", whole, b.ints(3)), b.ints(3))
    if way == "chosen":
        return b.op("Where", b.op("Equal", whole, b.ints(-1)), b.ints(1, 1, 1, 1), whole)
    return whole


def _twin(b: Builder, x: Tensor) -> str:
    """A tensor of the same shape whose channels are its own; or of the same channels."""
    name, (_, c, _, _) = x
    return _conv(b, name, c, c) if b.pick(0, 2) else b.op("Neg", name)


def _put(b: Builder, y: str, twin: str, shape: tuple[int, ...]) -> None:
    """The result; what lent its lengths is read for its content as well."""
    gate = b.op("Sigmoid", b.reduce("ReduceSum", twin, 1, 2, 3))
    b.put(b.op("Add", y, gate), shape)


def filled(b: Builder, x: Tensor) -> None:
    """Ones in the shape of another, put beside the features."""
    name, (n, c, h, w) = x
    if c > 10:
        return
    twin = _twin(b, x)
    ones = b.op("ConstantOfShape", _lengths(b, twin), value=_one())
    _put(b, b.op("Concat", name, ones, axis=1), twin, (n, 2 * c, h, w))


def summed_up_and_spread(b: Builder, x: Tensor) -> None:
    """A sum over channels or space spread out to the shape of another."""
    name, shape = x
    total = b.reduce("ReduceSum", name, *([1] if b.pick(0, 1) else [2, 3]))
    twin = _twin(b, x)
    spread = b.op("Expand", total, _lengths(b, twin))
    _put(b, b.op("Add", spread, b.param(shape[1], 1, 1)), twin, shape)


def reshaped_like(b: Builder, x: Tensor) -> None:
    """Flattened, and given the shape of another again."""
    name, (n, c, h, w) = x
    twin = _twin(b, x)
    flat = b.reshape(name, n, c, h * w)
    _put(b, b.op("Reshape", flat, _lengths(b, twin)), twin, (n, c, h, w))


def resized_like(b: Builder, x: Tensor) -> None:
    """Pooled and as large as another again."""
    name, shape = x
    if b.opset < 11:
        return
    twin = _twin(b, x)
    _put(b, b.op("Resize", b.op("GlobalMaxPool", name), "", "", _lengths(b, twin), mode="nearest"), twin, shape)


def cut_out_like(b: Builder, x: Tensor) -> None:
    """As much of a padded tensor as another has."""
    name, shape = x
    if shape[1] > 10:
        return
    wide = b.op("Concat", name, name, axis=1)
    twin = _twin(b, x)
    _put(b, b.op("Slice", wide, b.ints(0, 0, 0, 0), _lengths(b, twin)), twin, shape)


def computed_with(b: Builder, x: Tensor) -> None:
    """Divided by lengths, or by the number of all elements."""
    name, shape = x
    other = _twin(b, x)
    if b.pick(0, 1):
        number = b.op("Cast", b.op("Size", other), to=1)
        _put(b, b.op("Div", name, b.op("Log", number)), other, shape)
    else:
        lengths = b.op("Cast", _lengths(b, other), to=1)
        last = b.op("Mul", b.reduce("ReduceSum", b.op("Sqrt", lengths), 0), b.param(1))
        _put(b, b.op("Mul", name, last), other, shape)


def heads_merged_with_the_batch(b: Builder, x: Tensor) -> None:
    """Lengths of which some are a multiple of the batch."""
    name, (n, c, h, w) = x
    heads, width = b.pick(2, 3), b.pick(1, 3)
    one, other = (b.reshape(_conv(b, name, c, heads * width), n * heads, width, h, w) for _ in range(2))
    way = b.pick(0, 2 if b.opset >= 11 else 1)
    if way == 0:
        other = b.op("Expand", b.reduce("ReduceSum", other, 1), _lengths(b, one))
    elif way == 1:
        other = b.op("Reshape", b.op("Relu", other), _lengths(b, one))
    else:
        other = b.op("Resize", b.op("GlobalMaxPool", other), "", "", _lengths(b, one), mode="nearest")
    y = b.op("Mul" if b.pick(0, 1) else "Sub", other, one)
    b.put(b.reshape(y, n, heads * width, h, w), (n, heads * width, h, w))


def _one() -> object:
    from onnx import helper

    return helper.make_tensor("value", 1, [1], [1.0])


GROWTHS = (
    filled, summed_up_and_spread, summed_up_and_spread, reshaped_like, resized_like, cut_out_like, computed_with,
    heads_merged_with_the_batch,
)  # fmt: skip
