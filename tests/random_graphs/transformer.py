"""Transformer blocks on `[N, T, D]`, in the spellings that exporters use."""

from __future__ import annotations

import numpy as np

from tests.random_graphs import norms
from tests.random_graphs.builder import Builder, Tensor

_MOST_TOKENS = 64


def tokens(b: Builder, x: Tensor) -> Tensor:
    """`[N, C, H, W]` as `[N, H * W, C]`."""
    name, (n, c, h, w) = x
    flat = b.reshape(name, n, c, h * w)
    return b.op("Transpose", flat, perm=[0, 2, 1]), (n, h * w, c)


def picture(b: Builder, name: str, shape: tuple[int, ...]) -> None:
    """`[N, H * W, C]` put back as `[N, C, H, W]`."""
    n, c, h, w = shape
    turned = b.op("Transpose", name, perm=[0, 2, 1])
    b.put(b.reshape(turned, n, c, h, w), shape)


def linear(b: Builder, x: str, n_in: int, n_out: int, *, bias: bool = True) -> str:
    """A matrix product with a weight, with a bias or without."""
    y = b.op("MatMul", x, b.param(n_in, n_out))
    return b.op("Add", y, b.param(n_out)) if bias else y


def _heads(b: Builder, x: str, n: int, t: int, heads: int, width: int) -> str:
    """`[N, T, heads * width]` as `[N, heads, T, width]`."""
    return b.op("Transpose", b.reshape(x, n, t, heads, width), perm=[0, 2, 1, 3])


def _joined(b: Builder, x: str, n: int, t: int, total: int) -> str:
    turned = b.op("Transpose", x, perm=[0, 2, 1, 3])
    return b.reshape(turned, n, t, total) if b.pick(0, 1) else b.op("Reshape", turned, b.ints(0, 0, -1))


def _attend(b: Builder, q: str, k: str, v: str, width: int, bias: str = "") -> str:
    """softmax(QK' * scale + bias) V on `[N, heads, T, width]`."""
    if b.pick(0, 3) == 0:
        scores = b.op("Einsum", q, k, equation="bhqd,bhkd->bhqk")
    else:
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.op("Mul", scores, b.constant(np.float32(width**-0.5)))
    if bias:
        scores = b.op("Add", scores, bias)
    weights = b.op("Softmax", scores, axis=-1)
    return b.op("MatMul", weights, v)


def _sizes(b: Builder) -> tuple[int, int]:
    return b.pick(1, 3), b.pick(1, 4)


def _fused(b: Builder, x: Tensor, heads: int, width: int) -> tuple[str, str, str]:
    """One product for queries, keys and values, taken apart in one of three ways."""
    name, (n, t, d) = x
    qkv = linear(b, name, d, 3 * heads * width)
    kind = b.pick(0, 2)
    if kind == 0:  # Split, then heads
        parts = b.op("Split", qkv, b.ints(*[heads * width] * 3), outputs=3, axis=2)
        q, k, v = (_heads(b, parts[:-1] + str(i), n, t, heads, width) for i in range(3))
        return q, k, v
    five = b.reshape(qkv, n, t, 3, heads, width)
    turned = b.op("Transpose", five, perm=[2, 0, 3, 1, 4])
    if kind == 1:  # each taken out by its number
        q, k, v = (b.op("Gather", turned, b.constant(np.int64(i)), axis=0) for i in range(3))
    else:
        parts = b.op("Split", turned, b.ints(1, 1, 1), outputs=3, axis=0)
        q, k, v = (b.op("Squeeze", parts[:-1] + str(i), b.ints(0)) for i in range(3))
    return q, k, v


def _bias(b: Builder, t: int, heads: int) -> str:
    """None, a table of its own, or one read at relative positions and turned."""
    kind = b.pick(0, 2)
    if kind == 1:
        return b.param(1, heads, t, t)
    if kind == 2:
        rows = b.op("Gather", b.param(7, heads), b.constant(b.random.integers(0, 7, (t, t))), axis=0)
        return b.op("Unsqueeze", b.op("Transpose", rows, perm=[2, 0, 1]), b.ints(0))
    return ""


