"""Small transformers in the spellings of the well-known libraries: what `tests.test_attention` exports and cuts.

Width 16, four heads of width 4, six tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, EACH, TOKENS, KINDS = 16, 4, 4, 6, 11


class Block(nn.Module):
    """A mixer of tokens and a hidden layer of 20, each behind a normalisation and around a residual."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.hidden = nn.Sequential(nn.Linear(WIDTH, 20), nn.GELU(), nn.Linear(20, WIDTH))
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        x = x + self.mixer(self.first(x))
        return self.leave(x + self.hidden(self.second(x)))


class MultiHead(nn.Module):
    """torch's own, on `[tokens, batch, width]`."""

    def __init__(self, *, weights: bool) -> None:
        super().__init__()
        self.inner, self.weights = nn.MultiheadAttention(WIDTH, HEADS), weights

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.inner(x, x, x, need_weights=self.weights)[0].transpose(0, 1)


class Fused(nn.Module):
    """timm's: one product, reshaped, permuted, taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.qkv(x).reshape(*x.shape[:2], 3, HEADS, EACH).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(*self.parts(x)).transpose(1, 2).reshape(x.shape))


class Chunked(Fused):
    """GPT's: one product cut into three, causal."""

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view(*x.shape[:2], HEADS, EACH).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Merged(Chunked):
    """BART's: heads merged with the batch."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.reshape(-1, TOKENS, EACH) for t in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)).view(-1, HEADS, TOKENS, TOKENS)
        weights = scores.view(-1, TOKENS, TOKENS).softmax(-1)
        return torch.bmm(weights, v).view(-1, HEADS, TOKENS, EACH)


class Talking(Fused):
    """CaiT's: scores and weights mixed over heads."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.weights = nn.Linear(HEADS, HEADS), nn.Linear(HEADS, HEADS)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = self.scores((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.weights(scores.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v


class CrossCovariance(Fused):
    """XCiT's: attention between channels."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.rand(HEADS, 1, 1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (functional.normalize(t.transpose(-2, -1), dim=-1) for t in (q, k))
        weights = ((q @ k.transpose(-2, -1)) * self.temperature).softmax(-1)
        return (weights @ v.transpose(-2, -1)).transpose(-2, -1)


class Linearised(Chunked):
    """Attention without a softmax: keys and values are summed up first."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        weight = 1 / (torch.einsum("bhnd,bhd->bhn", q, k.sum(2)) + 1e-6)
        return torch.einsum("bhnd,bhde,bhn->bhne", q, torch.einsum("bhnd,bhne->bhde", k, v), weight)


class Grouped(nn.Module):
    """Llama's: queries of several heads read one key, both turned by a rotary embedding."""

    def __init__(self, keys: int, turn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.keys, self.turn = keys, turn
        self.q, self.out = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, keys * EACH, bias=False) for _ in range(2))
        angles = torch.arange(TOKENS)[:, None] / 100 ** (torch.arange(0, EACH, 2) / EACH)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).view(*x.shape[:2], -1, EACH).transpose(1, 2) for part in (self.q, self.k, self.v))
        q, k = self.turn(q, self.cos, self.sin), self.turn(k, self.cos, self.sin)
        k, v = (
            t[:, :, None].expand(-1, -1, HEADS // self.keys, -1, -1).reshape(x.shape[0], HEADS, -1, EACH)
            for t in (k, v)
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(EACH)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(x.shape))


def turn_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Llama's rotation: the halves of a head are real and imaginary parts."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * torch.cat((cos, cos), -1) + turned * torch.cat((sin, sin), -1)


def turn_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """GPT-J's rotation: neighbours are real and imaginary parts."""
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class TokenMixing(nn.Module):
    """MLP-Mixer's: a hidden layer of 7 over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(TOKENS, 7), nn.Linear(7, TOKENS)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(functional.gelu(self.one(x.transpose(1, 2)))).transpose(1, 2)


class SpatialGating(nn.Module):
    """gMLP's: one half of the channels, mixed over tokens, gates the other."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.mix = nn.Linear(WIDTH, 24), nn.Linear(12, WIDTH), nn.Linear(TOKENS, TOKENS)
        self.norm = nn.LayerNorm(12)

    def forward(self, x: Tensor) -> Tensor:
        u, v = functional.gelu(self.one(x)).chunk(2, -1)
        return self.two(u * self.mix(self.norm(v).transpose(1, 2)).transpose(1, 2))


class Windows(nn.Module):
    """Swin's: attention in shifted windows with a table of relative positions, then patch merging."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.inner = nn.Conv2d(3, WIDTH, 2, 2), Fused()
        self.one, self.four = nn.LayerNorm(WIDTH), nn.LayerNorm(4 * WIDTH)
        self.merge, self.head = nn.Linear(4 * WIDTH, 2 * WIDTH, bias=False), nn.Linear(2 * WIDTH, 3)
        self.table = nn.Parameter(torch.randn(9, HEADS))
        places = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        apart = (places[:, :, None] - places[:, None]).permute(1, 2, 0) + 1
        self.register_buffer("index", apart[..., 0] * 3 + apart[..., 1])
        self.register_buffer("mask", torch.tril(torch.ones(4, 4, 4)) * 10 - 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        y = torch.roll(self.one(x), (-1, -1), (1, 2)).view(n, h // 2, 2, w // 2, 2, c)
        q, k, v = self.inner.parts(y.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c))
        bias = self.table[self.index.view(-1)].view(4, 4, -1).permute(2, 0, 1)
        scores = (q / 2) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        scores = (scores.view(n, 4, HEADS, 4, 4) + self.mask[None, :, None]).view(-1, HEADS, 4, 4)
        y = self.inner.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, c))
        y = y.view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        x = x + torch.roll(y, (1, 1), (1, 2))
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.head(self.merge(self.four(torch.cat(parts, -1))).mean((1, 2)))


class Patches(nn.Module):
    """ViT's: patches, a class token in front, positions added."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.inner, self.norm = nn.Conv2d(3, WIDTH, 4, 4), Fused(), nn.LayerNorm(WIDTH)
        self.first, self.places = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 5, WIDTH))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head((x + self.inner(self.norm(x)))[:, 0])


