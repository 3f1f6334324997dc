"""Random networks from all operator families, for laws that must hold on any topology."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from tests.random_graphs import convolutional
from tests.random_graphs.builder import BATCH, SIDE, Builder, Tensor

Grow = Callable[[Builder, Tensor], None]

GROWTHS: tuple[Grow, ...] = (*convolutional.GROWTHS,)


def random_network(seed: int, length: int) -> onnx.ModelProto:
    """A network of about `length` building blocks."""
    b = Builder(seed)
    convolutional.conv(b, b.pool[0])
    for _ in range(length):
        recent = b.pool[1:][-6:]
        GROWTHS[b.pick(0, len(GROWTHS) - 1)](b, recent[b.pick(0, len(recent) - 1)])
    return b.model()


__all__ = ["BATCH", "SIDE", "Builder", "Tensor", "random_network"]