def _rotated(b: Builder, x: str, t: int, width: int) -> str:
    """Rotary embedding, halves turned."""
    half = width // 2
    angles = b.random.uniform(0, 3, (t, half)).astype(np.float32)
    both = np.concatenate([angles, angles], 1)
    first = b.op("Slice", x, b.ints(0), b.ints(half), b.ints(3))
    second = b.op("Slice", x, b.ints(half), b.ints(2**40), b.ints(3))
    turned = b.op("Concat", b.op("Neg", second), first, axis=-1)
    return b.op("Add", b.op("Mul", x, b.constant(np.cos(both))), b.op("Mul", turned, b.constant(np.sin(both))))


def attention(b: Builder, x: Tensor) -> None:
    """Self-attention with a residual, maybe normalised before."""
    _name, shape = x
    n, _c, h, w = shape
    if h * w > _MOST_TOKENS:
        return
    flat, (_, t, d) = tokens(b, x)
    normal = norms.last_axis(b, flat, d) if b.pick(0, 1) else flat
    heads, width = _sizes(b)
    q, k, v = _fused(b, (normal, (n, t, d)), heads, width)
    if width % 2 == 0 and b.pick(0, 1):
        q, k = _rotated(b, q, t, width), _rotated(b, k, t, width)
    mixed = _joined(b, _attend(b, q, k, v, width, _bias(b, t, heads)), n, t, heads * width)
    result = linear(b, mixed, heads * width, d)
    picture(b, b.op("Add", flat, result) if b.pick(0, 2) else result, shape)


def grouped_queries(b: Builder, x: Tensor) -> None:
    """Fewer heads of keys and values than of queries: repeated, or one for all."""
    _name, shape = x
    n, _c, h, w = shape
    if h * w > _MOST_TOKENS:
        return
    flat, (_, t, d) = tokens(b, x)
    kv, times, width = b.pick(1, 2), b.pick(1, 3), b.pick(1, 4)
    heads = kv * times
    q = _heads(b, linear(b, flat, d, heads * width, bias=False), n, t, heads, width)
    k, v = (_heads(b, linear(b, flat, d, kv * width, bias=False), n, t, kv, width) for _ in range(2))

    def repeated(part: str) -> str:
        tall = b.expand(b.op("Unsqueeze", part, b.ints(2)), part, n, kv, times, t, width)
        return b.reshape(tall, n, heads, t, width)

    if kv > 1 or b.pick(0, 1):
        k, v = repeated(k), repeated(v)
    mixed = _joined(b, _attend(b, q, k, v, width), n, t, heads * width)
    picture(b, linear(b, mixed, heads * width, d), shape)


def cross_attention(b: Builder, x: Tensor) -> None:
    """Queries from one tensor, keys and values from another, of other length and width."""
    _name, shape = x
    n, _c, h, w = shape
    others = [o for o in b.pool[1:] if o[1][2] * o[1][3] <= _MOST_TOKENS]
    if h * w > _MOST_TOKENS or not others:
        return
    flat, (_, t, d) = tokens(b, x)
    memory, (_, s, e) = tokens(b, others[b.pick(0, len(others) - 1)])
    heads, width = _sizes(b)
    values = b.pick(1, 4)
    q = _heads(b, linear(b, flat, d, heads * width), n, t, heads, width)
    k = _heads(b, linear(b, memory, e, heads * width), n, s, heads, width)
    v = _heads(b, linear(b, memory, e, heads * values), n, s, heads, values)
    mixed = _joined(b, _attend(b, q, k, v, width), n, t, heads * values)
    picture(b, b.op("Add", flat, linear(b, mixed, heads * values, d)), shape)


def attention_by_einsum(b: Builder, x: Tensor) -> None:
    """Heads are axes of the weights; no reshape anywhere."""
    _name, shape = x
    _n, _c, h, w = shape
    if h * w > _MOST_TOKENS:
        return
    flat, (_, _t, d) = tokens(b, x)
    heads, width = _sizes(b)
    q, k, v = (b.op("Einsum", flat, b.param(d, heads, width), equation="btd,dhk->bthk") for _ in range(3))
    weights = b.op("Softmax", b.op("Einsum", q, k, equation="bthk,bshk->bhts"), axis=3)
    mixed = b.op("Einsum", weights, v, equation="bhts,bshk->bthk")
    picture(b, b.op("Einsum", mixed, b.param(heads, width, d), equation="bthk,hkd->btd"), shape)


