"""Quantisation: between floats and integers, and operators that compute with integers.

Integer weights are cut like floats. What stands for zero in an integer operand is its zero point, and that is
what a masked network reads there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Node
from amcc.passes.rules import indexing, linear, mixing, pointwise
from amcc.passes.rules.borrow import along_last, borrowed, together
from amcc.passes.rules.convolution import Convolution
from amcc.passes.rules.rule import Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation


def _relate_linear(r: Relation, node: Node) -> None:
    """Scale and zero point: one for all, one for each index of `axis`, or one for each block along it."""
    x, y = node.inputs[0], node.outputs[0]
    for param in filter(None, node.inputs[1:3]):
        if r.rank(param) == r.rank(x) > 0 and node.attributes.get("block_size", 0):
            _relate_blocks(r, node, param)
        elif r.rank(param) and r.shape(param)[0] != 1:
            axis = _axis(node, r.rank(x))
            r.same(r.axis(x, axis), r.axis(param, 0), (param, 0))
    r.set(y, r.all_axes(x))


def _relate_blocks(r: Relation, node: Node, param: str) -> None:
    """Scales have the data's shape with `axis` shorter by the block size: it is cut in whole blocks."""
    x, size = node.inputs[0], node.attributes["block_size"]
    assert isinstance(size, int)
    along = _axis(node, r.rank(x))
    for axis, length in enumerate(r.shape(x)):
        blocks = r.axis(param, axis)
        if axis == along and blocks is not None and isinstance(length, int):
            blocks = np.repeat(blocks, size)[:length]
        r.same(r.axis(x, axis), blocks, (param, axis), "quantised in blocks")


def _axis(node: Node, rank: int) -> int:
    axis = node.attributes.get("axis", 1)
    assert isinstance(axis, int)
    return axis % rank if rank else 0


def _relate_dynamic(r: Relation, node: Node) -> None:
    """Scale and zero point follow from the smallest and largest element of all."""
    x = node.inputs[0]
    _over_all(r, node)
    for output, axes in zip(node.outputs, (r.all_axes(x), [], []), strict=False):
        if output:
            r.set(output, axes)


def _over_all(r: Relation, node: Node) -> None:
    x = node.inputs[0]
    for axis in range(r.rank(x)):
        r.inexact(r.axis(x, axis), (x, axis), f"{node.op} takes the range over this axis")


def _along_rows(*indices: int) -> Callable[[Relation, Node], None]:
    """Vectors with one number for each index of the result's axis -2, or one for all."""

    def more(r: Relation, node: Node) -> None:
        y = node.outputs[0]
        for param in filter(None, map(node.input, indices)):
            if r.rank(param) and r.rank(y) > 1:
                back = 1 if r.rank(param) == 1 else 2
                if r.shape(param)[-back] != 1:
                    r.same(r.axis(y, -2), r.axis(param, -back), (param, r.rank(param) - back))

    return more


def _zeros(rule: Rule, points: Mapping[int, int]) -> Rule:
    """The rule, with the positions of the zero points of its operands."""
    return dataclasses.replace(rule, zeros=points)


def _matmul(a: int, b: int, *, rows: tuple[int, ...], columns: tuple[int, ...], zero: int = -1) -> Rule:
    """A product with parameters for each row of A, or each column of B."""
    rule = borrowed("MatMul", linear.RULES["MatMul"], a, b, more=together(_along_rows(*rows), along_last(*columns)))
    return _zeros(rule, {a: zero} if zero >= 0 else {})


def _ranged(rule: Rule) -> Rule:
    """Data are floats, quantised on the way by the range of all of them."""

    def relate(r: Relation, node: Node) -> None:
        _over_all(r, node)
        rule.relate(r, node)

    return dataclasses.replace(rule, relate=relate)


def _relate_concat(r: Relation, node: Node) -> None:
    """Scale and zero point of the result, then data, scale and zero point of each input."""
    indexing.RULES["Concat"].relate(r, node.replace(op="Concat", inputs=node.inputs[2::3]))


def _relate_pool(r: Relation, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    along = r.rank(x) - 1 if node.attributes.get("channels_last", 0) else 1
    r.set(y, [r.axis(x, a) if a in (0, along) else None for a in range(r.rank(y))])


def _relate_last(r: Relation, node: Node) -> None:
    x = node.inputs[0]
    r.set(node.outputs[0], [r.axis(x, 0), *[None] * (r.rank(x) - 2), r.axis(x, -1)])


_LINEAR = Rule(_relate_linear, periodic=True)
_CONVOLUTION = _zeros(Convolution(x=0, weight=3, bias=8, per_output=(4, 5)).rule(), {0: 2})
_QGEMM = borrowed("Gemm", linear.RULES["Gemm"], 0, 3, 6, more=along_last(4, 5))
_NHWC_POOL = Rule(_relate_last)
_ADD = borrowed("Add", pointwise.RULES["Add"], 0, 3)
_UNARY = borrowed("Identity", pointwise.RULES["Identity"], 0)
_POOL = Rule(_relate_pool)

_STANDARD = {
    **table(("QuantizeLinear", "DequantizeLinear"), _LINEAR),
    "DynamicQuantizeLinear": Rule(_relate_dynamic),
    "ConvInteger": _zeros(Convolution(bias=-1, per_output=(3,)).rule(), {0: 2}),
    "MatMulInteger": _matmul(0, 1, rows=(2,), columns=(3,), zero=2),
    "QLinearConv": _CONVOLUTION,
    "QLinearMatMul": _matmul(0, 3, rows=(1, 2), columns=(4, 5), zero=2),
}
_MICROSOFT = {
    **table(("QuantizeLinear", "DequantizeLinear"), _LINEAR),
    "QLinearConv": _CONVOLUTION,
    "QGemm": _zeros(_QGEMM, {0: 2}),
    "DynamicQuantizeMatMul": _ranged(_matmul(0, 1, rows=(), columns=(2, 3, 4))),
    "MatMulIntegerToFloat": _matmul(0, 1, rows=(2, 4), columns=(3, 5, 6), zero=4),
    **table(("QLinearAdd", "QLinearMul"), _ADD),
    **table(("QLinearLeakyRelu", "QLinearSigmoid"), _UNARY),
    "QLinearSoftmax": borrowed("Softmax", mixing.RULES["Softmax"], 0),
    "QLinearConcat": Rule(_relate_concat),
    **table(("QLinearAveragePool", "QLinearGlobalAveragePool"), _POOL),
    "NhwcMaxPool": _NHWC_POOL,
}

RULES = {**_STANDARD, **{f"com.microsoft.{op}": rule for op, rule in _MICROSOFT.items()}}
