"""Operators that pick elements, count them or make them up."""

from __future__ import annotations

import numpy as np

from amcc.backends.torch_ops.movement import FAR, sizes, span
from amcc.backends.torch_ops.names import quoted
from amcc.backends.torch_ops.writer import Table, Writer, call, nested, number, spelled
from amcc.ir import Node


def _gather(w: Writer, node: Node) -> str:
    x, rank = w.tensor(node, 0), w.rank(node)
    axis = w.integer(node, "axis", 0) % rank
    index = w.constant(node, 1)
    before = ":, " * axis
    if index is not None and index.ndim == 0:
        return f"{x}[{before}{int(index)}]"
    if index is not None and index.ndim == 1 and 0 < index.size <= 16:
        return f"{x}[{before}{nested(index)}]"
    if index is not None and index.ndim == 1 and (index >= 0).all():
        return f"{x}.index_select({axis}, {w.tensor(node, 1)})"
    return f"{w.helper('gather')}({x}, {axis}, {w.tensor(node, 1)})"


def _wrapped(w: Writer, node: Node) -> tuple[int, str]:
    """Axis and index of an operator along one axis; negative indices count from the end."""
    axis, index = w.integer(node, "axis", 0), w.constant(node, 1)
    if index is not None and (index >= 0).all():
        return axis, w.tensor(node, 1)
    return axis, f"{w.tensor(node, 1)} % {w.tensor(node, 0)}.shape[{axis}]"


def _gather_elements(w: Writer, node: Node) -> str:
    axis, index = _wrapped(w, node)
    return f"{w.tensor(node, 0)}.gather({axis}, {index})"


def _gather_nd(w: Writer, node: Node) -> str:
    if w.integer(node, "batch_dims", 0):
        raise w.unsupported(node, "with batch_dims")
    return f"{w.tensor(node, 0)}[tuple({w.tensor(node, 1)}.unbind(-1))]"


def _scatter_elements(w: Writer, node: Node) -> str:
    axis, index = _wrapped(w, node)
    x, update, reduction = w.tensor(node, 0), w.tensor(node, 2), w.text(node, "reduction", "none")
    if reduction == "none":
        return f"{x}.scatter({axis}, {index}, {update})"
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    if reduction not in names:
        raise w.unsupported(node, f"with reduction {quoted(reduction)}")
    return f'{x}.scatter_reduce({axis}, {index}, {update}, "{names[reduction]}")'


def _scatter_nd(w: Writer, node: Node) -> str:
    reduction = w.text(node, "reduction", "none")
    if reduction not in ("none", "add"):
        raise w.unsupported(node, f"with reduction {quoted(reduction)}")
    index = f"tuple({w.tensor(node, 1)}.unbind(-1))"
    accumulate = ", accumulate=True" if reduction == "add" else ""
    return f"{w.tensor(node, 0)}.index_put({index}, {w.tensor(node, 2)}{accumulate})"


def _shape(w: Writer, node: Node) -> str:
    begin, end = w.integer(node, "start", 0), w.integer(node, "end", FAR)
    part = "" if (begin, end) == (0, FAR) else f"[{span(begin, end, 1, '?')}]"
    return f"torch.tensor({w.tensor(node, 0)}.shape{part}, dtype=torch.int64, device={w.device()})"


def _size(w: Writer, node: Node) -> str:
    return f"torch.tensor({w.tensor(node, 0)}.numel(), device={w.device()})"


def _constant_of_shape(w: Writer, node: Node) -> str:
    value = node.attributes.get("value")
    array = value if isinstance(value, np.ndarray) else np.zeros(1, np.float32)
    out = w.output_shape(node)
    known = out is not None and all(isinstance(dim, int) for dim in out)
    shape = spelled(out) if known and out is not None else sizes(w, node, 0)
    dtype = w.torch_dtype(array.dtype.name)
    return f"torch.full({shape}, {number(array.reshape(-1)[0])}, dtype={dtype}, device={w.device()})"


def _arange(w: Writer, node: Node) -> str:
    parts = [w.constant(node, i) for i in range(3)]
    bounds = [f"{w.tensor(node, i)}.item()" if p is None else number(p.reshape(-1)[0]) for i, p in enumerate(parts)]
    return f"torch.arange({', '.join(bounds)}, dtype={w.torch_dtype(w.dtype(node))}, device={w.device()})"


def _einsum(w: Writer, node: Node) -> str:
    operands = [w.tensor(node, i) for i in range(len(node.inputs))]
    return call("torch.einsum", quoted(w.text(node, "equation", "")), *operands)


def _top_k(w: Writer, node: Node) -> str:
    k = w.constant(node, 1)
    count = str(int(k.reshape(-1)[0])) if k is not None else f"{w.tensor(node, 1)}.item()"
    if "k" in node.attributes:
        count = str(w.integer(node, "k", 1))
    options = {name: None if w.flag(node, name, 1) else "False" for name in ("largest", "sorted")}
    return call(f"{w.tensor(node, 0)}.topk", count, str(w.integer(node, "axis", -1)), **options)


def _cumulative(w: Writer, node: Node) -> str:
    x, axis = w.tensor(node, 0), w.constant(node, 1)
    if axis is None:
        raise w.unsupported(node, "with an axis computed at run time")
    along = int(axis.reshape(-1)[0])
    flip = f".flip({along})" if w.flag(node, "reverse", 0) else ""
    total = f"{x}{flip}.cumsum({along}){flip}"
    return f"{total} - {x}" if w.flag(node, "exclusive", 0) else total


def _trilu(w: Writer, node: Node) -> str:
    k = w.constant(node, 1)
    if node.input(1) and k is None:
        raise w.unsupported(node, "with a diagonal computed at run time")
    part = "triu" if w.flag(node, "upper", 1) else "tril"
    return f"{w.tensor(node, 0)}.{part}({int(k.reshape(-1)[0]) if k is not None else 0})"


def _one_hot(w: Writer, node: Node) -> str:
    depth = w.constant(node, 1)
    if depth is None:
        raise w.unsupported(node, "with a depth computed at run time")
    arguments = [w.tensor(node, 0), str(int(depth.reshape(-1)[0])), w.tensor(node, 2)]
    return call(w.helper("one_hot"), *arguments, str(w.integer(node, "axis", -1)))


# Their outputs are taken from a tuple.
SEVERAL = frozenset({"TopK"})

EMITTERS: Table = {
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _cumulative,
    "Einsum": _einsum,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": lambda w, node: f"{w.tensor(node, 0)}.nonzero().T",
    "OneHot": _one_hot,
    "Range": _arange,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": _size,
    "TopK": _top_k,
    "Trilu": _trilu,
}