def windows(b: Builder, x: Tensor) -> None:
    """Attention within windows of two by two, maybe shifted by one (Swin)."""
    name, shape = x
    n, c, h, w = shape
    if h % 2 or w % 2 or h * w > _MOST_TOKENS:
        return
    last = b.op("Transpose", name, perm=[0, 2, 3, 1])
    shifted = bool(b.pick(0, 1))

    def rolled(value: str, by: int) -> str:
        for axis in (1, 2):
            head = b.op("Slice", value, b.ints(0), b.ints(by), b.ints(axis))
            tail = b.op("Slice", value, b.ints(by), b.ints(1000), b.ints(axis))
            value = b.op("Concat", tail, head, axis=axis)
        return value

    if shifted:
        last = rolled(last, 1)
    cut = b.op("Transpose", b.reshape(last, n, h // 2, 2, w // 2, 2, c), perm=[0, 1, 3, 2, 4, 5])
    many = n * (h // 2) * (w // 2)
    rows = b.reshape(cut, many, 4, c)
    heads, width = _sizes(b)
    q, k, v = _fused(b, (rows, (many, 4, c)), heads, width)
    mixed = _joined(b, _attend(b, q, k, v, width, _bias(b, 4, heads)), many, 4, heads * width)
    rows = linear(b, mixed, heads * width, c)
    back = b.op("Transpose", b.reshape(rows, n, h // 2, w // 2, 2, 2, c), perm=[0, 1, 3, 2, 4, 5])
    whole = b.reshape(back, n, h, w, c)
    if shifted:
        whole = rolled(whole, -1)
    b.put(b.op("Add", name, b.op("Transpose", whole, perm=[0, 3, 1, 2])), shape)


def channel_attention(b: Builder, x: Tensor) -> None:
    """Attention between the features of a head (XCiT)."""
    _name, shape = x
    n, _c, h, w = shape
    if h * w > _MOST_TOKENS:
        return
    flat, (_, t, d) = tokens(b, x)
    heads, width = _sizes(b)
    q, k, v = (b.op("Transpose", part, perm=[0, 1, 3, 2]) for part in _fused(b, (flat, (n, t, d)), heads, width))
    scores = b.op("Mul", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), b.param(heads, 1, 1))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
    merged = b.reshape(b.op("Transpose", mixed, perm=[0, 3, 1, 2]), n, t, heads * width)
    picture(b, linear(b, merged, heads * width, d), shape)


def linear_attention(b: Builder, x: Tensor) -> None:
    """(Q (K' V)) over (Q sum K), with positive features."""
    _name, shape = x
    n, _c, h, w = shape
    if h * w > _MOST_TOKENS:
        return
    flat, (_, t, d) = tokens(b, x)
    heads, width = _sizes(b)
    q, k, v = _fused(b, (flat, (n, t, d)), heads, width)
    q, k = (b.op("Add", b.op("Sigmoid", part), b.constant(np.float32(0.1))) for part in (q, k))
    outer = b.op("MatMul", b.op("Transpose", k, perm=[0, 1, 3, 2]), v)
    sums = b.reduce("ReduceSum", k, 2)
    weight = b.reduce("ReduceSum", b.op("Mul", q, sums), 3)
    mixed = b.op("Div", b.op("MatMul", q, outer), weight)
    picture(b, linear(b, _joined(b, mixed, n, t, heads * width), heads * width, d), shape)


def _gelu(b: Builder, x: str) -> str:
    if b.opset >= 20 and b.pick(0, 1):
        return b.op("Gelu", x, approximate=str(b.random.choice(["none", "tanh"])))
    scaled = b.op("Erf", b.op("Div", x, b.constant(np.float32(2**0.5))))
    risen = b.op("Mul", x, b.op("Add", scaled, b.constant(np.float32(1))))
    return b.op("Mul", risen, b.constant(np.float32(0.5)))


def feed_forward(b: Builder, x: Tensor) -> None:
    """Two products with a Gelu, a gate from two products, or a gate from the halves of one."""
    _name, shape = x
    flat, (_n, _t, d) = tokens(b, x)
    normal = norms.last_axis(b, flat, d) if b.pick(0, 1) else flat
    hidden, kind = b.pick(1, 8), b.pick(0, 2)
    if kind == 0:
        inner = _gelu(b, linear(b, normal, d, hidden))
    elif kind == 1:
        gate = linear(b, normal, d, hidden, bias=False)
        inner = b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", gate)), linear(b, normal, d, hidden, bias=False))
    else:
        halves = b.op("Split", linear(b, normal, d, 2 * hidden), b.ints(hidden, hidden), outputs=2, axis=-1)
        inner = b.op("Mul", halves, b.op("Sigmoid", halves[:-1] + "1"))
    picture(b, b.op("Add", flat, b.op("Mul", linear(b, inner, hidden, d), b.param(d))), shape)


def token_mixing(b: Builder, x: Tensor) -> None:
    """MLP-Mixer's mixing over places, and gMLP's gate."""
    name, shape = x
    n, c, h, w = shape
    if h * w > _MOST_TOKENS:
        return
    rows = b.reshape(name, n, c, h * w)
    if c % 2 == 0 and b.pick(0, 1):
        halves = b.op("Split", rows, b.ints(c // 2, c // 2), outputs=2, axis=1)
        gated = b.op("Mul", halves, linear(b, halves[:-1] + "1", h * w, h * w))
        b.put(b.reshape(gated, n, c // 2, h, w), (n, c // 2, h, w))
        return
    hidden = b.pick(1, 6)
    mixed = linear(b, b.op("Relu", linear(b, rows, h * w, hidden)), hidden, h * w)
    b.put(b.reshape(b.op("Add", rows, mixed), n, c, h, w), shape)


def standard_attention(b: Builder, x: Tensor) -> None:
    """The operator Attention of opset 23 on `[N, T, heads * width]`."""
    _name, shape = x
    _n, _c, h, w = shape
    if b.opset < 23 or h * w > _MOST_TOKENS:
        return
    flat, (_, _t, d) = tokens(b, x)
    kv, times, width = b.pick(1, 2), b.pick(1, 2), b.pick(1, 4)
    values = b.pick(1, 4)
    heads = kv * times
    q = linear(b, flat, d, heads * width)
    k, v = linear(b, flat, d, kv * width), linear(b, flat, d, kv * values)
    mixed = b.op("Attention", q, k, v, q_num_heads=heads, kv_num_heads=kv)
    picture(b, linear(b, mixed, heads * values, d), shape)


def class_token(b: Builder, x: Tensor) -> None:
    """A learnt token in front, a position embedding, and a choice of one token that gates all."""
    name, shape = x
    n, _c, _h, _w = shape
    flat, (_, t, d) = tokens(b, x)
    token = b.expand(b.param(1, 1, d), flat, n, 1, d)
    longer = b.op("Add", b.op("Concat", token, flat, axis=1), b.param(1, t + 1, d))
    mixed = linear(b, b.op("Relu", longer), d, d)
    first = b.op("Gather", mixed, b.constant(np.int64(0)), axis=1)
    gate = b.op("Unsqueeze", b.op("Sigmoid", linear(b, first, d, d)), b.ints(2, 3))
    b.put(b.op("Mul", name, gate), shape)


def embedding(b: Builder, x: Tensor) -> None:
    """Words, read off the input, looked up in a table; maybe the table is the last product too."""
    name, shape = x
    entry, (n, words, h, w) = b.pool[0]
    if shape[2:] != (h, w):
        return
    d = shape[1]
    table = b.param(words, d)
    rows = b.op("Gather", table, b.op("ArgMax", entry, axis=1, keepdims=0), axis=0)
    y = b.op("Add", name, b.op("Transpose", rows, perm=[0, 3, 1, 2]))
    if b.pick(0, 1):
        b.put(y, shape)
        return
    hidden = b.op("Relu", linear(b, b.op("Transpose", y, perm=[0, 2, 3, 1]), d, d))
    scores = b.op("MatMul", hidden, b.op("Transpose", table, perm=[1, 0]))
    b.put(b.op("Transpose", scores, perm=[0, 3, 1, 2]), (n, words, h, w))


GROWTHS = (
    attention, attention, attention, grouped_queries, grouped_queries, cross_attention, attention_by_einsum, windows,
    channel_attention, linear_attention, feed_forward, feed_forward, token_mixing, standard_attention,
    class_token, embedding,
)  # fmt: skip
