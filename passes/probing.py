"""Dynamic dimensions by probing: compute with two concrete sizes for every symbol and compare.

What comes out equal is static. What scales with a symbol, or the product of two, is its multiple.
Anything else is `"?"`. Both sizes are large: what depends on a symbol only while it is small, as the
first eight samples of any batch do, counts as static. One size of a picture or a sequence divides by every stride,
the other by none, so that what a network pads to a multiple does not count as static.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement, count

import numpy as np

from amcc.ir import Array, Dim, Graph, Shape
from amcc.passes import dims
from amcc.passes.inputs import batch_symbols

Probe = Mapping[str, int]

# Sizes are multiples of this, so that a batch that holds frames or windows divides.
_DIVISIBLE = 240
# What one of the other sizes is a multiple of: strides and windows multiply to more.
_STRIDES = 960
# The other one is a prime, at least this, that leaves another rest by every number up to the widest window.
_LARGE = 2000
_WIDEST = 64


def probes(graph: Graph) -> tuple[Probe, ...]:
    """Two sizes for every symbol of the inputs; without symbols one empty probe.

    Sizes have distinct prime factors, which tells symbols apart.
    """
    shapes = [graph.values[name].shape or () for name in graph.inputs]
    symbols = dims.symbols(d for shape in shapes for d in shape)
    if not symbols:
        return ({},)
    batch = dims.symbols(batch_symbols(shapes))
    factors, large = _primes(7), _primes(_LARGE)
    sizes: dict[str, tuple[int, int]] = {}
    for symbol in symbols:
        one, other = next(factors), next(factors)
        if symbol in batch:
            sizes[symbol] = (_DIVISIBLE * one, _DIVISIBLE * other)
        else:
            whole = _STRIDES * one
            sizes[symbol] = (whole, next(n for n in large if all((whole - n) % m for m in range(2, _WIDEST + 1))))
    return tuple({symbol: pair[k] for symbol, pair in sizes.items()} for k in range(2))


def _primes(first: int) -> Iterator[int]:
    """Primes from a number on; from 7 on they are none that `_DIVISIBLE` contains."""
    return (n for n in count(first) if all(n % divisor for divisor in range(2, int(n**0.5) + 1)))


def at(shape: Shape, probe: Probe) -> Shape:
    """The shape under a probe; what it does not settle is `"?"`."""
    sizes = [dims.evaluate(dim, probe) for dim in shape]
    return tuple(dims.UNKNOWN if size is None else size for size in sizes)


def agreed(shapes: Sequence[Shape | None], under: Sequence[Probe]) -> Shape | None:
    """The one symbolic shape behind the shapes that came out; None if not even the rank is common."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or len({len(shape) for shape in known}) > 1:
        return None
    return tuple(_agreed_dim(sizes, under) for sizes in zip(*known, strict=True))


def constant_target(targets: Sequence[Array], shapes: Sequence[Shape | None]) -> Array | None:
    """A constant Reshape target that means the same as the computed one; None if there is none.

    An entry that follows the input's dimension in its place becomes 0, one other that varies -1.

    Args:
        targets: `[rank]` int64, in each probe.
        shapes: of the tensor that is reshaped, in each probe.
    """
    if len({len(target) for target in targets}) > 1 or any((target == 0).any() for target in targets):
        return None
    spelled: list[int] = []
    for axis, sizes in enumerate(zip(*(target.tolist() for target in targets), strict=True)):
        if len(set(sizes)) == 1:
            spelled.append(sizes[0])
        elif all(s is not None and axis < len(s) and s[axis] == size for s, size in zip(shapes, sizes, strict=True)):
            spelled.append(0)
        else:
            spelled.append(-1)
    return np.array(spelled, np.int64) if spelled.count(-1) < 2 else None


def _agreed_dim(sizes: Sequence[Dim], under: Sequence[Probe]) -> Dim:
    if not dims.is_static(sizes):
        return dims.UNKNOWN
    if len(set(sizes)) == 1:
        return sizes[0]
    for factors in (1, 2):
        for symbols in combinations_with_replacement(sorted(under[0]), factors):
            unit = dims.text(1, symbols)
            multiples = {
                None if (one := dims.evaluate(unit, probe)) is None else dims.quotient(size, one)
                for size, probe in zip(sizes, under, strict=True)
            }
            if len(multiples) == 1 and isinstance(multiple := multiples.pop(), int):
                return dims.text(multiple, symbols)
    return dims.UNKNOWN
