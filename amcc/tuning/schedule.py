"""The learning rate over a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from amcc.errors import DataError
from amcc.usercode import call, named_function

Schedule = Callable[[int, int], float]
"""From a step and the number of all steps to a share of the highest rate."""


def schedule_of(schedule: str | Callable[..., Any], warmup: float) -> Schedule:
    """The schedule of a name, `module:function` or function.

    Args:
        warmup: share of the steps in which the rate rises in a straight line; a function says so itself.

    Raises:
        UsageError: there is no such function.
        DataError: it gives no number.
    """
    if schedule in ("cosine", "constant"):
        falling = schedule == "cosine"

        def named(step: int, steps: int) -> float:
            rising = round(warmup * steps)
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1))) if falling else 1.0

        return named
    function = named_function(schedule, option="--schedule") if isinstance(schedule, str) else schedule
    name = f"schedule '{getattr(function, '__name__', 'function')}'"

    def users(step: int, steps: int) -> float:
        found = call(function, step, steps, name=name)
        if not isinstance(found, int | float) or not math.isfinite(found):
            raise DataError(f"{name} gave {found!r}, not a number")
        return float(found)

    return users
