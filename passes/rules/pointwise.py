"""Operators that work index by index, with numpy's broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Node, Shape
from amcc.passes.rules.rule import Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


def relate(r: Relation, node: Node) -> None:
    """Aligned indices are equal; a dimension of 1 says nothing."""
    inputs = [(name, r.shape(name)) for name in node.inputs if name]
    for output in node.outputs:
        if output and r.graph.values[output].shape is not None:
            shape = r.shape(output)
            r.set(output, [_aligned(r, inputs, len(shape), axis) for axis in range(len(shape))])


def _aligned(r: Relation, inputs: list[tuple[str, Shape]], rank: int, axis: int) -> Axis:
    """The one axis that all inputs share at position `axis` of the output."""
    shared: list[tuple[Axis, tuple[str, int]]] = []
    for name, shape in inputs:
        own = axis - (rank - len(shape))
        if own >= 0:
            cuts = r.axis(name, own)
            if shape[own] != 1:
                shared.append((cuts, (name, own)))
    first = next((a for a, _ in shared if a is not None), None)
    for other, where in shared:
        r.same(first, other, where)
    return None if any(a is None for a, _ in shared) else first


def _relate_like(r: Relation, node: Node) -> None:
    """The second input lends its type alone."""
    r.all_axes(node.inputs[1])
    r.set(node.outputs[0], r.all_axes(node.inputs[0]))


_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitCast BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor "
    "Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
).split()
_BROADCAST = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or PRelu Pow Sub Sum Where Xor"
).split()

RULES = {**table([*_UNARY, *_BROADCAST], Rule(relate, periodic=True)), "CastLike": Rule(_relate_like, periodic=True)}
