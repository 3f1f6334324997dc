"""What a compilation is to guarantee, in place of a budget: the least metric, or the largest drop of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from amcc.budget import KEYS, Key
from amcc.errors import UsageError

Kind = Literal["min-metric", "max-drop"]
CONFIDENCE = 0.95
_NUMBER = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Target:
    """What must hold on samples that nothing else saw, and what is made small under it.

    Attributes:
        value: of the metric, in its own units.
        text: the value as the user wrote it.
        confidence: how sure, in (0.5, 1).
        minimise: the resource.
    """

    kind: Kind
    value: float
    text: str
    confidence: float = CONFIDENCE
    minimise: Key = "flops"

    def __str__(self) -> str:
        return f"{self.kind}={self.text}"

    @property
    def alpha(self) -> float:
        """The share of all draws of samples in which the guarantee may fail."""
        return 1 - self.confidence

    @classmethod
    def parse(
        cls,
        min_metric: str | float | None,
        max_drop: str | float | None,
        confidence: float = CONFIDENCE,
        minimise: str = "flops",
    ) -> Target | None:
        """Read `0.92` or `92%`, and `0.005` or `0.5%` (both absolute: half a percentage point); None for neither.

        Raises:
            UsageError: both are given, or a value makes no sense.
        """
        if min_metric is not None and max_drop is not None:
            raise UsageError("--min-metric and --max-drop exclude each other", hint="give one of them")
        if not 0.5 < confidence < 1:
            raise UsageError(f"{confidence} is not above 0.5 and below 1", where="--confidence", hint="0.95, say")
        if minimise not in KEYS:
            raise UsageError(f"'{minimise}' is not one of {', '.join(KEYS)}", where="--minimise")
        if min_metric is None and max_drop is None:
            return None
        kind: Kind = "max-drop" if min_metric is None else "min-metric"
        text = str(max_drop if min_metric is None else min_metric).strip()
        value = _number(text, f"--{kind}")
        if kind == "max-drop" and value <= 0:
            raise UsageError(
                f"{text} is not above zero", where="--max-drop", hint="no number of samples proves that nothing is lost"
            )
        return cls(kind, value, text, float(confidence), minimise)


def _number(text: str, option: str) -> float:
    digits = text.removesuffix("%").rstrip()
    if not _NUMBER.fullmatch(digits):
        raise UsageError(f"'{text}' is not a number", where=option, hint="write it as 0.92 or 92%, 0.005 or 0.5%")
    value = float(Fraction(digits) / (100 if text.endswith("%") else 1))
    if not math.isfinite(value):
        raise UsageError(f"'{text}' is not finite", where=option)
    return value
