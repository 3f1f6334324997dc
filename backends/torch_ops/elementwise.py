"""Operators that work element by element."""

from __future__ import annotations

from functools import reduce

from amcc.backends.torch_ops.writer import Emitter, Table, Writer, call
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
    "Equal": "==",
    "Greater": ">",
    "GreaterOrEqual": ">=",
    "Less": "<",
    "LessOrEqual": "<=",
    "Mul": "*",
    "Or": "|",
    "Sub": "-",
    "Xor": "^",
}


def _template(text: str) -> Emitter:
    return lambda w, node: text.format(x=w.tensor(node, 0))


def _infix(sign: str) -> Emitter:
    return lambda w, node: f"{w.operand(node, 0)} {sign} {w.operand(node, 1)}"


def _div(w: Writer, node: Node) -> str:
    """Integer division goes towards zero."""
    if w.dtype(node)[:3] in ("int", "uin"):
        return f'torch.div({w.tensor(node, 0)}, {w.operand(node, 1)}, rounding_mode="trunc")'
    return f"{w.operand(node, 0)} / {w.operand(node, 1)}"


def _mod(w: Writer, node: Node) -> str:
    function = "torch.fmod" if w.flag(node, "fmod", 0) else "torch.remainder"
    return call(function, w.tensor(node, 0), w.operand(node, 1))


def _pow(w: Writer, node: Node) -> str:
    """The result has the type of the base."""
    power = f"torch.pow({w.operand(node, 0)}, {w.operand(node, 1)})"
    same = w.dtype(node, 0) == w.dtype(node, 1)
    return power if same else f"{power}.to({w.torch_dtype(w.dtype(node, 0))})"


def _extreme(pairwise: str, bound: str) -> Emitter:
    """Max or Min: one number is a bound of `clamp`, tensors are compared in turn."""

    def emit(w: Writer, node: Node) -> str:
        numbers = [w.number(node, i) for i in range(len(node.inputs))]
        if len(numbers) == 2 and (numbers[0] is None) != (numbers[1] is None):
            x = w.tensor(node, int(numbers[0] is not None))
            return f"{x}.clamp({bound}={numbers[0] or numbers[1]})"
        return reduce(lambda a, b: f"torch.{pairwise}({a}, {b})", _tensors(w, node))

    return emit


def _tensors(w: Writer, node: Node) -> list[str]:
    return [w.tensor(node, i) for i in range(len(node.inputs))]


def _sum(w: Writer, node: Node) -> str:
    return " + ".join(_tensors(w, node))


def _mean(w: Writer, node: Node) -> str:
    return f"({_sum(w, node)}) / {len(node.inputs)}"


def _clip(w: Writer, node: Node) -> str:
    """Two numbers or two tensors: `clamp` takes no mixture."""
    x = w.tensor(node, 0)
    bounds: dict[str, str | None] = {name: w.real(node, name, 0) for name in ("min", "max") if name in node.attributes}
    given = {name: index for index, name in enumerate(("min", "max"), start=1) if node.input(index)}
    if given:
        bounds = {name: w.number(node, index) for name, index in given.items()}
    if None in bounds.values():
        bounds = {name: w.tensor(node, index) for name, index in given.items()}
    return call(f"{x}.clamp", **bounds) if bounds else x


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
    return f"{w.operand(node, 0)} {sign} {w.operand(node, 1)}"


def _cast(w: Writer, node: Node) -> str:
    from amcc.passes.protos import dtype_name

    dtype = w.torch_dtype(dtype_name(w.integer(node, "to", 0)))
    return f"{w.tensor(node, 0)}.to({dtype})"


def _cast_like(w: Writer, node: Node) -> str:
    dtype = w.torch_dtype(w.dtype(node, 1)) if w.dtype(node, 1) else f"{w.tensor(node, 1)}.dtype"
    return f"{w.tensor(node, 0)}.to({dtype})"


def _dropout(w: Writer, node: Node) -> str:
    """Active in training, as in the source."""
    ratio = w.operand(node, 1) if node.input(1) else w.real(node, "ratio", 0.5)
    return f"F.dropout({w.tensor(node, 0)}, {ratio}, self.training)"


def _is_inf(w: Writer, node: Node) -> str:
    x = w.tensor(node, 0)
    positive, negative = w.flag(node, "detect_positive", 1), w.flag(node, "detect_negative", 1)
    if positive and negative:
        return f"{x}.isinf()"
    return f"{x}.isposinf()" if positive else f"{x}.isneginf()" if negative else f"torch.zeros_like({x}).bool()"


EMITTERS: Table = {
    **{op: _template(text) for op, text in UNARY.items()},
    **{op: _infix(sign) for op, sign in INFIX.items()},
    "BitShift": _bit_shift,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Celu": _rectifier("F.celu", 1.0),
    "Clip": _clip,
    "Div": _div,
    "Dropout": _dropout,
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
    "Swish": _swish,
    "ThresholdedRelu": _rectifier("F.threshold", 1.0, "0.0"),
    "Where": _where,
}
