"""Calibration samples in chunks whose activations fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from amcc.ir import Array, Graph
from amcc.passes.dims import parse, per_sample

CHUNK_BYTES = 1 << 27
LARGEST_CHUNK = 128


def count_of(inputs: Mapping[str, Array]) -> int:
    """The number of samples."""
    return min((len(array) for array in inputs.values()), default=0)


def fixed_batch(graph: Graph) -> int:
    """Samples that the graph takes at once; 0 when it takes any number."""
    leading = {shape[0] for name in graph.inputs if (shape := graph.values[name].shape)}
    only = leading.pop() if len(leading) == 1 else 0
    return only if isinstance(only, int) else 0


def sample_bytes(graph: Graph, names: Iterable[str]) -> int:
    """Bytes of some values for one sample, in float32."""
    batch = max(fixed_batch(graph), 1)
    total = 0
    for name in names:
        shape = graph.values[name].shape
        if shape is None or any(parse(dim) is None for dim in shape):
            continue
        total += 4 * math.prod(per_sample(dim) for dim in shape)
    return -(-total // batch)


def _merges(graph: Graph, batch: int) -> bool:
    """Whether some value that is computed does not have the batch in front: windows or tokens merged with it."""
    made = (graph.values[name].shape for node in graph.nodes for name in node.outputs if name)
    return any(shape and shape[0] != batch for shape in made)


def chunks(
    graph: Graph, inputs: Mapping[str, Array], names: Sequence[str], *, limit: int | None = None
) -> Iterator[dict[str, Array]]:
    """The samples, the first `limit` of them, in parts over which the named values take `CHUNK_BYTES` at most.

    A graph with a fixed batch gets multiples of it, and no rest that would have to be padded unless
    there is nothing else; one batch at a time where values in between have another leading length.
    """
    count = min(count_of(inputs), count_of(inputs) if limit is None else limit)
    size = max(1, min(LARGEST_CHUNK, CHUNK_BYTES // max(sample_bytes(graph, names), 1)))
    if batch := fixed_batch(graph):
        size = batch if _merges(graph, batch) else max(size // batch, 1) * batch
        count = max(count // batch, 1) * batch
    for start in range(0, count, size):
        yield {name: array[start : min(start + size, count)] for name, array in inputs.items()}
