"""Inputs made up for a model whose data are not at hand.

Pictures-like inputs get noise whose power falls with spatial frequency, as in natural pictures (white
noise averages away in the first strided layers); the rest gets white noise; all of unit variance.
Integer inputs are indices: they stay below the rows of the table that they look up.

Some networks do not run on noise, as where a float input holds indices. `that_runs` then tries numbers in [0, 1) for
one input after another and for all, then zeros and ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeVar

import numpy as np

from amcc.data import Dataset, element_type, is_float
from amcc.errors import DataError, RunError
from amcc.ir import Array, Graph
from amcc.passes.batching import batching

SAMPLES = 256
_SMALLEST_PICTURE = 4
_MOST_ALONE = 8
Manner = Literal["noise", "unit", "zeros", "ones"]
_TEXTS: dict[Manner, str] = {"noise": "noise", "unit": "numbers in [0, 1)", "zeros": "zeros", "ones": "ones"}
Found = TypeVar("Found")


def synthetic(
    graph: Graph, samples: int = SAMPLES, *, seed: int = 0, manners: Mapping[str, Manner] | None = None
) -> Dataset:
    """Made-up samples for every input of the model; see `Dataset` for how they lie.

    Args:
        manners: how to make up an input, if not as noise: `"unit"` in [0, 1), `"zeros"` or `"ones"`.

    Raises:
        DataError: the type of an input cannot be made up.
    """
    random, chosen = np.random.default_rng([seed, 2]), manners or {}
    inputs = {name: _drawn(graph, name, samples, random, chosen.get(name, "noise")) for name in graph.inputs}
    digest = hashlib.sha256(b"".join(array.tobytes() for array in inputs.values())).hexdigest()
    notes = tuple(
        f"the network does not run on noise: input '{n}' holds {_TEXTS[m]} instead" for n, m in chosen.items()
    )
    source = f"{samples} synthetic inputs"
    return Dataset(inputs, None, source, digest, notes, synthetic=True, batching=batching(graph))


def that_runs(graph: Graph, samples: int, run: Callable[[Dataset], Found], *, seed: int = 0) -> Found:
    """What `run` gives for the first made-up inputs on which it does not fail.

    Raises:
        DataError: the type of an input cannot be made up.
        RunError: it fails on all; says what it said of noise, and names the inputs.
    """
    first: RunError | None = None
    for manners in _manners(graph):
        try:
            return run(synthetic(graph, samples, seed=seed, manners=manners))
        except RunError as error:
            first = first or error
    assert first is not None
    names = " and ".join(f"'{name}'" for name in _suspects(graph, str(first))[:4])
    first.hint = first.hint or f"made-up inputs may be to blame: give real ones for {names} with --data"
    raise first


def _manners(graph: Graph) -> Iterator[Mapping[str, Manner]]:
    """What to try, in this order."""
    yield {}
    unit: Manner = "unit"
    plain: tuple[Manner, ...] = ("zeros", "ones")
    floats = [name for name in graph.inputs if is_float(element_type(graph.values[name].dtype))]
    if 1 < len(floats) <= _MOST_ALONE:
        yield from ({name: unit} for name in floats)
    if floats:
        yield dict.fromkeys(floats, unit)
    yield from (dict.fromkeys(graph.inputs, manner) for manner in plain)


def _suspects(graph: Graph, message: str) -> list[str]:
    """The inputs in front of the node that a message names, all if it names none."""
    failing = [node for node in graph.nodes if f"'{node.name}'" in message]
    pending = [name for node in failing for name in node.reads]
    seen = set(pending)
    while pending:
        node = graph.producers.get(pending.pop())
        fresh = [name for name in (node.reads if node else ()) if name not in seen]
        seen.update(fresh)
        pending.extend(fresh)
    return [name for name in graph.inputs if name in seen] or list(graph.inputs)


def _drawn(graph: Graph, name: str, samples: int, random: np.random.Generator, manner: Manner) -> Array:
    value, how = graph.values[name], batching(graph)
    sizes = [dim if isinstance(dim, int) else 1 for dim in graph.shape(name)]
    axis = how.axis(name)
    if how.stacked:
        sizes.insert(0, samples)
    elif axis is not None:
        sizes[axis] = samples
    shape, dtype = tuple(sizes), element_type(value.dtype)
    if manner in ("zeros", "ones") and (is_float(dtype) or dtype.kind in "biu"):
        return np.full(shape, manner == "ones").astype(dtype)
    if dtype.kind == "b":
        return np.asarray(random.random(shape) < 0.5)
    if dtype == np.uint8:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if dtype.kind in "iu":
        return np.asarray(random.integers(0, _rows_looked_up(graph, name), shape, dtype=dtype))
    if not is_float(dtype):
        raise DataError(f"inputs of type {value.dtype} cannot be made up", where=name, hint="give --data or --calib")
    if manner == "unit":
        return np.asarray(random.random(shape)).astype(dtype)
    noise = np.asarray(random.standard_normal(shape))
    if len(graph.shape(name)) == 4:
        last = noise.ndim - 1
        noise = _natural(noise, (last - 2, last - 1) if shape[-1] <= 4 < shape[-3] else (last - 1, last))
    return noise.astype(dtype)


def _natural(noise: Array, axes: tuple[int, int]) -> Array:
    """White noise filtered to an amplitude of 1/frequency over two axes, unit variance."""
    height, width = (noise.shape[a] for a in axes)
    if min(height, width) < _SMALLEST_PICTURE:
        return noise
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    gain = 1 / np.maximum(frequency, 1 / max(height, width))
    placed = np.expand_dims(gain, [a for a in range(noise.ndim) if a not in axes])
    filtered = np.fft.irfft2(np.fft.rfft2(noise, axes=axes) * placed, s=(height, width), axes=axes)
    scaled: Array = filtered / filtered.std()
    return scaled


def _rows_looked_up(graph: Graph, name: str) -> int:
    tables = [
        graph.params[node.inputs[0]].shape[0]
        for node in graph.consumers.get(name, ())
        if node.op == "Gather" and node.input(1) == name and node.inputs[0] in graph.params
    ]
    return min(tables, default=2)
