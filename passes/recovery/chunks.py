"""Calibration samples in chunks whose activations fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from amcc.ir import Array, Graph
from amcc.passes.batching import Batching, batching
from amcc.passes.dims import parse, per_sample

CHUNK_BYTES = 1 << 27
LARGEST_CHUNK = 128


def sample_bytes(graph: Graph, names: Iterable[str]) -> int:
    """Bytes of some values for one sample, in float32."""
    batch = max(batching(graph).size, 1)
    total = 0
    for name in names:
        shape = graph.values[name].shape
        if shape is None or any(parse(dim) is None for dim in shape):
            continue
        total += 4 * math.prod(per_sample(dim) for dim in shape)
    return -(-total // batch)


def _merges(graph: Graph, how: Batching) -> bool:
    """Whether some value does not have the batch in front: shared, or windows or tokens merged with it."""
    if any(how.axis(name) is None for name in graph.inputs):
        return True
    made = (graph.values[name].shape for node in graph.nodes for name in node.outputs if name)
    return any(shape is not None and shape[:1] != (how.size,) for shape in made)


def chunks(
    graph: Graph, inputs: Mapping[str, Array], names: Sequence[str], *, limit: int | None = None
) -> Iterator[dict[str, Array]]:
    """The samples, the first `limit` of them, in parts over which the named values take `CHUNK_BYTES` at most.

    A graph with a fixed batch gets multiples of it, and no rest that would have to be padded unless
    there is nothing else; one batch at a time where values in between have another leading length. Samples
    that a run takes alone come one by one.
    """
    how = batching(graph)
    count = how.count(inputs) if limit is None else min(how.count(inputs), limit)
    size = max(1, min(LARGEST_CHUNK, CHUNK_BYTES // max(sample_bytes(graph, names), 1)))
    if how.alone:
        size = 1
    elif batch := how.size:
        size = batch if _merges(graph, how) else max(size // batch, 1) * batch
        count = max(count // batch, 1) * batch
    for start in range(0, count, size):
        yield how.feeds(inputs, start, min(start + size, count))
