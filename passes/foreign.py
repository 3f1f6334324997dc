"""Types of the results of operators for which ONNX has none: mostly those that ONNX Runtime's optimiser writes.

Most are fusions and have the type of the standard operator that they begin with (`_like`); the rest is spelled
out. A file need not say the shapes of what it computes in between, and optimised ones mostly do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from amcc.ir import Attribute, Dim, Node, Shape
from amcc.passes import dims
from amcc.passes.branches import DOMAIN
from amcc.passes.control_types import CONTROL_TYPES
from amcc.passes.protos import node_proto, read_type, schema, type_proto

Type = tuple[str, Shape | None]
"""Element type and shape."""

Infer = Callable[[Node, Sequence[Type]], Sequence[Type]]
"""From a node and the types of its inputs (`NONE` where one is left out) to those of its outputs."""

NONE: Type = ("", None)
_VERSION = 17  # of the standard operators that stand for others


def foreign_types(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """The types of a node's outputs, as far as they are known; nothing for an operator that nobody taught amcc."""
    infer = TYPES.get((node.domain, node.op))
    return infer(node, inputs) if infer is not None else ()


def _number(node: Node, name: str, default: int = 0) -> int:
    value = node.attributes.get(name, default)
    return value if isinstance(value, int) else default


# -- as a standard operator ------------------------------------------------------------------------


def _standard(op: str, attributes: Mapping[str, Attribute], inputs: Sequence[Type]) -> Type:
    """What ONNX's own inference says of the first result of an operator."""
    from onnx import helper, shape_inference

    known = schema(op, "", _VERSION)
    assert known is not None
    names = tuple(f"i{k}" if entry is not NONE else "" for k, entry in enumerate(inputs))
    own = {name: value for name, value in attributes.items() if name in known.attributes}
    node = Node("node", op, names, ("o",), own)
    types = {name: type_proto(*entry) for name, entry in zip(names, inputs, strict=True) if name}
    imports = [helper.make_opsetid("", _VERSION)]
    result = shape_inference.infer_node_outputs(known, node_proto(node, _VERSION), types, {}, opset_imports=imports)
    return read_type(result["o"]) if "o" in result else NONE


