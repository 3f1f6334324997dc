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
    if batch := w.integer(node, "batch_dims", 0):
        return f"{w.helper('gather_nd')}({w.tensor(node, 0)}, {w.tensor(node, 1)}, {batch})"
    return f"{w.tensor(node, 0)}[tuple({w.tensor(node, 1)}.unbind(-1))]"


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(w: Writer, node: Node) -> str:
    axis, index = _wrapped(w, node)
    x, update, reduction = w.tensor(node, 0), w.tensor(node, 2), w.text(node, "reduction", "none")
    if reduction == "none":
        return f"{x}.scatter({axis}, {index}, {update})"
    if reduction not in _REDUCTIONS:
        raise w.unsupported(node, f"with reduction {quoted(reduction)}")
    return f'{x}.scatter_reduce({axis}, {index}, {update}, "{_REDUCTIONS[reduction]}")'


def _scatter_nd(w: Writer, node: Node) -> str:
    x, index, updates = (w.tensor(node, i) for i in range(3))
    reduction = w.text(node, "reduction", "none")
    if reduction in ("none", "add"):
        accumulate = ", accumulate=True" if reduction == "add" else ""
        return f"{x}.index_put(tuple({index}.unbind(-1)), {updates}{accumulate})"
    if reduction not in _REDUCTIONS:
        raise w.unsupported(node, f"with reduction {quoted(reduction)}")
    return f"{w.helper('scatter_nd')}({x}, {index}, {updates}, {quoted(_REDUCTIONS[reduction])})"


def _tensor_scatter(w: Writer, node: Node) -> str:
    start, axis = w.optional(node, 2) or "None", str(w.integer(node, "axis", -2))
    circular = str(w.text(node, "mode", "linear") == "circular")
    return call(w.helper("tensor_scatter"), w.tensor(node, 0), w.tensor(node, 1), start, axis, circular)


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
    """By a stable sort: of equal elements, the first come first."""
    count = str(w.integer(node, "k", 1)) if "k" in node.attributes else w.size(node, 1) or "1"
    axis, largest = str(w.integer(node, "axis", -1)), str(w.flag(node, "largest", 1))
    return w.several(node, call(w.helper("top_k"), w.tensor(node, 0), count, axis, largest), 2)


def _cumulative(w: Writer, node: Node) -> str:
    x, axis, product = w.tensor(node, 0), w.size(node, 1) or "0", node.op == "CumProd"
    exclusive, reverse = w.flag(node, "exclusive", 0), w.flag(node, "reverse", 0)
    if exclusive or reverse or w.dtype(node) in ("int32", "int16", "int8", "uint8"):
        return call(w.helper("cumulative"), x, axis, str(product), str(exclusive), str(reverse))
    return f"{x}.{'cumprod' if product else 'cumsum'}({axis})"


def _trilu(w: Writer, node: Node) -> str:
    part = "triu" if w.flag(node, "upper", 1) else "tril"
    return f"{w.tensor(node, 0)}.{part}({w.size(node, 1) or 0})"


def _one_hot(w: Writer, node: Node) -> str:
    arguments = [w.tensor(node, 0), w.size(node, 1) or "1", w.tensor(node, 2)]
    return call(w.helper("one_hot"), *arguments, str(w.integer(node, "axis", -1)))


def _compress(w: Writer, node: Node) -> str:
    axis = str(node.attributes.get("axis", None))
    return call(w.helper("compress"), w.tensor(node, 0), w.tensor(node, 1), axis)


def _unique(w: Writer, node: Node) -> str:
    axis, ordered = str(node.attributes.get("axis", None)), str(w.flag(node, "sorted", 1))
    return w.several(node, call(w.helper("unique"), w.tensor(node, 0), axis, ordered), 4)


EMITTERS: Table = {
    "Compress": _compress,
    "ConstantOfShape": _constant_of_shape,
    "CumProd": _cumulative,
    "CumSum": _cumulative,
    "Einsum": _einsum,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": lambda w, node: f"{w.tensor(node, 0)}.nonzero().T",
    "OneHot": _one_hot,
    "Range": _arange,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": _size,
    "TensorScatter": _tensor_scatter,
    "TopK": _top_k,
    "Trilu": _trilu,
    "Unique": _unique,
}
