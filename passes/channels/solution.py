"""What a system of cut sets comes to: which units each index holds, and what froze it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.ir import Array
from amcc.passes.ragged import Ragged, running

if TYPE_CHECKING:
    from amcc.passes.channels.cutsets import CutSets

FREE = np.iinfo(np.int64).max


class Solution:
    """Atoms merged, replaced or locked: what is left is free, and one unit each.

    Args:
        root: by atom, the atom that stands for it.
        at: by root, its row in `images` if it is replaced, else -1.
        images: what roots are replaced by: atoms that stand for themselves.
        tags: by atom that stands for itself, the tag of the lock that holds it, or `FREE`.
    """

    def __init__(self, cuts: CutSets, root: Array, at: Array, images: Ragged, tags: Array) -> None:
        self._cuts = cuts
        self._root = root
        self._at = at
        self._images = images
        self._tags = tags

    def lock(self, units: Array, tag: int) -> None:
        """Units that stay after all; without them the others are as legal as before."""
        self._tags[units] = tag

    def normal(self, cut: int) -> frozenset[int]:
        """The units of a cut set; empty if the index never goes."""
        return frozenset(self.table(np.array([cut]))[0].tolist()) - {-1}

    def units(self, cuts: Array) -> Ragged:
        """The units of each cut set of an axis, ascending."""
        rows = self._expanded(cuts)
        return rows.where(self._tags[rows.items] == FREE)

    def holds(self, mark: Array) -> Array:
        """By atom, whether one of its units is marked."""
        found = mark & (self._tags == FREE)
        replaced = np.flatnonzero(self._at >= 0)
        found[replaced] = self._images.any(found[self._images.items])[self._at[replaced]]
        by_atom: Array = found[self._root]
        return by_atom

    def table(self, cuts: Array) -> Array:
        """`[n, k]` the units of each cut set of an axis, ascending, -1 filling."""
        return self.tables([cuts])[0]

    def tables(self, axes: Sequence[Array]) -> list[Array]:
        """`[n, k]` the units of each cut set of each axis, ascending, -1 filling."""
        whole = np.concatenate([np.zeros(0, np.int64), *axes])
        root, several = self._roots(whole)
        alone = np.where(self._tags[root] == FREE, root, -1)
        ends = np.cumsum([0, *map(len, axes)])
        held = running(several)[ends]
        tables = [alone[a:b, None] for a, b in itertools.pairwise(ends.tolist())]
        compound = np.flatnonzero(held[1:] > held[:-1]).tolist()
        if compound:
            distinct, inverse = np.unique(np.concatenate([axes[i] for i in compound]), return_inverse=True)
            units = self.units(distinct)
            parts = np.split(inverse, np.cumsum([len(axes[i]) for i in compound[:-1]]))
            for number, part in zip(compound, parts, strict=True):
                tables[number] = units.take(part).table(-1)
        return tables

    def frozen(self, axes: Sequence[Array]) -> list[dict[int, int]]:
        """How many indices of each axis stay for good because of each lock, by tag."""
        whole = np.concatenate([np.zeros(0, np.int64), *axes])
        axis = np.repeat(np.arange(len(axes)), [len(cuts) for cuts in axes])
        root, several = self._roots(whole)
        tags = self._tags[root]
        if several.any():
            held = self._held(whole[several])
            tags = np.concatenate([tags[~several], held.items])
            axis = np.concatenate([axis[~several], axis[several][held.row]])
        locked = (tags >= 0) & (tags < FREE)
        span = int(tags[locked].max(initial=0)) + 1
        keys, counts = np.unique(axis[locked] * span + tags[locked], return_counts=True)
        found: list[dict[int, int]] = [{} for _ in axes]
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            found[key // span][key % span] = count
        return found

    def _held(self, cuts: Array) -> Ragged:
        """The tags of the locks that hold each cut set as a whole; none where some unit of it is free."""
        rows = self._expanded(cuts)
        held = rows.where(~rows.any(self._tags[rows.items] == FREE).repeat(rows.sizes))
        shifted = Ragged.of_sets(held.row, self._tags[held.items] + 1, len(held))
        return Ragged(shifted.starts, shifted.items - 1)

    def _roots(self, cuts: Array) -> tuple[Array, Array]:
        """The atoms that stand for atoms, and which cut sets are, or have become, several."""
        root = self._root[np.maximum(cuts, 0)]
        return root, (cuts < 0) | (self._at[root] >= 0)

    def _expanded(self, cuts: Array) -> Ragged:
        atoms = self._cuts.atoms(cuts)
        return Ragged(atoms.starts, self._root[atoms.items]).replaced(self._at, self._images)
