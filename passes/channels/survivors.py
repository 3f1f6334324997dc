"""No plan may leave nothing of an axis.

A plan keeps a unit of every group. That saves an axis if some groups cut it in a full grid: whichever unit of each
stays, they meet in an index. An axis that is no such grid, a diagonal of one, say, can lose its last index; one of
its indices must be held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amcc.ir import Array
from amcc.passes.ragged import distinct
from amcc.passes.rules.rule import Place


def last_index(axes: Mapping[Place, Array], sizes: Sequence[int]) -> tuple[Place, int] | None:
    """The first axis that a plan could empty, with an index to hold; None if there is none.

    Args:
        axes: `[n, k]` unit numbers of each axis, the number of all units filling.
        sizes: of the groups; units are numbered group by group.
    """
    group_of = np.append(np.repeat(np.arange(len(sizes)), sizes), len(sizes))
    free = np.append(np.asarray(sizes, np.int64) > 1, False)[group_of]  # a single unit always stays
    seen: set[int] = set()
    for place, table in axes.items():
        if table.shape[1] > 1 and id(table) not in seen:
            seen.add(id(table))
            loose = np.sort(np.where(free[table], table, len(group_of) - 1), axis=1)
            if not _has_grid(loose, group_of, sizes):
                return place, int(free[table].sum(axis=1).argmin())
    return None


def _has_grid(table: Array, group_of: Array, sizes: Sequence[int]) -> bool:
    """Whether the indices that some groups cut together are all combinations of their units."""
    groups = group_of[table[distinct(table)[0]]]
    first, which = distinct(groups)
    times = np.bincount(which)
    for kind, count in zip(groups[first].tolist(), times.tolist(), strict=True):
        full = 1
        for group in kind:
            full *= sizes[group] if group < len(sizes) else 1
        if full == count:
            return True
    return False
