"""The learning rate over a training."""

from __future__ import annotations

import math


def rate_at(step: int, total: int, warmup: float) -> float:
    """The share of the highest rate at a step: a straight rise, then half a cosine that ends at zero.

    Args:
        warmup: share of the steps in which it rises.
    """
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))
