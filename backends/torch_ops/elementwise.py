"""Operators that work element by element."""

from __future__ import annotations

from functools import reduce

from amcc.backends.torch_ops.writer import UNSIGNED, Emitter, Table, Writer, call
from amcc.ir import Node

UNARY = {
    "Abs": "{x}.abs()",
    "Acos": "{x}.acos()",
    "Acosh": "{x}.acosh()",
    "Asin": "{x}.asin()",
    "Asinh": "{x}.asinh()",
    "Atan": "{x}.atan()",
    "Atanh": "{x}.atanh()",
    "BitwiseNot": "{x}.bitwise_not()",
    "Ceil": "{x}.ceil()",
    "Cos": "{x}.cos()",
    "Cosh": "{x}.cosh()",
    "Erf": "{x}.erf()",
    "Exp": "{x}.exp()",
    "Floor": "{x}.floor()",
    "HardSwish": "F.hardswish({x})",
    "Identity": "{x}",
    "IsNaN": "{x}.isnan()",
    "Det": "torch.linalg.det({x})",
    "Log": "{x}.log()",
    "Mish": "F.mish({x})",
    "Neg": "-{x}",
    "Not": "{x}.logical_not()",
    "Reciprocal": "{x}.reciprocal()",
    "Relu": "F.relu({x})",
    "Round": "{x}.round()",
    "Sigmoid": "torch.sigmoid({x})",
    "Sign": "{x}.sign()",
    "Sin": "{x}.sin()",
    "Sinh": "{x}.sinh()",
    "Softplus": "F.softplus({x})",
    "Softsign": "F.softsign({x})",
    "Sqrt": "{x}.sqrt()",
    "Tan": "{x}.tan()",
    "Tanh": "torch.tanh({x})",
}

INFIX = {
    "Add": "+",
    "And": "&",
    "BitwiseAnd": "&",
    "BitwiseOr": "|",
    "BitwiseXor": "^",
    "Mul": "*",
    "Or": "|",
    "Sub": "-",
    "Xor": "^",
}

COMPARISONS = {"Greater": ">", "GreaterOrEqual": ">=", "Less": "<", "LessOrEqual": "<="}

