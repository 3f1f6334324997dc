"""Fine-grained sparsity: single weights, N:M patterns and blocks of linear layers set to zero."""

from __future__ import annotations

from amcc.passes.sparsity.masks import masks, zeroed

__all__ = ["masks", "zeroed"]
