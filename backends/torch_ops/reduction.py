"""Reductions along axes, and softmax."""

from __future__ import annotations

import numpy as np

from amcc.backends.torch_ops.writer import Emitter, Table, Writer, call, nested, spelled
from amcc.ir import Node

# `{over}` is the axes and keepdim.
REDUCE = {
    "ReduceL1": "{x}.abs().sum({over})",
    "ReduceL2": "{x}.square().sum({over}).sqrt()",
    "ReduceLogSum": "{x}.sum({over}).log()",
    "ReduceLogSumExp": "{x}.logsumexp({over})",
    "ReduceMax": "{x}.amax({over})",
    "ReduceMean": "{x}.mean({over})",
    "ReduceMin": "{x}.amin({over})",
    "ReduceProd": "{x}.prod({over})",
    "ReduceSum": "{x}.sum({over})",
    "ReduceSumSquare": "{x}.square().sum({over})",
}

# Over no axes: of each element by itself.
ALONE = {
    "ReduceL1": "{x}.abs()",
    "ReduceL2": "{x}.abs()",
    "ReduceLogSum": "{x}.log()",
    "ReduceSumSquare": "{x}.square()",
}


def _axes(w: Writer, node: Node) -> list[int] | str:
    """The axes of a reduction, ascending, or the code that knows them; [] for none."""
    computed = node.input(1) and w.constant(node, 1) is None
    if computed and w.shape(node, 1) != (0,):
        if not isinstance(w.shape(node, 1)[0], int):
            raise w.unsupported(node, "over a number of axes known only at run time")
        return f"{w.tensor(node, 1)}.tolist()"
    rank, axes = w.rank(node), None if computed else w.ints(node, "axes", 1)
    if not axes:
        axes = [] if w.flag(node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes)


def _reduce(op: str) -> Emitter:
    def emit(w: Writer, node: Node) -> str:
        x, axes, dtype = w.tensor(node, 0), _axes(w, node), w.dtype(node)
        if not axes:
            return ALONE.get(op, "{x}").format(x=x)
        if op == "ReduceMean" and dtype[0] in "ui":
            raise w.unsupported(node, "of integers")
        if op in LIMITS and 0 in w.shape(node):
            x = call(
                w.helper("with_limit"), x, nested(np.array(axes)) if isinstance(axes, list) else axes, _limit(op, dtype)
            )
        keep = ", keepdim=True" if w.flag(node, "keepdims", 1) else ""
        if op == "ReduceProd" and len(axes) != 1:
            many = axes if isinstance(axes, str) else nested(np.array(axes))
            text = call(w.helper("prod"), x, many, str(bool(keep)))
        else:
            over = axes if isinstance(axes, str) else str(axes[0]) if len(axes) == 1 else spelled(axes)
            text = REDUCE[op].format(x=x, over=over + keep)
        return f"{text}.to({x}.dtype)" if dtype[0] in "ui" and dtype != "int64" else text

    return emit


LIMITS = {"ReduceMax": ("-inf", "min"), "ReduceMin": ("inf", "max")}


def _limit(op: str, dtype: str) -> str:
    """The largest or smallest of no elements."""
    infinite, bound = LIMITS[op]
    if dtype == "bool":
        return str(bound == "max")
    return f"torch.iinfo(torch.{dtype}).{bound}" if dtype[0] in "iu" else f'float("{infinite}")'


def _arg(name: str) -> Emitter:
    """The first index among equals, or the last: the first from behind."""

    def emit(w: Writer, node: Node) -> str:
        x, axis = w.tensor(node, 0), w.integer(node, "axis", 0)
        keep = ", keepdim=True" if w.flag(node, "keepdims", 1) else ""
        if w.flag(node, "select_last_index", 0):
            return f"{x}.shape[{axis}] - 1 - {x}.flip({axis}).{name}({axis}{keep})"
        return f"{x}.{name}({axis}{keep})"

    return emit


def _softmax(function: str) -> Emitter:
    """Before operator set 13, over everything from the axis on."""

    def emit(w: Writer, node: Node) -> str:
        x, rank, old = w.tensor(node, 0), w.rank(node), w.graph.opset < 13
        axis = w.integer(node, "axis", 1 if old else -1)
        if old and axis % rank != rank - 1:
            return f"{function}({x}.flatten({axis}), -1).reshape({x}.shape)"
        return f"{function}({x}, {axis})"

    return emit


def _hardmax(w: Writer, node: Node) -> str:
    x = w.tensor(node, 0)
    if w.graph.opset < 13:
        axis = w.integer(node, "axis", 1)
        flat = f"{x}.flatten({axis})"
        return f"F.one_hot({flat}.argmax(-1), {flat}.shape[-1]).to({x}.dtype).reshape({x}.shape)"
    axis = w.integer(node, "axis", -1)
    return f"F.one_hot({x}.argmax({axis}), {x}.shape[{axis}]).to({x}.dtype).movedim(-1, {axis})"


EMITTERS: Table = {
    **{op: _reduce(op) for op in REDUCE},
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "Hardmax": _hardmax,
    "LogSoftmax": _softmax("F.log_softmax"),
    "Softmax": _softmax("F.softmax"),
}
