"""The operators that amcc knows, by family."""

from __future__ import annotations

from types import MappingProxyType

from amcc.passes.rules import (
    attention,
    control,
    convolution,
    einsum,
    indexing,
    layout,
    linear,
    measured,
    microsoft,
    mixing,
    normalization,
    padding,
    pointwise,
    pooling,
    quantized,
    recurrent,
    selection,
    signal,
    slicing,
    vision,
)
from amcc.passes.rules.locked import LOCKED
from amcc.passes.rules.rule import UNKNOWN, Monomial, Rule, rule_of

RULES = MappingProxyType(
    {
        **pointwise.RULES,
        **convolution.RULES,
        **linear.RULES,
        **einsum.RULES,
        **attention.RULES,
        **normalization.RULES,
        **pooling.RULES,
        **mixing.RULES,
        **layout.RULES,
        **measured.RULES,
        **indexing.RULES,
        **slicing.RULES,
        **padding.RULES,
        **vision.RULES,
        **selection.RULES,
        **signal.RULES,
        **recurrent.RULES,
        **quantized.RULES,
        **microsoft.RULES,
        **control.RULES,
    }
)

__all__ = ["LOCKED", "RULES", "UNKNOWN", "Monomial", "Rule", "rule_of"]
