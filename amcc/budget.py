"""Budgets: what the user asks for, and the exact integers that follow from it.

`flops=0.5,size=4MB` is a list of terms. A term is a ratio of the original or an absolute value;
`Budget.resolve` turns all of them into `Limits`, whole numbers that a plan's `Costs` must not
exceed. The arithmetic is rational from the text on, so no float decides whether a plan fits. One
multiply-accumulate counts as one FLOP, as AMC counts them (arXiv 1802.03494, section 4). Latency is in nanoseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from amcc.errors import UsageError

Key = Literal["flops", "params", "size", "memory", "latency"]
KEYS: tuple[Key, ...] = get_args(Key)

_COUNT = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIMES = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_SUFFIXES: dict[Key, dict[str, int]] = {
    "flops": _COUNT,
    "params": _COUNT,
    "size": _BYTES,
    "memory": _BYTES,
    "latency": _TIMES,
}
_NUMBER = re.compile(r"([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})\s*([A-Za-z%]*)")


@dataclass(frozen=True, slots=True)
class Costs:
    """What a plan costs.

    Attributes:
        flops: multiply-accumulates of one sample.
        params: elements of all parameters.
        size: bytes of these.
        memory: bytes of activations alive at once, one sample; 0 where it is not counted.
        latency: nanoseconds of a run; 0 where it is not known.
    """

    flops: int
    params: int
    size: int
    memory: int = 0
    latency: int = 0

    def of(self, key: Key) -> int:
        """The cost in one resource."""
        found: int = getattr(self, key)
        return found


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest cost allowed in each resource; None where there is no limit."""

    flops: int | None = None
    params: int | None = None
    size: int | None = None
    memory: int | None = None
    latency: int | None = None

    def items(self) -> Iterator[tuple[Key, int]]:
        """The resources that have a limit, with it."""
        for key in KEYS:
            limit = getattr(self, key)
            if limit is not None:
                yield key, limit

    def admit(self, costs: Costs) -> bool:
        """Whether a plan of these costs meets every limit."""
        return (
            (self.flops is None or costs.flops <= self.flops)
            and (self.params is None or costs.params <= self.params)
            and (self.size is None or costs.size <= self.size)
            and (self.memory is None or costs.memory <= self.memory)
            and (self.latency is None or costs.latency <= self.latency)
        )

    def use(self, costs: Costs) -> float:
        """The share of the tightest limit that these costs take up: 1.0 is exactly full."""
        return max((costs.of(key) / max(limit, 1) for key, limit in self.items()), default=0.0)


@dataclass(frozen=True, slots=True)
class Term:
    """One resource's part of a budget.

    Attributes:
        value: a share of the original in (0, 1] if `relative`, else a count, bytes or nanoseconds.
        text: the value as the user wrote it.
    """

    key: Key
    value: Fraction
    relative: bool
    text: str

    def __str__(self) -> str:
        return f"{self.key}={self.text}"


@dataclass(frozen=True, slots=True)
class Budget:
    """What the user asked for; `str` gives it back as one text that `parse` reads."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))

    @classmethod
    def parse(cls, text: str | Iterable[str]) -> Budget:
        """Read `flops=0.5`, several joined by commas, or a list of such texts.

        A value is a ratio in (0, 1] (`0.5`, `50%`), or an absolute number: with a suffix
        k, M, G (flops, params), B, kB, MB, GB, KiB, MiB, GiB (size, memory) or ns, us, ms, s (latency), or,
        for all but latency, a plain integer above 1.

        Raises:
            UsageError: an unknown key, one given twice, or a value of no legal form.
        """
        texts = [text] if isinstance(text, str) else list(text)
        terms = [_term(part.strip()) for joined in texts for part in joined.split(",")]
        if not terms:
            raise UsageError("no budget is given", hint=_forms())
        seen: set[str] = set()
        for term in terms:
            if term.key in seen:
                raise UsageError(f"the budget gives {term.key} twice", hint="give each key once")
            seen.add(term.key)
        return cls(tuple(terms))

    def of(self, key: Key) -> Term | None:
        """What it says of one resource; None for nothing."""
        return next((term for term in self.terms if term.key == key), None)

    def resolve(self, original: Costs) -> Limits:
        """The limits for a network of these costs: ratio r of cost C allows floor(r * C), exactly."""
        found = {t.key: math.floor(t.value * original.of(t.key) if t.relative else t.value) for t in self.terms}
        return Limits(**found)


def _term(text: str) -> Term:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise UsageError(f"budget '{text}' is not of the form key=value", hint=_forms())
    for known in KEYS:
        if key == known:
            return _value(known, value)
    raise UsageError(f"unknown budget key '{key}'", hint=f"the keys are {', '.join(KEYS)}")


def _value(key: Key, text: str) -> Term:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UsageError(f"budget {key}={text}: '{text}' is not a positive number", hint=_forms(key))
    digits, suffix = match.groups()
    number = Fraction(digits)
    if number == 0:
        raise UsageError(f"budget {key}={text}: a budget must be above zero", hint=_forms(key))
    if suffix == "%":
        return _ratio(key, number / 100, text)
    if suffix:
        if suffix not in _SUFFIXES[key]:
            raise UsageError(f"budget {key}={text}: unknown suffix '{suffix}'", hint=_forms(key))
        return _absolute(key, number * _SUFFIXES[key][suffix], text)
    if digits.isdigit() and number > 1:
        if key == "latency":
            raise UsageError(f"budget {key}={text}: a latency needs a unit", hint=_forms(key))
        return _absolute(key, number, text)
    return _ratio(key, number, text)


def _ratio(key: Key, value: Fraction, text: str) -> Term:
    if value > 1:
        raise UsageError(f"budget {key}={text}: a ratio cannot be above 1", hint=_forms(key))
    return Term(key, value, relative=True, text=text)


def _absolute(key: Key, value: Fraction, text: str) -> Term:
    if value < 1:
        raise UsageError(f"budget {key}={text}: an absolute value must be at least 1", hint=_forms(key))
    return Term(key, value, relative=False, text=text)


def _forms(key: Key | None = None) -> str:
    examples = {
        "flops": "flops=0.5, flops=50%, flops=150M",
        "params": "params=0.3, params=30%, params=250k",
        "size": "size=0.5, size=50%, size=4MB, size=512KiB",
        "memory": "memory=0.6, memory=60%, memory=20MB, memory=512KiB",
        "latency": "latency=0.5, latency=50%, latency=3ms, latency=800us",
    }
    if key is None:
        return f"write it as {'; '.join(examples.values())}: a ratio in (0, 1] or absolute"
    suffixes = ", ".join([*_SUFFIXES[key], *(["or an integer above 1"] if key != "latency" else [])])
    return f"write it as {examples[key]}: a ratio in (0, 1], or an absolute value with {suffixes}"


def spelled(key: Key, value: int) -> str:
    """A cost or limit as a budget has it: `flops=62742853`, `latency=1.234ms`."""
    return f"{key}={value / 10**6:.4g}ms" if key == "latency" else f"{key}={value}"
