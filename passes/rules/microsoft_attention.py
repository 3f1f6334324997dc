"""Attention as one operator of ONNX Runtime: heads may go, and so may positions within them.

Positions of queries and keys go together and change the default scale, which is then written down; those of
values go by themselves, where one weight does not tie them. Positions are the same ones in every head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array, Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import UNKNOWN, Monomial, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

_WHOLE = "attention loses whole heads, or positions of every head"


def _int(node: Node, name: str) -> int:
    value = node.attributes.get(name, 0)
    assert isinstance(value, int)
    return value


def _heads(node: Node) -> int:
    return _int(node, "num_heads")


def _width(graph: Graph, name: str, axis: int = -1) -> int:
    """The length of an axis; 0 if it is not known."""
    length = graph.shape(name)[axis]
    return length if isinstance(length, int) else 0


def _relate_bias(r: Relation, name: str, heads: Axis) -> None:
    """What is added to the scores `[B, heads, S, T]`."""
    if name:
        r.axis(name, 0)
        if r.shape(name)[1] != 1:
            r.same(heads, r.axis(name, 1), (name, 1))


def _joined(r: Relation, parts: list[tuple[Axis, int]]) -> Array:
    """Axes one behind the other."""
    return np.concatenate([r.cuts.never(n) if axis is None else axis for axis, n in parts])


def _with_scale(shrink: Respell, node: Node, old: int, new: int) -> Node:
    """The default scale follows from the width of a head: what it was is written down."""
    if old == new or node.attributes.get("scale", 0.0):
        return node
    return with_attributes(node, scale=float(np.float32(1 / np.sqrt(np.float32(old)))))


# -- Attention: one weight for queries, keys and values ---------------------------------------------


def _parts(graph: Graph, node: Node) -> tuple[int, int, int]:
    """Columns of the weight for queries, keys and values."""
    said = node.attributes.get("qkv_hidden_sizes")
    if isinstance(said, tuple) and said:
        q, k, v = (int(s) for s in said)
        return q, k, v
    third = _width(graph, node.inputs[1], 1) // 3
    return third, third, third


def _relate_attention(r: Relation, node: Node) -> None:
    x, w = node.inputs[:2]
    heads, (q, k, v) = _heads(node), _parts(r.graph, node)
    if node.input(4) or any(node.outputs[1:]) or _int(node, "do_rotary") or not q == k == v > 0:
        UNKNOWN.relate(r, node)
        return
    r.same(r.axis(x, -1), r.axis(w, 0), (w, 0))
    head, width = r.fresh(heads), r.fresh(v // heads)
    line = r.grid((head, heads), (width, v // heads))
    columns = _joined(r, [(line, v)] * 3)
    r.same(r.axis(w, 1), columns, (w, 1), _WHOLE)
    if bias := node.input(2):
        r.same(r.axis(bias, 0), columns, (bias, 0), _WHOLE)
    _relate_bias(r, node.input(5), head)
    r.set(node.outputs[0], [r.axis(x, 0), None, line])


def _attention_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """Projections, then scores and their product with the values."""
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    batch, length = (per_sample(d) for d in graph.shape(x)[:2])
    return (Monomial(batch * length, ((w, 0), (w, 1))), Monomial(2 * batch * length * length, ((y, 2),)))


def _attention_contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    """Over the data's width, and over the columns of queries and keys."""
    bias = ((2, 0),) if node.input(2) else ()
    return ((0, len(graph.shape(node.inputs[0])) - 1), (1, 1), *bias)


