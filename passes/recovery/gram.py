"""One pass over calibration inputs: the second moments of what every consumer of a group reads.

A consumer is a linear operator whose contracted axis is cut by some unit. With its rows X (patches, with a
column of ones for the bias) the Gram matrix `X^T X` answers every later question - the order in which
units go, the error of any removal, the best weights for any subset - without touching data again.

Memory: a consumer holds `8 (K + 1)^2` bytes a convolution group, K being channels times kernel offsets.
Consumers beyond `LARGEST` entries, or for which no room is left within `LARGEST_TOTAL`, are left out: their
weights are cut and not refitted. Activations are held for a chunk of samples at a time.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from amcc.ir import Array, Graph
from amcc.passes.batching import batching
from amcc.passes.channels.model import Channels
from amcc.passes.recovery.affine import Tail, tail
from amcc.passes.recovery.blas import one_thread
from amcc.passes.recovery.chunks import chunks
from amcc.passes.recovery.linear import Linear, linears
from amcc.passes.recovery.patches import draw, inputs_at

POSITIONS = 32
"""Output positions taken of each sample."""

LARGEST = 1 << 26
"""Entries of the largest Gram matrix."""

LARGEST_TOTAL = 1 << 28
"""Entries of all Gram matrices together."""

PROBES = 128
"""Samples that are kept to compare outputs on."""

_FEW_ROWS = 256
_ROW_BYTES = 1 << 26


@dataclass(frozen=True)
class Consumer:
    """A linear operator that reads channels which can go.

    Attributes:
        matrix: its weight, float64 `[G, O, K]`, and `offset` its bias, float64 `[G, O]`.
        gram: mean of the outer products of its rows with a one appended, float64 `[G, K + 1, K + 1]`.
        tail: where an offset can go when it has no bias.
    """

    linear: Linear
    matrix: Array
    offset: Array
    gram: Array
    tail: Tail

    @property
    def fits_offset(self) -> bool:
        """Whether a change of the bias can be stored."""
        return bool(self.linear.bias or self.tail.holder)


@dataclass(frozen=True)
class Statistics:
    """What calibration learned.

    Attributes:
        consumers: by node name, in the graph's order.
        samples: calibration samples that were read.
        probes: a few of them, on which `rank` compares outputs.
        solutions: least-squares solutions found so far, by node and inputs that stay; newest last.
    """

    consumers: Mapping[str, Consumer]
    samples: int
    probes: Mapping[str, Array] = field(repr=False)
    solutions: OrderedDict[tuple[str, bytes], Array] = field(default_factory=OrderedDict, repr=False, compare=False)


@one_thread
def calibrate(
    channels: Channels,
    inputs: Mapping[str, Array],
    *,
    seed: int = 0,
    limit: int | None = None,
    positions: int = POSITIONS,
    threads: int = 0,
) -> Statistics:
    """Run the original once over calibration inputs and gather the Gram matrix of every consumer.

    Args:
        inputs: an array `[samples, ...]` for every input of the network.
        seed: of the output positions.
        limit: samples to use, all by default.
        positions: output positions of a sample, at most.
        threads: of ONNX Runtime, 0 for all cores.
    """
    return gather(
        channels.graph, _consumers(channels), inputs, seed=seed, limit=limit, positions=positions, threads=threads
    )


@one_thread
def gather(
    graph: Graph,
    found: Iterable[Linear],
    inputs: Mapping[str, Array],
    *,
    seed: int = 0,
    limit: int | None = None,
    positions: int = POSITIONS,
    threads: int = 0,
) -> Statistics:
    """The same for any linear operators of a network."""
    from amcc.backends.runtime import Session

    wanted = _within_memory(graph, found)
    by_rows: dict[tuple[object, ...], list[Linear]] = {}
    for linear in wanted:
        by_rows.setdefault(_rows_key(graph, linear), []).append(linear)
    grams: dict[tuple[object, ...], Gram] = {key: Gram() for key in by_rows}
    samples, how = 0, batching(graph)
    if wanted:
        names = list(dict.fromkeys(v for linear in wanted for v in (linear.x, linear.y)))
        session = Session(graph, outputs=names, threads=threads)
        for number, feeds in enumerate(chunks(graph, inputs, names, limit=limit)):
            values = session.run(feeds)
            samples += how.count_in(feeds)
            for key, (first, *_) in by_rows.items():
                rng = generator(seed, first.node.name, number)
                grams[key].add(first, values[first.x], values[first.y].shape, positions, rng)
    means = {key: gram.mean() for key, gram in grams.items()}
    consumers: dict[str, Consumer] = {}
    for linear in wanted:
        gram = means[_rows_key(graph, linear)]
        if gram is not None:
            matrix = linear.matrix(graph)
            offset = linear.offset(graph)
            offset = np.zeros(matrix.shape[:2]) if offset is None else offset
            consumers[linear.node.name] = Consumer(linear, matrix, offset, gram, tail(graph, linear))
    return Statistics(consumers, samples, _probes(graph, inputs, seed))


class Gram:
    """The running sum of `[x 1]^T [x 1]` over rows x; long products in float32, sums in float64."""

    def __init__(self) -> None:
        self._sum: Array | None = None
        self._rows = 0

    def add(self, linear: Linear, x: Array, y_shape: tuple[int, ...], positions: int, rng: np.random.Generator) -> None:
        """Add the rows of one chunk of samples."""
        at = draw(linear, x, y_shape, positions, rng)
        for part in parts(linear, x, len(at.outputs)):
            rows = with_ones(inputs_at(linear, x[part], at))
            products = product(rows, rows).astype(np.float64)
            self._sum = products if self._sum is None else self._sum + products
            self._rows += rows.shape[1]

    def mean(self) -> Array | None:
        """The mean, or None when there were no rows or the activations are not finite."""
        if self._sum is None or not np.isfinite(self._sum).all():
            return None
        mean: Array = self._sum / self._rows
        return mean


def product(rows: Array, others: Array) -> Array:
    """`[G, K, O]` the sum over rows `[G, R, K]` and `[G, R, O]` of their outer products.

    Few rows are multiplied in float64: that costs little, and pooled features vary little about their mean.
    """
    if rows.shape[1] <= _FEW_ROWS:
        same = rows is others
        rows = rows.astype(np.float64)
        others = rows if same else others.astype(np.float64)
    if len(rows) == 1:  # two dimensions: the library then knows a product with itself, and halves the work
        return np.asarray(rows[0].T @ others[0])[None]
    return rows.transpose(0, 2, 1) @ others


def with_ones(rows: Array) -> Array:
    """Rows `[G, R, K]` with a column of ones."""
    return np.concatenate([rows, np.ones((*rows.shape[:2], 1), rows.dtype)], axis=2)


def parts(linear: Linear, x: Array, positions: int) -> list[slice]:
    """Slices of samples whose rows take little memory together."""
    if linear.x_axis == 0:
        return [slice(None)]
    row = 4 * x.shape[linear.x_axis] * linear.taps
    size = max(1, _ROW_BYTES // max(row * positions, 1))
    return [slice(start, start + size) for start in range(0, len(x), size)]


def generator(seed: int, name: str, chunk: int) -> np.random.Generator:
    """The random numbers for one node's positions in one chunk, independent of which other nodes there are."""
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode()), chunk]))


