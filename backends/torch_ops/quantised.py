"""Integers that stand for real numbers."""

from __future__ import annotations

from amcc.backends.torch_ops.layers import convolution
from amcc.backends.torch_ops.writer import Table, Writer, call
from amcc.ir import Node

_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32")


def _layout(w: Writer, node: Node) -> dict[str, str | None]:
    """Along which axis scales lie, and in which blocks."""
    axis, block = w.integer(node, "axis", 1), w.integer(node, "block_size", 0)
    return {"axis": None if axis == 1 else str(axis), "block": str(block) if block else None}


def _quantize(w: Writer, node: Node) -> str:
    from amcc.passes.protos import dtype_name

    asked = dtype_name(w.integer(node, "output_dtype", 0)) or "uint8"
    dtype = w.dtype(node, 2) if node.input(2) else asked
    if dtype not in _INTEGERS or w.integer(node, "precision", 0):
        raise w.unsupported(node, f"to {dtype}, or with a precision of its own,")
    given = [w.tensor(node, 0), w.tensor(node, 1), w.optional(node, 2) or "None"]
    return call(w.helper("quantize"), *given, w.torch_dtype(dtype), **_layout(w, node))


def _dequantize(w: Writer, node: Node) -> str:
    if w.dtype(node) not in _INTEGERS or w.integer(node, "output_dtype", 0):
        raise w.unsupported(node, f"of {w.dtype(node)}, or to a type of its own,")
    given = [w.tensor(node, 0), w.tensor(node, 1)]
    return call(w.helper("dequantize"), *given, zero=w.optional(node, 2), **_layout(w, node))


def _by_range(w: Writer, node: Node) -> str:
    return w.several(node, f"{w.helper('quantize_by_range')}({w.tensor(node, 0)})", 3)


def _centred(w: Writer, node: Node, index: int, zero: int, axis: int | None = None) -> str:
    """Input `index` less its zero point, exact."""
    given = [w.tensor(node, index), w.optional(node, zero) or "None"]
    return call(w.helper("centred"), *given, axis=None if axis is None else str(axis))


def _conv_integer(w: Writer, node: Node) -> str:
    return f"{convolution(w, node, _centred(w, node, 0, 2), [_centred(w, node, 1, 3, 0)])}.to(torch.int32)"


def _matmul_integer(w: Writer, node: Node) -> str:
    return f"({_centred(w, node, 0, 2, -2)} @ {_centred(w, node, 1, 3, -1)}).to(torch.int32)"


def _factor(w: Writer, node: Node, shapes: tuple[str, str]) -> str:
    """What a sum of products is worth in steps of the output; scales that are no numbers get a shape."""
    scales = [
        f"{w.tensor(node, i)}.reshape({shape})" if shape else w.tensor(node, i)
        for i, shape in zip((1, 4), shapes, strict=True)
    ]
    return f"{scales[0]} * {scales[1]} / {w.tensor(node, 6)}"


def _qlinear_conv(w: Writer, node: Node) -> str:
    """The bias is in steps of both scales: it joins the sum."""
    rank = w.rank(node)
    operands = [_centred(w, node, 3, 5, 0), *([f"{w.tensor(node, 8)}.double()"] if node.input(8) else [])]
    total = convolution(w, node, _centred(w, node, 0, 2), operands, weight=3)
    each = ("", f"-1{', 1' * (rank - 2)}" if w.graph.values[node.input(4)].shape not in ((), (1,)) else "")
    return call(w.helper("requantize"), total, _factor(w, node, each), w.tensor(node, 7))


def _qlinear_matmul(w: Writer, node: Node) -> str:
    def many(index: int) -> bool:
        return w.graph.values[node.input(index)].shape not in ((), (1,))

    product = f"{_centred(w, node, 0, 2, -2)} @ {_centred(w, node, 3, 5, -1)}"
    shapes = ("-1, 1" if many(1) else "", "1, -1" if many(4) else "")
    return call(w.helper("requantize"), product, _factor(w, node, shapes), w.tensor(node, 7))


EMITTERS: Table = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _by_range,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
}