def _like(op: str, *picks: int) -> Infer:
    """As the standard operator with some of the inputs (by default all); `channels_last` turns data and result."""

    def infer(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
        chosen = [inputs[k] if k < len(inputs) else NONE for k in picks or range(len(inputs))]
        while chosen and chosen[-1] is NONE:
            chosen.pop()
        last = bool(_number(node, "channels_last")) or node.op.startswith("Nhwc")
        if last:
            chosen[0] = (chosen[0][0], _channels_first(chosen[0][1]))
        dtype, shape = _standard(op, node.attributes, chosen)
        return [(dtype, _channels_last(shape) if last else shape)]

    return infer


def _channels_first(shape: Shape | None) -> Shape | None:
    return None if shape is None else (shape[0], shape[-1], *shape[1:-1])


def _channels_last(shape: Shape | None) -> Shape | None:
    return None if shape is None else (shape[0], *shape[2:], shape[1])


def _as_first(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """The result has the type of the first input."""
    return [inputs[0]]


def _typed_as_first(infer: Infer) -> Infer:
    """Integers where the standard operator knows floats only."""

    def typed(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
        floats = [entry if entry is NONE else ("float32", entry[1]) for entry in inputs]
        return [(inputs[0][0], shape) for _, shape in infer(node, floats)]

    return typed


# -- normalisations --------------------------------------------------------------------------------


def _normalised(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """Result, and statistics with length 1 from `axis` on."""
    _, shape = inputs[0]
    if shape is None:
        return [inputs[0]]
    first = _number(node, "axis", -1) % len(shape)
    statistics: Shape = tuple(1 if a >= first else dim for a, dim in enumerate(shape))
    return [inputs[0], ("float32", statistics), ("float32", statistics)]


def _skip_normalised(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """Result, mean, deviation, and the sum before it."""
    return [*_normalised(node, inputs), inputs[0]]


def _embedded(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """`[B, S]` indices give `[B, S, H]`, the length of each mask `[B]`, and the sum of the embeddings."""
    (_, ids), (dtype, table) = inputs[0], inputs[2]
    if ids is None or table is None:
        return ()
    result: Type = (dtype, (*ids, table[1]))
    return [result, ("int32", ids[:1]), result]


# -- products --------------------------------------------------------------------------------------


def _turned(node: Node, side: str, shape: Shape | None) -> Shape | None:
    """The operand's shape as it is multiplied."""
    if shape is not None and len(shape) > 2 and _number(node, f"transBatch{side}"):
        shape = (*shape[1:-1], shape[0], shape[-1])
    if shape is not None and len(shape) > 1 and _number(node, f"trans{side}"):
        shape = (*shape[:-2], shape[-1], shape[-2])
    return shape


def _fused_matmul(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    (dtype, a), (_, b) = inputs[:2]
    return [_standard("MatMul", {}, [(dtype, _turned(node, "A", a)), (dtype, _turned(node, "B", b))])]


def _integer_matmul(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """Integers, or floats made integers on the way, give floats."""
    (_, a), (_, b) = inputs[:2]
    return [_standard("MatMul", {}, [("float32", a), ("float32", b)])]


def _quantized_gemm(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """Floats where no scale of the result is given."""
    (dtype, a), (_, b) = inputs[0], inputs[3]
    _, shape = _standard("Gemm", node.attributes, [("float32", a), ("float32", b)])
    return [(dtype if len(inputs) > 7 and inputs[7] is not NONE else "float32", shape)]


def _blockwise_matmul(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    dtype, shape = inputs[0]
    return [(dtype, None if shape is None else (*shape[:-1], _number(node, "N")))]


def _recurrent(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """`[T, B, I]` gives `[T, D, B, H]`, and the last states `[D, B, H]`."""
    dtype, shape = inputs[0]
    if shape is None:
        return ()
    directions = 2 if node.attributes.get("direction", "forward") in ("bidirectional", b"bidirectional") else 1
    state = (directions, shape[1], _number(node, "hidden_size"))
    return [(dtype, (shape[0], *state)), (dtype, state), (dtype, state)]


# -- attention -------------------------------------------------------------------------------------


def _attention(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """`[B, S, D]` with weights `[D, q + k + v]` gives `[B, S, v]`; the cache is `[2, B, heads, T, v/heads]`."""
    (dtype, shape), (_, weights) = inputs[:2]
    if shape is None or weights is None or not isinstance(weights[1], int):
        return ()
    sizes = node.attributes.get("qkv_hidden_sizes")
    wide = int(sizes[2]) if isinstance(sizes, tuple) and sizes else weights[1] // 3
    heads = max(_number(node, "num_heads"), 1)
    past = inputs[4][1] if len(inputs) > 4 else None
    length = shape[1] if past is None else _sum(past[3], shape[1])
    return [(dtype, (*shape[:2], wide)), (dtype, (2, shape[0], heads, length, wide // heads))]


def _multi_head_attention(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    dtype, query = inputs[0]
    heads = max(_number(node, "num_heads"), 1)
    if query is None:
        return ()
    key, value = (inputs[k] if len(inputs) > k else NONE for k in (1, 2))
    if len(query) == 5:  # [B, S, heads, 3, head]
        return [(dtype, (*query[:2], dims.product((query[2], query[4]))))]
    if value is NONE:
        return [(dtype, query)]
    if key[1] is None or value[1] is None:
        return ()
    if len(value[1]) == 4:  # [B, heads, T, head]
        return [(dtype, (*query[:2], dims.product((value[1][1], value[1][3]))))]
    past = inputs[6][1] if len(inputs) > 6 else None
    length = key[1][1] if past is None else _sum(past[2], key[1][1])
    each = [dims.quotient(entry[-1], heads) or dims.UNKNOWN for entry in (key[1], value[1])]
    present: list[Type] = [(dtype, (query[0], heads, length, size)) for size in each]
    return [(dtype, (*query[:2], value[1][2])), *present]


def _group_query_attention(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    dtype, query = inputs[0]
    if query is None:
        return ()
    heads, shared = _number(node, "num_heads"), _number(node, "kv_num_heads")
    packed = inputs[1] is NONE
    size = dims.quotient(query[2], heads + 2 * shared if packed else heads) or dims.UNKNOWN
    past = inputs[3][1]
    length = query[1] if past is None else _sum(past[2], query[1])
    present: Type = (dtype, (query[0], shared, length, size))
    return [(dtype, (*query[:2], dims.product((size, heads)))), present, present]


def _sum(a: Dim, b: Dim) -> Dim:
    return a + b if isinstance(a, int) and isinstance(b, int) else dims.UNKNOWN


# -- channels in blocks (com.microsoft.nchwc) ----------------------------------------------------------


def _reorder_input(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """The channels are filled up to whole blocks, whose size is the machine's."""
    dtype, shape = inputs[0]
    if shape is None:
        return ()
    plain = _channels_first(shape) if _number(node, "channels_last") else shape
    return [(dtype, None if plain is None else (plain[0], dims.UNKNOWN, *plain[2:]))]


def _reorder_output(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    dtype, shape = inputs[0]
    if shape is None:
        return ()
    plain = (shape[0], _number(node, "channels"), *shape[2:])
    return [(dtype, _channels_last(plain) if _number(node, "channels_last") else plain)]


def _concatenated(node: Node, inputs: Sequence[Type]) -> Sequence[Type]:
    """Scale and zero point of the result, then data, scale and zero point of each input."""
    return [_standard("Concat", node.attributes, list(inputs[2::3]))]


_MICROSOFT: dict[str, Infer] = {
    **dict.fromkeys(
        "BiasGelu FastGelu Gelu QuickGelu ScaledSiLU RotaryEmbedding QLinearLeakyRelu QLinearSigmoid "
        "QLinearSoftmax".split(),
        _as_first,
    ),
    "SkipLayerNormalization": _skip_normalised,
    "SkipSimplifiedLayerNormalization": _skip_normalised,
    "EmbedLayerNormalization": _embedded,
    "FusedConv": _like("Conv", 0, 1, 2),
    "NhwcFusedConv": _like("Conv", 0, 1, 2),
    "FusedGemm": _like("Gemm"),
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "MatMulNBits": _blockwise_matmul,
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
    "GroupQueryAttention": _group_query_attention,
    "NhwcMaxPool": _typed_as_first(_like("MaxPool")),
    "QuantizeLinear": _like("QuantizeLinear"),
    "DequantizeLinear": _like("DequantizeLinear"),
    "QLinearConv": _like("QLinearConv", *range(9)),
    "QLinearAdd": _typed_as_first(_like("Add", 0, 3)),
    "QLinearMul": _typed_as_first(_like("Mul", 0, 3)),
    "QLinearConcat": _concatenated,
    "QLinearAveragePool": _typed_as_first(_like("AveragePool", 0)),
    "QLinearGlobalAveragePool": _typed_as_first(_like("GlobalAveragePool", 0)),
    "QGemm": _quantized_gemm,
    "DynamicQuantizeMatMul": _integer_matmul,
    "MatMulIntegerToFloat": _integer_matmul,
    "DynamicQuantizeLSTM": _recurrent,
}

_NCHWC: dict[str, Infer] = {
    "Conv": _like("Conv", 0, 1, 2),
    "ReorderInput": _reorder_input,
    "ReorderOutput": _reorder_output,
    **{op: _like(op, 0) for op in ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")},
}

TYPES: Mapping[tuple[str, str], Infer] = MappingProxyType(
    {
        **{("com.microsoft", op): infer for op, infer in _MICROSOFT.items()},
        **{("com.microsoft.nchwc", op): infer for op, infer in _NCHWC.items()},
        **{(DOMAIN, op): infer for op, infer in CONTROL_TYPES.items()},
        ("", "GroupNormalization"): _as_first,
        ("", "LayerNormalization"): _normalised,
        ("", "MeanVarianceNormalization"): _as_first,
        ("", "SimplifiedLayerNormalization"): _normalised,
    }
)
