"""Attention and what belongs to it."""

import torch
from torch.nn import functional as F


def attention_bias(q, size, mask, past, lengths, causal, window):
    """What is added to the scores `[..., q, size]`: 0 where a query may look, -inf elsewhere.

    Args:
        past: how many keys came before the queries; with `lengths` given it is told by them, sample by sample.
        window: how far a query may look back and ahead; -1 for as far as it likes.
    """
    zero, never = q.new_zeros(()), q.new_full((), float("-inf"))
    if mask is not None:
        short = size - mask.shape[-1]
        if short > 0:
            mask = F.pad(mask, (0, short), value=False if mask.dtype == torch.bool else float("-inf"))
        mask = torch.where(mask, zero, never) if mask.dtype == torch.bool else mask
    bias = q.new_zeros(q.shape[-2], size) if mask is None else mask
    key = torch.arange(size, device=q.device)
    query = torch.arange(q.shape[-2], device=q.device).unsqueeze(1) + past
    if lengths is not None and past == 0:
        query = query + (lengths.reshape(-1, 1, 1, 1) - q.shape[-2])
    left, right = window
    for seen in (
        key <= query if causal else None,
        query - key <= left if left >= 0 else None,
        key - query <= right if right >= 0 else None,
        key < lengths.reshape(-1, 1, 1, 1) if lengths is not None else None,
    ):
        bias = bias if seen is None else bias + torch.where(seen, zero, never)
    return bias


def attention(
    q, k, v, mask=None, past_k=None, past_v=None, lengths=None, *,
    heads=None, kv_heads=None, scale=None, causal=False, softcap=0.0, window=(-1, -1), precision=None, shown=0,
):  # fmt: skip
    """ONNX Attention.

    Args:
        q: `[B, heads, T, d]`, or `[B, T, heads * d]` with the numbers of heads given; `k` and `v` likewise.
        lengths: how many keys of each sample count.
        shown: which scores are given back: 0 products, 1 capped, 2 masked, 3 softmax.

    Returns:
        The output, all keys, all values, and the scores.
    """
    packed = q.ndim == 3
    if packed:
        q = q.unflatten(-1, (heads, -1)).transpose(1, 2)
        k, v = (t.unflatten(-1, (kv_heads, -1)).transpose(1, 2) for t in (k, v))
    past = 0 if past_k is None else past_k.shape[2]
    if past_k is not None:
        k, v = torch.cat((past_k, k), 2), torch.cat((past_v, v), 2)
    shared = q.shape[1] // k.shape[1]
    keys, values = (t.repeat_interleave(shared, 1) if shared > 1 else t for t in (k, v))
    bias = attention_bias(q, k.shape[2], mask, past, lengths, causal, window)
    root = torch.tensor(q.shape[-1] ** -0.5 if scale is None else scale).sqrt().to(q)
    steps = [(q * root) @ (keys * root).transpose(-1, -2)]
    steps.append(torch.tanh(steps[0] / softcap) * softcap if softcap else steps[0])
    steps.append(steps[1] + bias)
    weights = F.softmax(steps[2] if precision is None else steps[2].to(precision), -1)
    weights = weights.masked_fill((bias == float("-inf")).all(-1, keepdim=True), 0.0).to(q.dtype)
    y = weights @ values
    return y.transpose(1, 2).flatten(2) if packed else y, k, v, [*steps, weights][shown]


def rotary_embedding(x, cos, sin, position=None, interleaved=False, width=0, heads=0):
    """ONNX RotaryEmbedding: pairs of the first `width` (0 for all) features turned by the angle of their position.

    Args:
        x: `[B, heads, T, d]`, or `[B, T, heads * d]` with the number of heads given.
        cos: `[positions, width / 2]`, or `[B, T, width / 2]` without positions.
    """
    packed = x.ndim == 3
    x = x.unflatten(-1, (heads, -1)) if packed else x.transpose(1, 2)
    cos, sin = (t if position is None else t[position] for t in (cos, sin))
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    width = width or x.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    turned = torch.stack((real, imaginary), -1).flatten(-2) if interleaved else torch.cat((real, imaginary), -1)
    x = torch.cat((turned, rest), -1)
    return x.flatten(2) if packed else x.transpose(1, 2)


def linear_attention(q, k, v, state=None, decay=None, beta=None, *, heads, kv_heads, scale=0.0):
    """ONNX LinearAttention, step by step: a state `[B, kv_heads, d_k, d_v]` that decays and is written to.

    Args:
        q: `[B, T, heads * d_k]`; `k [B, T, kv_heads * d_k]`, `v [B, T, kv_heads * d_v]`.
        decay: in log space, `[B, T, kv_heads]` or one a key feature; None for none.
        beta: how much of what the state already says of a key is replaced, `[B, T, kv_heads]` or `[B, T, 1]`.

    Returns:
        The output `[B, T, heads * d_v]` and the state.
    """
    dtype, kept = q.dtype, q.dtype if state is None else state.dtype
    q, k, v = (t.float().unflatten(-1, (n, -1)) for t, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    scale = scale or q.shape[-1] ** -0.5
    state = q.new_zeros(q.shape[0], kv_heads, k.shape[-1], v.shape[-1]) if state is None else state.float()
    outputs = []
    for t in range(q.shape[1]):
        key, new = k[:, t].unsqueeze(-1), v[:, t]
        if decay is not None:
            state = state * decay[:, t].float().unflatten(-1, (kv_heads, -1)).exp().unsqueeze(-1)
        if beta is not None:
            new = beta[:, t].float().unsqueeze(-1) * (new - (state * key).sum(-2))
        state = state + key * new.unsqueeze(-2)
        read = state.repeat_interleave(heads // kv_heads, 1)
        outputs.append(scale * (q[:, t].unsqueeze(-1) * read).sum(-2))
    return torch.stack(outputs, 1).flatten(2).to(dtype), state.to(kept)


def causal_conv(x, weight, bias, past, silu):
    """Depthwise convolution of `x [B, C, T]` that looks back alone; gives the last `k - 1` inputs too."""
    back = weight.shape[-1] - 1
    x = F.pad(x, (back, 0)) if past is None else torch.cat((past, x), -1)
    y = F.conv1d(x, weight, bias, groups=weight.shape[0])
    return F.silu(y) if silu else y, x[..., x.shape[-1] - back :]
