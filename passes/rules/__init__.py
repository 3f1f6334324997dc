"""The operators that amcc knows, by family."""

from __future__ import annotations

from types import MappingProxyType

from amcc.passes.rules import convolution, indexing, layout, linear, mixing, normalization, pointwise, pooling
from amcc.passes.rules.rule import UNKNOWN, Monomial, Rule, rule_of

RULES = MappingProxyType(
    {
        **pointwise.RULES,
        **convolution.RULES,
        **linear.RULES,
        **normalization.RULES,
        **pooling.RULES,
        **mixing.RULES,
        **layout.RULES,
        **indexing.RULES,
    }
)

__all__ = ["RULES", "UNKNOWN", "Monomial", "Rule", "rule_of"]
