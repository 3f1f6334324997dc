"""Attention and rotary embedding as ONNX spells them from opset 23 on: heads, and positions within them.

Queries and keys `[B, heads, S, d]`, or `[B, S, heads * d]`, share their width d; values have their own. Where
several queries read one key, a query's head is its key's head and a repeat, and either may go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import UNKNOWN, Monomial, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

_WHOLE = "attention loses whole heads, or positions of every head"
_ORDER = "the place in the sequence matters"


def _sizes(graph: Graph, node: Node, x: str, attribute: str) -> tuple[int, int] | None:
    """Number of heads and width of one; None if only run time knows."""
    shape = graph.shape(x)
    heads, width = (shape[1], shape[3]) if len(shape) == 4 else (node.attributes.get(attribute), shape[-1])
    if not isinstance(heads, int) or not isinstance(width, int):
        return None
    return heads, width if len(shape) == 4 else width // heads


def _parts(r: Relation, x: str, sizes: tuple[int, int]) -> tuple[Axis, Axis]:
    """The cut sets of heads and of positions within them."""
    if r.rank(x) == 4:
        return r.axis(x, 1), r.axis(x, 3)
    heads, width = r.split(r.axis(x, 2), sizes, (x, 2))
    return heads, width


def _sequence(graph: Graph, x: str) -> int:
    return 2 if len(graph.shape(x)) == 4 else 1


# -- Attention ---------------------------------------------------------------------------------------


def _relate_attention(r: Relation, node: Node) -> None:
    q, k, v = node.inputs[:3]
    names = (("q_num_heads", q), ("kv_num_heads", k), ("kv_num_heads", v))
    sizes = [found for name, x in names if (found := _sizes(r.graph, node, x, name))]
    if len(sizes) < 3:
        UNKNOWN.relate(r, node)
        return
    (q_heads, q_width), (heads, width), (v_heads, v_width) = map(_parts, (r, r, r), (q, k, v), sizes)
    r.same(heads, v_heads, (v, 1), _WHOLE)
    r.same(width, q_width, (q, r.rank(q) - 1), _WHOLE)
    (count, _), (kv_count, _), (_, d_value) = sizes
    repeats = count // kv_count
    whole = r.grid((heads, kv_count), (r.fresh(repeats), repeats))
    r.same(q_heads, whole, (q, 1), _WHOLE)
    every = None if q_heads is None else whole
    for x in (q, k, v):
        r.lock(r.axis(x, _sequence(r.graph, x)), (x, _sequence(r.graph, x)), _ORDER)
        r.same(r.axis(q, 0), r.axis(x, 0), (x, 0))
    _relate_mask(r, node.input(3), every)
    for past, own in ((node.input(4), width), (node.input(5), v_width)):
        if past:
            r.same(r.axis(q, 0), r.axis(past, 0), (past, 0))
            r.same(heads, r.axis(past, 1), (past, 1), _WHOLE)
            r.same(own, r.axis(past, 3), (past, 3), _WHOLE)
    batch, y = r.axis(q, 0), node.outputs[0]
    merged = r.grid((every, count), (v_width, d_value))
    r.set(y, [batch, every, None, v_width] if r.rank(y) == 4 else [batch, None, merged])
    others = ([batch, heads, None, width], [batch, heads, None, v_width], [batch, every, None, None])
    for output, axes in zip(node.outputs[1:], others, strict=False):
        r.set(output, axes)


def _relate_mask(r: Relation, mask: str, heads: Axis) -> None:
    """What is added to the scores `[B, heads, S, T]`, broadcast."""
    if mask and r.rank(mask) > 2:
        own = r.rank(mask) - 3
        if r.shape(mask)[own] != 1:
            r.same(heads, r.axis(mask, own), (mask, own))
        if own:
            r.axis(mask, 0)


def _attention_macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """Scores and weighted sum: one MAC for each pair of places, head and position within it."""
    q, k, y = node.inputs[0], node.inputs[1], node.outputs[0]
    total = per_sample(graph.shape(k)[_sequence(graph, k)])
    if past := node.input(4):
        total += per_sample(graph.shape(past)[2])
    rows = per_sample(graph.shape(q)[_sequence(graph, q)])
    return tuple(Monomial(rows * total, ((q, 0), *_head_axes(graph, x))) for x in (q, y))


def _head_axes(graph: Graph, x: str) -> tuple[tuple[str, int], ...]:
    return ((x, 1), (x, 3)) if len(graph.shape(x)) == 4 else ((x, 2),)


def _attention_contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    return ((0, len(graph.shape(node.inputs[0])) - 1),)


def _respell_attention(shrink: Respell, node: Node) -> Node:
    """Counts of heads as they are left; the default scale follows the width, so what it was is written down."""
    changes: dict[str, object] = {}
    width = 0
    for name, x in (("q_num_heads", node.inputs[0]), ("kv_num_heads", node.inputs[1])):
        sizes = _sizes(shrink.graph, node, x, name)
        if sizes is None:
            return node
        width = sizes[1]
        if name in node.attributes:
            changes[name] = _heads_left(shrink, x, sizes)
    q = node.inputs[0]
    if "scale" not in node.attributes and (q, len(shrink.graph.shape(q)) - 1) in shrink.cut:
        changes["scale"] = float(np.float32(1 / np.sqrt(np.float32(width))))
    return with_attributes(node, **changes)


def _heads_left(shrink: Respell, x: str, sizes: tuple[int, int]) -> int:
    if len(shrink.graph.shape(x)) == 4:
        return shrink.size(x, 1)
    return len(np.unique(shrink.kept(x, 2) // sizes[1]))


# -- RotaryEmbedding ---------------------------------------------------------------------------------


def _rotated(graph: Graph, node: Node, width: int) -> int:
    """How many positions of a head are turned, the first ones."""
    rotated = node.attributes.get("rotary_embedding_dim", 0)
    assert isinstance(rotated, int)
    return rotated or width


def _relate_rotary(r: Relation, node: Node) -> None:
    """The two positions that one frequency turns go with it."""
    x, cos, sin = node.inputs[:3]
    sizes = _sizes(r.graph, node, x, "num_heads")
    if sizes is None:
        UNKNOWN.relate(r, node)
        return
    heads, width = _parts(r, x, sizes)
    rotated = _rotated(r.graph, node, sizes[1])
    frequencies = r.axis(cos, -1)
    r.same(frequencies, r.axis(sin, -1), (sin, r.rank(sin) - 1))
    if frequencies is None:
        both = None
    elif node.attributes.get("interleaved", 0):
        both = np.repeat(frequencies, 2)
    else:
        both = np.tile(frequencies, 2)
    turned = None if width is None else width[:rotated]
    r.same(turned, both, (x, r.rank(x) - 1), "two positions turn together")
    sequence = _sequence(r.graph, x)
    r.lock(r.axis(x, sequence), (x, sequence), _ORDER)
    batch = r.axis(x, 0)
    for cache in (cos, sin, node.input(3)):
        if cache and (cache == node.input(3) or r.rank(cache) == 3):
            r.same(batch, r.axis(cache, 0), (cache, 0))
    merged = r.grid((heads, sizes[0]), (width, sizes[1]))
    r.set(node.outputs[0], [batch, heads, None, width] if r.rank(x) == 4 else [batch, None, merged])


def _respell_rotary(shrink: Respell, node: Node) -> Node:
    x = node.inputs[0]
    sizes = _sizes(shrink.graph, node, x, "num_heads")
    if sizes is None:
        return node
    changes: dict[str, object] = {}
    if node.attributes.get("num_heads", 0):
        changes["num_heads"] = _heads_left(shrink, x, sizes)
    if node.attributes.get("rotary_embedding_dim", 0):
        changes["rotary_embedding_dim"] = 2 * shrink.size(node.inputs[1], -1)
    return with_attributes(node, **changes)


# -- TensorScatter -----------------------------------------------------------------------------------


def _relate_cache(r: Relation, node: Node) -> None:
    """A cache of keys or values with new ones written along one axis, the others aligned."""
    cache, update = node.inputs[:2]
    axis = node.attributes.get("axis", -2)
    assert isinstance(axis, int)
    along = axis % r.rank(cache)
    for x in (cache, update):
        r.lock(r.axis(x, along), (x, along), "written at places that only run time knows")
    for other in range(r.rank(cache)):
        if other != along:
            r.same(r.axis(cache, other), r.axis(update, other), (update, other))
    for places in filter(None, node.inputs[2:]):
        r.same(r.axis(cache, 0), r.axis(places, 0), (places, 0))
    r.set(node.outputs[0], [None if a == along else r.axis(cache, a) for a in range(r.rank(cache))])


RULES = {
    "Attention": Rule(_relate_attention, _attention_macs, _attention_contracts, _respell_attention),
    "RotaryEmbedding": Rule(_relate_rotary, respell=_respell_rotary),
    "TensorScatter": Rule(_relate_cache),
}
