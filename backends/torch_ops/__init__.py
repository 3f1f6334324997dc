"""What each ONNX operator is in PyTorch: one table from operators to functions that write the code."""

from __future__ import annotations

from amcc.backends.torch_ops import (
    attention,
    chance,
    elementwise,
    indexing,
    layers,
    lists,
    losses,
    movement,
    norms,
    pooling,
    quantised,
    recurrent,
    reduction,
    resize,
    sampling,
    signals,
)
from amcc.backends.torch_ops.writer import Table

__all__ = ["EMITTERS", "MOVING"]

EMITTERS: Table = {
    **attention.EMITTERS,
    **chance.EMITTERS,
    **elementwise.EMITTERS,
    **indexing.EMITTERS,
    **layers.EMITTERS,
    **lists.EMITTERS,
    **losses.EMITTERS,
    **movement.EMITTERS,
    **norms.EMITTERS,
    **pooling.EMITTERS,
    **quantised.EMITTERS,
    **recurrent.EMITTERS,
    **reduction.EMITTERS,
    **resize.EMITTERS,
    **sampling.EMITTERS,
    **signals.EMITTERS,
}

# What takes the unsigned integers of 16 bits and more, with which PyTorch does not compute.
MOVING = elementwise.WIDENED | frozenset(
    "BitCast Cast CastLike Concat ConstantOfShape DequantizeLinear Equal Expand Flatten Identity Not Optional "
    "OptionalGetElement OptionalHasElement QuantizeLinear Reshape SequenceAt SequenceConstruct SequenceErase "
    "SequenceInsert SequenceLength Shape Size Split Squeeze Tile Transpose Unsqueeze Where".split()
)
