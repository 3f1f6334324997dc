"""Fine-grained sparsity: single weights, N:M patterns and blocks of linear layers set to zero."""

from __future__ import annotations

from amcc.passes.recovery.masked import Masks
from amcc.passes.sparsity.choice import Choice, by_magnitude, choose, gather
from amcc.passes.sparsity.costs import SparseCosts
from amcc.passes.sparsity.layers import Layer, Layers, layers_of
from amcc.passes.sparsity.refit import refit
from amcc.passes.sparsity.sizes import Sizes, sizes
from amcc.passes.sparsity.zeros import masks, zeroed

__all__ = [
    "Choice",
    "Layer",
    "Layers",
    "Masks",
    "Sizes",
    "SparseCosts",
    "by_magnitude",
    "choose",
    "gather",
    "layers_of",
    "masks",
    "refit",
    "sizes",
    "zeroed",
]
