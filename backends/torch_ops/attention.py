"""Attention and what belongs to it."""

from __future__ import annotations

from amcc.backends.torch_ops.writer import Table, Writer, call
from amcc.ir import Node


def _heads(w: Writer, node: Node) -> tuple[str | None, str | None]:
    """The numbers of heads of packed queries and keys."""
    names = ("q_num_heads", "kv_num_heads")
    heads, kv_heads = (str(w.integer(node, n, 0)) if n in node.attributes else None for n in names)
    return heads, kv_heads


def _scale(w: Writer, node: Node) -> str | None:
    return w.real(node, "scale", 0.0) if "scale" in node.attributes else None


def _attention(w: Writer, node: Node) -> str:
    if _is_plain(w, node):
        return _plain(w, node)
    heads, kv_heads = _heads(w, node)
    given = [w.optional(node, i) or "None" for i in range(7)]
    while given[-1] == "None":
        given.pop()
    sides = tuple(w.integer(node, f"{side}_window_size", -1) for side in ("left", "right"))
    softcap, shown = w.real(node, "softcap", 0.0), w.integer(node, "qk_matmul_output_mode", 0)
    code = call(
        w.helper("attention"),
        *given,
        heads=heads,
        kv_heads=kv_heads,
        scale=_scale(w, node),
        causal="True" if w.flag(node, "is_causal", 0) else None,
        softcap=None if softcap == "0.0" else softcap,
        window=None if sides == (-1, -1) else str(sides),
        precision=w.asked_dtype(node, "softmax_precision") if "softmax_precision" in node.attributes else None,
        shown=str(shown) if shown else None,
    )
    return w.several(node, code, 4)


def _is_plain(w: Writer, node: Node) -> bool:
    """Whether PyTorch has a call for it."""
    odd = ("softcap", "softmax_precision", "qk_matmul_output_mode", "left_window_size", "right_window_size")
    ranks = {w.graph.values[node.input(i)].rank for i in range(3)}
    if any(node.input(i) for i in (4, 5, 6)) or any(w.used(o) for o in node.outputs[1:]) or ranks not in ({3}, {4}):
        return False
    if w.dtype(node) != "float32" or any(node.attributes.get(name, 0) not in (0, -1) for name in odd):
        return False
    if not node.input(3):
        return True
    mask, keys = w.graph.values[node.input(3)], w.graph.values[node.input(1)]
    fits = mask.shape is not None and keys.shape is not None and mask.shape[-1:] == keys.shape[-2:][:1]
    fits = fits and mask.dtype != "bool"  # a query that may look nowhere
    return fits and not w.flag(node, "is_causal", 0) and isinstance((mask.shape or ("",))[-1], int)


def _plain(w: Writer, node: Node) -> str:
    q, k, v = (w.tensor(node, i) for i in range(3))
    packed, (heads, kv_heads) = w.rank(node) == 3, _heads(w, node)
    shared = heads != kv_heads if packed else w.shape(node)[1] != w.shape(node, 1)[1]
    if packed:
        each = ((q, heads), (k, kv_heads), (v, kv_heads))
        q, k, v = (f"{t}.unflatten(-1, ({n}, -1)).transpose(1, 2)" for t, n in each)
    code = call(
        "F.scaled_dot_product_attention",
        q,
        k,
        v,
        attn_mask=w.optional(node, 3),
        is_causal="True" if w.flag(node, "is_causal", 0) else None,
        scale=_scale(w, node),
        enable_gqa="True" if shared else None,
    )
    return f"{code}.transpose(1, 2).flatten(2)" if packed else code


def _rotary(w: Writer, node: Node) -> str:
    width, heads = w.integer(node, "rotary_embedding_dim", 0), w.integer(node, "num_heads", 0)
    return call(
        w.helper("rotary_embedding"),
        *(w.tensor(node, i) for i in range(3)),
        position=w.optional(node, 3),
        interleaved="True" if w.flag(node, "interleaved", 0) else None,
        width=str(width) if width else None,
        heads=str(heads) if heads else None,
    )


def _linear_attention(w: Writer, node: Node) -> str:
    heads, kv_heads = _heads(w, node)
    scale = w.real(node, "scale", 0.0)
    code = call(
        w.helper("linear_attention"),
        *(w.tensor(node, i) for i in range(3)),
        state=w.optional(node, 3),
        decay=w.optional(node, 4),
        beta=w.optional(node, 5),
        heads=heads,
        kv_heads=kv_heads,
        scale=None if scale == "0.0" else scale,
    )
    return w.several(node, code, 2)


def _causal_conv(w: Writer, node: Node) -> str:
    silu = str(w.text(node, "activation", "none") != "none")
    return w.several(node, call(w.helper("causal_conv"), *(w.optional(node, i) or "None" for i in range(4)), silu), 2)


EMITTERS: Table = {
    "Attention": _attention,
    "CausalConvWithState": _causal_conv,
    "LinearAttention": _linear_attention,
    "RotaryEmbedding": _rotary,
}