# The same for all integers of as many bits.
_MODULAR = frozenset({"Add", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Mul", "Sub"})

# What takes unsigned integers of 16 bits and more.
WIDENED = frozenset("Abs BitShift BitwiseNot Clip Div Max Min Mod Pow Sign".split()) | {*INFIX, *COMPARISONS}


def _template(text: str) -> Emitter:
    return lambda w, node: _back(w, node, text.format(x=_wide(w, node, 0)))


def _infix(sign: str) -> Emitter:
    return lambda w, node: _back(w, node, f"{_wide(w, node, 0)} {sign} {_wide(w, node, 1)}")


def _comparison(sign: str) -> Emitter:
    return lambda w, node: f"{_wide(w, node, 0)} {sign} {_wide(w, node, 1)}"


def _wide(w: Writer, node: Node, index: int, *, plain: bool = False) -> str:
    """An operand; unsigned integers of 16 bits and more as int64, with which PyTorch computes.

    Args:
        plain: a tensor even if it is a number.
    """
    if w.dtype(node, index) not in UNSIGNED:
        return w.tensor(node, index) if plain else w.operand(node, index)
    if w.dtype(node, index) == "uint64" and node.op not in _MODULAR:
        raise w.unsupported(node, "of uint64")
    return (None if plain else w.number(node, index)) or f"{w.tensor(node, index)}.to(torch.int64)"


def _back(w: Writer, node: Node, code: str) -> str:
    """A result of `_wide` operands in its own type."""
    return f"({code}).to({w.torch_dtype(w.dtype(node))})" if w.dtype(node) in UNSIGNED else code


def _div(w: Writer, node: Node) -> str:
    """Integer division goes towards zero."""
    if w.dtype(node)[:3] in ("int", "uin"):
        code = f'torch.div({_wide(w, node, 0, plain=True)}, {_wide(w, node, 1)}, rounding_mode="trunc")'
        return _back(w, node, code)
    return f"{w.operand(node, 0)} / {w.operand(node, 1)}"


def _mod(w: Writer, node: Node) -> str:
    function = "torch.fmod" if w.flag(node, "fmod", 0) else "torch.remainder"
    return _back(w, node, call(function, _wide(w, node, 0, plain=True), _wide(w, node, 1)))


def _pow(w: Writer, node: Node) -> str:
    """The result has the type of the base."""
    power = f"torch.pow({_wide(w, node, 0)}, {_wide(w, node, 1)})"
    same = w.dtype(node, 0) == w.dtype(node, 1) and w.dtype(node, 0) not in UNSIGNED
    return power if same else f"{power}.to({w.torch_dtype(w.dtype(node, 0))})"


def _extreme(pairwise: str, bound: str) -> Emitter:
    """Max or Min: one number is a bound of `clamp`, tensors are compared in turn."""

    def emit(w: Writer, node: Node) -> str:
        numbers = [w.number(node, i) for i in range(len(node.inputs))]
        if len(numbers) == 2 and (numbers[0] is None) != (numbers[1] is None):
            x = _wide(w, node, int(numbers[0] is not None), plain=True)
            return _back(w, node, f"{x}.clamp({bound}={numbers[0] or numbers[1]})")
        if len(node.inputs) == 1:
            return w.tensor(node, 0)
        tensors = [_wide(w, node, i, plain=True) for i in range(len(node.inputs))]
        return _back(w, node, reduce(lambda a, b: f"torch.{pairwise}({a}, {b})", tensors))

    return emit


def _tensors(w: Writer, node: Node) -> list[str]:
    return [w.tensor(node, i) for i in range(len(node.inputs))]


def _sum(w: Writer, node: Node) -> str:
    return " + ".join(_tensors(w, node))


def _mean(w: Writer, node: Node) -> str:
    return f"({_sum(w, node)}) / {len(node.inputs)}"


def _clip(w: Writer, node: Node) -> str:
    """Two numbers or two tensors: `clamp` takes no mixture."""
    x = _wide(w, node, 0, plain=True)
    bounds: dict[str, str | None] = {name: w.real(node, name, 0) for name in ("min", "max") if name in node.attributes}
    given = {name: index for index, name in enumerate(("min", "max"), start=1) if node.input(index)}
    if given:
        bounds = {name: w.number(node, index) for name, index in given.items()}
    if None in bounds.values():
        bounds = {name: _wide(w, node, index, plain=True) for name, index in given.items()}
    if list(bounds.values()) == ["0.0", "6.0"]:
        return f"F.relu6({x})"
    return _back(w, node, call(f"{x}.clamp", **bounds)) if bounds else w.tensor(node, 0)


def _rectifier(function: str, default: float, *more: str) -> Emitter:
    return lambda w, node: call(function, w.tensor(node, 0), w.real(node, "alpha", default), *more)


_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


def _selu(w: Writer, node: Node) -> str:
    alpha, gamma = w.real(node, "alpha", _SELU[0]), w.real(node, "gamma", _SELU[1])
    x = w.tensor(node, 0)
    standard = abs(float(alpha) - _SELU[0]) < 1e-6 and abs(float(gamma) - _SELU[1]) < 1e-6
    return f"F.selu({x})" if standard else f"{gamma} * F.elu({x}, {alpha})"


def _gelu(w: Writer, node: Node) -> str:
    tanh = w.text(node, "approximate", "none") == "tanh"
    return call("F.gelu", w.tensor(node, 0), approximate='"tanh"' if tanh else None)


def _hard_sigmoid(w: Writer, node: Node) -> str:
    alpha, beta, x = w.real(node, "alpha", 0.2), w.real(node, "beta", 0.5), w.tensor(node, 0)
    if abs(float(alpha) - 1 / 6) < 1e-7 and float(beta) == 0.5:
        return f"F.hardsigmoid({x})"
    return f"({alpha} * {x} + {beta}).clamp(min=0.0, max=1.0)"


def _shrink(w: Writer, node: Node) -> str:
    bias, limit, x = w.real(node, "bias", 0.0), w.real(node, "lambd", 0.5), w.tensor(node, 0)
    return f"torch.where({x} < -{limit}, {x} + {bias}, torch.where({x} > {limit}, {x} - {bias}, 0.0))"


def _swish(w: Writer, node: Node) -> str:
    alpha, x = w.real(node, "alpha", 1.0), w.tensor(node, 0)
    return f"F.silu({x})" if alpha == "1.0" else f"{x} * torch.sigmoid({alpha} * {x})"


def _where(w: Writer, node: Node) -> str:
    both = w.number(node, 1) is not None and w.number(node, 2) is not None
    chosen = w.tensor(node, 1) if both else w.operand(node, 1)  # two numbers would lose the element type
    return call("torch.where", w.tensor(node, 0), chosen, w.operand(node, 2))


def _bit_shift(w: Writer, node: Node) -> str:
    sign = "<<" if w.text(node, "direction", "LEFT") == "LEFT" else ">>"
    return _back(w, node, f"{_wide(w, node, 0)} {sign} {_wide(w, node, 1)}")


def _bit_cast(w: Writer, node: Node) -> str:
    return f"{w.tensor(node, 0)}.view({w.asked_dtype(node, 'to')})"


def _cast(w: Writer, node: Node) -> str:
    return f"{w.tensor(node, 0)}.to({w.asked_dtype(node, 'to')})"


def _cast_like(w: Writer, node: Node) -> str:
    dtype = w.torch_dtype(w.dtype(node, 1)) if w.dtype(node, 1) else f"{w.tensor(node, 1)}.dtype"
    return f"{w.tensor(node, 0)}.to({dtype})"


def _dropout(w: Writer, node: Node) -> str:
    """Active in training, as in the source."""
    mode = w.constant(node, 2)
    if node.input(2) and (mode is None or mode.any()):
        raise w.unsupported(node, "in training mode, or in one that is computed,")
    ratio = w.operand(node, 1) if node.input(1) else w.real(node, "ratio", 0.5)
    ratio = ratio if w.number(node, 1) or not node.input(1) else f"float({ratio})"
    x = w.tensor(node, 0)
    y = f"F.dropout({x}, {ratio}, self.training)"
    if len(node.outputs) > 1 and w.used(node.outputs[1]):
        return w.several(node, f"({y}, torch.ones_like({x}, dtype=torch.bool))", 2)
    return y


def _swiglu(w: Writer, node: Node) -> str:
    return f"{_swish(w, node)} * {w.tensor(node, 1)}"


def _is_inf(w: Writer, node: Node) -> str:
    x = w.tensor(node, 0)
    positive, negative = w.flag(node, "detect_positive", 1), w.flag(node, "detect_negative", 1)
    if positive and negative:
        return f"{x}.isinf()"
    return f"{x}.isposinf()" if positive else f"{x}.isneginf()" if negative else f"torch.zeros_like({x}).bool()"


EMITTERS: Table = {
    **{op: _template(text) for op, text in UNARY.items()},
    **{op: _infix(sign) for op, sign in INFIX.items()},
    **{op: _comparison(sign) for op, sign in COMPARISONS.items()},
    "BitCast": _bit_cast,
    "BitShift": _bit_shift,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Celu": _rectifier("F.celu", 1.0),
    "Clip": _clip,
    "Div": _div,
    "Dropout": _dropout,
    "Equal": lambda w, node: f"{w.operand(node, 0)} == {w.operand(node, 1)}",
    "Elu": _rectifier("F.elu", 1.0),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "IsInf": _is_inf,
    "LeakyRelu": _rectifier("F.leaky_relu", 0.01),
    "Max": _extreme("maximum", "min"),
    "Mean": _mean,
    "Min": _extreme("minimum", "max"),
    "Mod": _mod,
    "Pow": _pow,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sum": _sum,
    "SwiGLU": _swiglu,
    "Swish": _swish,
    "ThresholdedRelu": _rectifier("F.threshold", 1.0, "0.0"),
    "Where": _where,
}
