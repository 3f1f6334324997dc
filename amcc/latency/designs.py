"""Which plans are measured: for each group one width after another, then plans drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amcc.ir import Array
from amcc.latency.operators import Operators

WORTH = 0.03
"""A width is worth having if it saves at least this share of the time of the next wider one that is."""
TREAD = 0.25
"""Half-way between two widths a line has nothing of their difference more than their mean, a staircase a half."""

_COLOURS = 4


def levels(size: int, most: int) -> list[int]:
    """At most so many widths of a group, ascending: multiples of a power of two, and the whole."""
    step = 1
    while size > most * step:
        step *= 2
    return [*range(step, size, step), size]


def colours(operators: Operators) -> list[int]:
    """A number for each group, few in all; groups that meet in an operator have different ones, as far as four go."""
    groups = operators.channels.groups
    beside: list[set[int]] = [set() for _ in groups]
    for operator in operators.listed:
        for group in operator.groups:
            beside[group] |= operator.groups - {group}
    colour: dict[int, int] = {}
    for group in sorted(range(len(groups)), key=lambda number: (-len(beside[number]), number)):
        taken = {colour[other] for other in beside[group] if other in colour}
        free = next(number for number in range(len(groups)) if number not in taken)
        colour[group] = free if free < _COLOURS else group % _COLOURS
    return [colour[group] for group in range(len(groups))]


def sweeps(sizes: Sequence[int], colour: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """For each colour, plans in which its groups go through their widths together and all others are whole."""
    listed = [levels(size, most) for size in sizes]
    steps = max(map(len, listed))
    plans: dict[tuple[int, ...], None] = {tuple(sizes): None}
    for one in sorted(set(colour)):
        for step in range(1, steps + 1):
            plan = list(sizes)
            for group, widths in enumerate(listed):
                if colour[group] == one:
                    plan[group] = widths[max(-(-step * len(widths) // steps) - 1, 0)]
            plans[tuple(plan)] = None
    return list(plans)


def tread(times: Mapping[int, float]) -> int:
    """The length of a staircase's treads, a power of two; 1 where times fall evenly.

    A width half-way between two multiples of a tread takes as long as the wider of them (or longer, in a layout that
    the runtime is slow at), and a width half-way between two multiples of twice the tread takes the mean.

    Args:
        times: by width.
    """
    length = 1 << max(times).bit_length()
    while length > 1:
        half = length // 2
        middles = [w for w in times if w % length == half and w - half in times and w + half in times]
        steps = sum(times[w + half] - times[w - half] for w in middles)
        excess = sum(times[w] - (times[w - half] + times[w + half]) / 2 for w in middles)
        if steps > 0 and excess >= TREAD * steps:
            return length
        length = half
    return 1


def stairs(times: Mapping[int, float]) -> tuple[int, ...]:
    """The widths of a group that are worth having, ascending, the whole the last.

    These are the whole, multiples of the tread, and widths below it. From the whole downwards, a width is left out
    if it hardly takes less time than the next wider one that is worth having.

    Args:
        times: by width, of all that the group reaches.
    """
    length, whole = tread(times), max(times)
    kept: list[int] = []
    for width in sorted(times, reverse=True):
        if width != whole and width > length and width % length:
            continue
        if not kept or times[width] <= (1 - WORTH) * times[kept[-1]]:
            kept.append(width)
    return tuple(reversed(kept))


def drawn(widths: Sequence[Sequence[int]], count: int, random: np.random.Generator) -> list[Array]:
    """Plans of legal widths, int64 [groups]: each around a share of its own, from a sixth to all."""
    plans = []
    for _ in range(count):
        share = random.uniform(1 / 6, 1)
        wanted = np.clip(share + random.normal(0, 0.2, len(widths)), 0.05, 1)
        plans.append(
            np.array([_nearest(one, part * one[-1]) for one, part in zip(widths, wanted, strict=True)], np.int64)
        )
    return plans


def _nearest(widths: Sequence[int], wanted: float) -> int:
    return min(widths, key=lambda width: (abs(width - wanted), width))