def _respell_attention(shrink: Respell, node: Node) -> Node:
    heads, wide = _heads(node), _width(shrink.graph, node.outputs[0])
    kept = shrink.kept(node.outputs[0], 2)
    left = len(np.unique(kept // (wide // heads)))
    node = _with_scale(shrink, node, wide // heads, len(kept) // left)
    sizes = {"qkv_hidden_sizes": (len(kept),) * 3} if "qkv_hidden_sizes" in node.attributes else {}
    return with_attributes(node, num_heads=left, **sizes)


# -- MultiHeadAttention: queries, keys and values apart ----------------------------------------------


def _apart(graph: Graph, node: Node) -> bool:
    """Whether queries, keys and values are `[B, S, heads * width]` each, and no cache is kept."""
    three = all(node.input(k) and len(graph.shape(node.input(k))) == 3 for k in range(3))
    return three and not any(node.input(k) for k in (6, 7, 8, 9)) and not any(node.outputs[1:])


def _relate_multi_head(r: Relation, node: Node) -> None:
    q, k, v = (node.input(i) for i in range(3))
    if not _apart(r.graph, node) or not _width(r.graph, q) or not _width(r.graph, v):
        UNKNOWN.relate(r, node)
        return
    heads, wide, tall = _heads(node), _width(r.graph, q), _width(r.graph, v)
    head, pair, value = r.fresh(heads), r.fresh(wide // heads), r.fresh(tall // heads)
    query, result = r.grid((head, heads), (pair, wide // heads)), r.grid((head, heads), (value, tall // heads))
    for name, axis in ((q, query), (k, query), (v, result)):
        r.same(r.axis(name, 2), axis, (name, 2), _WHOLE)
        r.axis(name, 0)
    if bias := node.input(3):
        r.same(r.axis(bias, 0), _joined(r, [(query, wide), (query, wide), (result, tall)]), (bias, 0), _WHOLE)
    _relate_bias(r, node.input(5), head)
    r.set(node.outputs[0], [r.axis(q, 0), None, result])


def _multi_head_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """Scores, and their product with the values."""
    if not _apart(graph, node):
        return ()
    q, k, v = (node.input(i) for i in range(3))
    batch, rows = (per_sample(d) for d in graph.shape(q)[:2])
    scores = batch * rows * per_sample(graph.shape(k)[1])
    return (Monomial(scores, ((q, 2),)), Monomial(scores, ((v, 2),)))


def _multi_head_contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    """Scores sum over a head's positions; a bias is added to queries before."""
    if not _apart(graph, node):
        return ()
    return ((0, 2), (3, 0)) if node.input(3) else ((0, 2),)


def _respell_multi_head(shrink: Respell, node: Node) -> Node:
    q, heads = node.inputs[0], _heads(node)
    each = _width(shrink.graph, q) // heads
    kept = shrink.kept(q, 2)
    left = len(np.unique(kept // each))
    return with_attributes(_with_scale(shrink, node, each, len(kept) // left), num_heads=left)


# -- GroupQueryAttention: several queries for each key -----------------------------------------------


def _plain_groups(graph: Graph, node: Node) -> bool:
    """Whether queries, keys and values come apart, as floats."""
    kinds = (node.attributes.get(f"{what}_quant_type", "NONE") for what in "kv")
    return bool(node.input(1) and node.input(2)) and all(kind in ("NONE", b"NONE") for kind in kinds)


def _relate_grouped(r: Relation, node: Node) -> None:
    """Query head (n, i) goes with key head n, or as the i-th of every key head. Heads keep their width."""
    q, k, v = (node.input(i) for i in range(3))
    if not _plain_groups(r.graph, node) or any(node.input(i) for i in range(10, 16)):
        UNKNOWN.relate(r, node)
        return
    keys = _int(node, "kv_num_heads")
    each, wide = _heads(node) // keys, _width(r.graph, k) // keys
    key, place = r.fresh(keys), r.fresh(each)
    shared, result = r.grid((key, keys), (None, wide)), r.grid((key, keys), (place, each), (None, wide))
    for name, axis in ((q, result), (k, shared), (v, shared)):
        r.same(r.axis(name, 2), axis, (name, 2), "attention loses whole heads")
        r.axis(name, 0)
    for name in filter(None, (node.input(3), node.input(4))):
        r.same(r.axis(name, 1), key, (name, 1))
    r.set(node.outputs[0], [r.axis(q, 0), None, result])
    for present in filter(None, node.outputs[1:3]):
        r.set(present, [None, key, None, None])


def _grouped_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """Scores, and their product with the values, over the keys of this call."""
    if not _plain_groups(graph, node):
        return ()
    q, k = node.inputs[:2]
    batch, rows = (per_sample(d) for d in graph.shape(q)[:2])
    return (Monomial(2 * batch * rows * per_sample(graph.shape(k)[1]), ((q, 2),)),)


def _respell_grouped(shrink: Respell, node: Node) -> Node:
    q, k = node.inputs[:2]
    keys = _int(node, "kv_num_heads")
    wide = _width(shrink.graph, k) // keys
    return with_attributes(node, num_heads=shrink.size(q, 2) // wide, kv_num_heads=shrink.size(k, 2) // wide)


# -- RotaryEmbedding -------------------------------------------------------------------------------


def _relate_rotary(r: Relation, node: Node) -> None:
    """Positions within a head turn in pairs; whole heads of `[B, S, heads * width]` or `[B, heads, S, width]` go."""
    x = node.inputs[0]
    if r.rank(x) == 4:
        r.set(node.outputs[0], [r.axis(x, 0), r.axis(x, 1), None, None])
        return
    width = _head_width(r.graph, node)
    whole = _width(r.graph, x)
    head = r.fresh(whole // width) if width else None
    line = r.grid((head, whole // width), (None, width)) if width else None
    r.same(r.axis(x, 2), line, (x, 2), "turned head by head")
    r.set(node.outputs[0], [r.axis(x, 0), None, line])


def _head_width(graph: Graph, node: Node) -> int:
    if heads := _heads(node):
        return _width(graph, node.inputs[0]) // heads
    return 2 * _width(graph, node.inputs[2], 1)


def _respell_rotary(shrink: Respell, node: Node) -> Node:
    x = node.inputs[0]
    if len(shrink.graph.shape(x)) == 4:
        return node if not _heads(node) else with_attributes(node, num_heads=shrink.size(x, 1))
    heads = shrink.size(x, 2) // _head_width(shrink.graph, node)
    return with_attributes(node, num_heads=heads) if _heads(node) else node


RULES = {
    "Attention": Rule(_relate_attention, _attention_macs, _attention_contracts, _respell_attention),
    "MultiHeadAttention": Rule(_relate_multi_head, _multi_head_macs, _multi_head_contracts, _respell_multi_head),
    "GroupQueryAttention": Rule(_relate_grouped, _grouped_macs, respell=_respell_grouped),
    "RotaryEmbedding": Rule(_relate_rotary, respell=_respell_rotary),
}
