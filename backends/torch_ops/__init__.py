"""What each ONNX operator is in PyTorch: one table from operators to functions that write the code."""

from __future__ import annotations

from amcc.backends.torch_ops import elementwise, indexing, layers, movement, pooling, resize
from amcc.backends.torch_ops.writer import Table

__all__ = ["EMITTERS", "SEVERAL"]

EMITTERS: Table = {
    **elementwise.EMITTERS,
    **indexing.EMITTERS,
    **layers.EMITTERS,
    **movement.EMITTERS,
    **pooling.EMITTERS,
    **resize.EMITTERS,
}

# Their outputs are taken from a tuple.
SEVERAL = movement.SEVERAL | indexing.SEVERAL
