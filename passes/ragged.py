"""Rows of numbers of unlike lengths in two flat arrays, so that no row is a Python object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amcc.ir import Array

_MOST = 1 << 62  # keys that an int64 tells apart


@dataclass(frozen=True)
class Ragged:
    """Row i is `items[starts[i] : starts[i + 1]]`.

    Attributes:
        starts: `[n + 1]`, ascending from 0.
        items: the numbers of all rows, one row after the other.
    """

    starts: Array
    items: Array

    @classmethod
    def of_sizes(cls, sizes: Array, items: Array) -> Ragged:
        """Consecutive rows of these lengths."""
        return cls(running(sizes), items)

    @classmethod
    def of_sets(cls, row: Array, items: Array, count: int) -> Ragged:
        """`count` rows that hold each of their numbers (`>= 0`) once, ascending; `row` says whose each item is."""
        span = int(items.max(initial=0)) + 1
        keys = ascending(row * span + items)
        row, items = np.divmod(keys, span)
        return cls.of_sizes(np.bincount(row, minlength=count), items)

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, in order."""
        sizes = [part.sizes for part in parts]
        empty = np.zeros(0, np.int64)
        return cls.of_sizes(np.concatenate([empty, *sizes]), np.concatenate([empty, *(p.items for p in parts)]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> Array:
        """`[n]` the length of each row."""
        found: Array = self.starts[1:] - self.starts[:-1]
        return found

    @property
    def row(self) -> Array:
        """The row of each item."""
        return np.arange(len(self)).repeat(self.sizes)

    def take(self, rows: Array) -> Ragged:
        """Some rows, in the order given."""
        sizes = self.sizes[rows]
        starts = running(sizes)
        where = (self.starts[rows] - starts[:-1]).repeat(sizes) + np.arange(starts[-1])
        return Ragged(starts, self.items[where])

    def where(self, keep: Array) -> Ragged:
        """The rows with only the items that `keep` marks."""
        return Ragged(running(keep)[self.starts], self.items[keep])

    def any(self, mark: Array) -> Array:
        """`[n]` whether a row has an item that `mark` marks."""
        counts = running(mark)
        found: Array = counts[self.starts[1:]] > counts[self.starts[:-1]]
        return found

    def replaced(self, at: Array, rows: Ragged) -> Ragged:
        """Every item x with `at[x] >= 0` replaced by the numbers of row `at[x]` of `rows`; rows are sets."""
        where = at[self.items]
        swapped = where >= 0
        sizes = np.ones(len(where), np.int64)
        new = rows.take(where[swapped])
        sizes[swapped] = new.sizes
        items = self.items.repeat(sizes)
        items[swapped.repeat(sizes)] = new.items
        return Ragged.of_sets(self.row.repeat(sizes), items, len(self))

    def table(self, fill: int) -> Array:
        """`[n, k]` the rows side by side, the shorter ones filled up."""
        sizes = self.sizes
        width = int(sizes.max(initial=1))
        if len(self.items) == width * len(self):
            return self.items.reshape(-1, width)
        result = np.full((len(self), width), fill, np.int64)
        result[np.arange(result.shape[1]) < sizes[:, None]] = self.items
        return result


class Growing:
    """Rows that only grow."""

    def __init__(self) -> None:
        self._starts, self._items = np.zeros(64, np.int64), np.zeros(256, np.int64)
        self._count = 0

    @property
    def rows(self) -> Ragged:
        """All rows so far."""
        starts = self._starts[: self._count + 1]
        return Ragged(starts, self._items[: starts[-1]])

    def add(self, rows: Ragged) -> Array:
        """The numbers of the new rows."""
        first, end = self._count, int(self._starts[self._count])
        self._starts = _room(self._starts, first + len(rows) + 1)
        self._items = _room(self._items, end + len(rows.items))
        self._starts[first : first + len(rows) + 1] = rows.starts + end
        self._items[end : end + len(rows.items)] = rows.items
        self._count += len(rows)
        return np.arange(first, self._count)


def running(counts: Array) -> Array:
    """`[n + 1]` the sum of all that come before each, and of all."""
    sums = np.zeros(len(counts) + 1, np.int64)
    counts.cumsum(out=sums[1:])
    return sums


def _room(array: Array, size: int) -> Array:
    if size <= len(array):
        return array
    return np.concatenate([array, np.zeros(max(size, 2 * len(array)) - len(array), array.dtype)])


def ascending(numbers: Array) -> Array:
    """The distinct numbers in order (`np.unique` hashes, which is slower on what is almost sorted)."""
    numbers = np.sort(numbers, kind="stable")  # runs that ascend are merged
    new = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=new[1:])
    return numbers[new]


def runs(ordered: Array) -> Array:
    """Where each run of equal numbers begins, and the end."""
    new = np.ones(len(ordered) + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:-1])
    return np.flatnonzero(new)


def among(numbers: Array, ordered: Array) -> Array:
    """Whether each number is one of some ascending ones."""
    if not len(ordered):
        return np.zeros(len(numbers), bool)
    found: Array = ordered[np.minimum(ordered.searchsorted(numbers), len(ordered) - 1)] == numbers
    return found


def ranked(numbers: Array) -> tuple[Array, Array]:
    """The first position of each distinct number, in order, and for each number which one it is."""
    order = numbers.argsort(kind="stable")
    ordered = numbers[order]
    new = np.ones(len(numbers), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    which = np.empty(len(numbers), np.int64)
    which[order] = new.cumsum() - 1
    return order[new], which


def distinct(table: Array) -> tuple[Array, Array]:
    """The first position of each distinct row of `[n, k]` numbers `>= 0`, and for each row which one it is."""
    keys, span = np.zeros(len(table), np.int64), 1
    for column in table.T:
        values = int(column.max(initial=0)) + 1
        if span * values > _MOST:
            first, keys = ranked(keys)
            span = len(first)
        keys, span = keys * values + column, span * values
    return ranked(keys)


def scattered(count: int) -> Array:
    """`[count]` unsigned numbers as if drawn at random, to hash with: SplitMix64 (Steele, Lea and Flood 2014)."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def merged(count: int, a: Array, b: Array) -> Array:
    """Union-find over all pairs `a[i] = b[i]` at once: `[count]` the smallest number equal to each."""
    parent = np.arange(count)
    while len(a):
        a, b = parent[a], parent[b]
        differ = a != b
        a, b = a[differ], b[differ]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while (parent != (up := parent[parent])).any():
            parent = up
    return parent
