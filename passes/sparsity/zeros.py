"""Masks of weights: which entries of a parameter may be other than zero."""

from __future__ import annotations

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.recovery.linear import linears
from amcc.passes.recovery.masked import Masks


def masks(graph: Graph) -> dict[str, Array]:
    """The masks of a sparse network, read off its zeros.

    Returns:
        For each weight of a linear layer (Conv, ConvTranspose, Gemm, MatMul) that holds a zero, bool of the
        parameter's shape, false at the zeros. To train and stay sparse, multiply gradients or weights with it.
    """
    found = {linear.weight: graph.params[linear.weight] != 0 for linear in linears(graph).values()}
    return {name: np.asarray(mask) for name, mask in found.items() if not mask.all()}


def zeroed(graph: Graph, masks: Masks) -> Graph:
    """The network with zeros where the masks are false; every other number is the very one that was there."""

    def without(name: str, mask: Array) -> Array:
        array = graph.params[name]
        return np.where(mask, array, np.zeros((), array.dtype))

    return graph.with_params({name: without(name, mask) for name, mask in masks.items()})
