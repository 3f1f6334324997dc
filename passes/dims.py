"""Arithmetic on dimensions: ints, symbols (`"batch"`), multiples (`"4*batch"`) and the unknown `"?"`.

A dimension that is not `"?"` is a product: an integer coefficient and a sorted tuple of symbols.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from amcc.ir import Dim

UNKNOWN = "?"


def parse(dim: Dim) -> tuple[int, tuple[str, ...]] | None:
    """Coefficient and symbols: 4 -> (4, ()), "4*batch" -> (4, ("batch",)), "?" -> None."""
    if isinstance(dim, int):
        return dim, ()
    if dim == UNKNOWN:
        return None
    factors = [factor.strip() for factor in dim.split("*")]
    numbers = [int(f) for f in factors if f.isdecimal()]
    return prod(numbers), tuple(sorted(f for f in factors if not f.isdecimal()))


def text(coefficient: int, symbols: Iterable[str] = ()) -> Dim:
    """The inverse of `parse`."""
    ordered = sorted(symbols)
    if not ordered or coefficient == 0:
        return coefficient
    return "*".join(ordered if coefficient == 1 else [str(coefficient), *ordered])


def product(dims: Iterable[Dim]) -> Dim:
    """The product; a zero wins over `"?"`, anything else times `"?"` is `"?"`."""
    parsed = [parse(dim) for dim in dims]
    if any(p is not None and p[0] == 0 for p in parsed):
        return 0
    known = [p for p in parsed if p is not None]
    if len(known) < len(parsed):
        return UNKNOWN
    return text(prod(c for c, _ in known), (s for _, symbols in known for s in symbols))


def quotient(dim: Dim, by: Dim) -> Dim | None:
    """The dimension that times `by` gives `dim`, or None when there is none or it is unknown."""
    whole, part = parse(dim), parse(by)
    if whole is None or part is None or part[0] == 0 or whole[0] % part[0]:
        return None
    if whole[0] == 0:
        return 0
    symbols = list(whole[1])
    for symbol in part[1]:
        if symbol not in symbols:
            return None
        symbols.remove(symbol)
    return text(whole[0] // part[0], symbols)


def equal(first: Dim, second: Dim) -> bool:
    """Whether the two are known to be equal; `"?"` equals nothing, not even itself."""
    return (known := parse(first)) is not None and known == parse(second)


def is_static(dims: Iterable[Dim]) -> bool:
    """Whether every dimension is an int."""
    return all(isinstance(dim, int) for dim in dims)


def symbols(dims: Iterable[Dim]) -> tuple[str, ...]:
    """The symbols in order of appearance, each once."""
    found = (s for dim in dims if (parsed := parse(dim)) is not None for s in parsed[1])
    return tuple(dict.fromkeys(found))


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int | None:
    """The number a dimension stands for; None if a symbol has no size."""
    parsed = parse(dim)
    if parsed is None or any(s not in sizes for s in parsed[1]):
        return None
    return parsed[0] * prod(sizes[s] for s in parsed[1])


def per_sample(dim: Dim) -> int:
    """The size with every symbol, and the unknown, counted as 1."""
    parsed = parse(dim)
    return 1 if parsed is None else parsed[0]
