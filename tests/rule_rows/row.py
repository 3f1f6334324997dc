"""A row: an operator between two convolutions, `[2, 8, 8, 8]` going in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.random_graphs import Builder

C, SIDE = 8, 8
Place = Callable[[Builder, str], str]


@dataclass(frozen=True)
class Row:
    """How an operator is put in; `after` is the shape of its result, `macs` its own cost for two samples.

    `free` says whether the eight channels in front of it may go, `inexact` whether that is marked; None if only some
    cuts of them are.
    """

    place: Place
    after: tuple[int, int, int] = (C, SIDE, SIDE)
    free: bool = True
    opset: int = 17
    macs: int = 0
    batch: int | str = 2
    inexact: bool | None = False