class Queries(nn.Module):
    """DETR's: learnt queries read a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.queries = nn.Conv2d(3, WIDTH, 4, 4), nn.Embedding(3, WIDTH)
        self.inner, self.norm = nn.MultiheadAttention(WIDTH, HEADS), nn.LayerNorm(WIDTH)
        self.places, self.head = nn.Parameter(torch.randn(4, 1, WIDTH)), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.patches(x).flatten(2).permute(2, 0, 1)
        queries = self.queries.weight.unsqueeze(1).repeat(1, x.shape[0], 1)
        found = torch.zeros_like(queries)
        found = found + self.inner(found + queries, memory + self.places, memory)[0]
        return self.head(self.norm(found)).transpose(0, 1)


class Buckets(nn.Module):
    """T5's: RMS normalisation, a bias by bucketed distance, embeddings tied with the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.apart = nn.Embedding(KINDS, WIDTH), nn.Embedding(4, HEADS)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        y = self.scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))
        q, k, v = (part(y).view(x.shape[0], -1, HEADS, EACH).transpose(1, 2) for part in (self.q, self.k, self.v))
        places = torch.arange(ids.shape[1])
        bias = self.apart((places[None] - places[:, None]).abs().clamp(max=3)).permute(2, 0, 1).unsqueeze(0)
        weights = (q @ k.transpose(3, 2) + bias).softmax(-1)
        return (x + self.out((weights @ v).transpose(1, 2).reshape(x.shape))) @ self.words.weight.t()


class Causal(nn.Module):
    """GPT-2's: products as `addmm` on flattened tokens, positions looked up, a stored mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(KINDS, WIDTH), nn.Embedding(32, WIDTH)
        self.norm, self.last = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.bias = nn.Parameter(torch.randn(WIDTH, 3 * WIDTH) / 4), nn.Parameter(torch.randn(3 * WIDTH))
        self.out, self.shift = nn.Parameter(torch.randn(WIDTH, WIDTH) / 4), nn.Parameter(torch.randn(WIDTH))
        self.register_buffer("mask", torch.tril(torch.ones(32, 32, dtype=torch.bool))[None, None])

    @staticmethod
    def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias, x.view(-1, x.size(-1)), weight).view(*x.shape[:-1], weight.shape[1])

    def forward(self, ids: Tensor) -> Tensor:
        n = ids.shape[1]
        x = self.words(ids) + self.places(torch.arange(n)[None])
        parts = self.product(self.norm(x), self.qkv, self.bias).split(WIDTH, 2)
        q, k, v = (t.view(*t.shape[:-1], HEADS, EACH).permute(0, 2, 1, 3) for t in parts)
        scores = q @ k.transpose(-1, -2) / math.sqrt(EACH)
        scores = torch.where(self.mask[:, :, :n, :n], scores, torch.finfo(scores.dtype).min)
        mixed = (scores.softmax(-1) @ v).permute(0, 2, 1, 3).contiguous().view(x.shape)
        return functional.linear(self.last(x + self.product(mixed, self.out, self.shift)), self.words.weight)


TOKENS_IN, PICTURES_IN, WORDS_IN = (2, TOKENS, 5), (2, 3, 8, 8), (2, TOKENS)