def _probes(graph: Graph, inputs: Mapping[str, Array], seed: int) -> dict[str, Array]:
    how = batching(graph)
    count = how.count(inputs)
    if count <= PROBES:
        return dict(inputs)
    indices = np.sort(np.random.Generator(np.random.PCG64([seed, count])).choice(count, PROBES, replace=False))
    return how.take(inputs, indices)


def _consumers(channels: Channels) -> list[Linear]:
    """Linear nodes with more than one channel a convolution group, of which some can go."""
    graph = channels.graph
    found = []
    for linear in linears(graph).values():
        size = cast(int, graph.shape(linear.x)[linear.x_axis]) if (linear.x, linear.x_axis) in channels.axes else 0
        if size > linear.groups:
            found.append(linear)
    return found


def _within_memory(graph: Graph, found: Iterable[Linear]) -> list[Linear]:
    room, fitting = LARGEST_TOTAL, set()
    sized = []
    for linear in found:
        columns = cast(int, graph.shape(linear.x)[linear.x_axis]) // linear.groups * linear.taps
        sized.append((linear.groups * (columns + 1) ** 2, linear))
    for entries, linear in sorted(sized, key=lambda pair: pair[0]):
        if entries <= LARGEST and entries <= room:
            room -= entries
            fitting.add(linear.node.name)
    return [linear for _, linear in sized if linear.node.name in fitting]


def _rows_key(graph: Graph, linear: Linear) -> tuple[object, ...]:
    """Equal for consumers that read the same rows."""
    attributes = tuple(str(linear.node.attributes.get(n)) for n in ("strides", "dilations", "pads", "auto_pad"))
    shape = graph.shape(linear.y)
    positions = tuple(d for axis, d in enumerate(shape) if axis != linear.y_axis)
    one = "output_shape" in linear.node.attributes or linear.node.op == "ConvTranspose"
    return (
        linear.x,
        linear.x_axis,
        linear.node.op,
        linear.groups,
        linear.kernel,
        attributes,
        positions,
        linear.node.name if one else "",
    )
