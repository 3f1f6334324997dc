"""Inputs made up for a model whose data are not at hand.

Pictures-like inputs get noise whose power falls with spatial frequency, as in natural pictures (white
noise averages away in the first strided layers); the rest gets white noise; all of unit variance.
Integer inputs are indices: they stay below the rows of the table that they look up.
"""

from __future__ import annotations

import hashlib

import numpy as np

from amcc.data import Dataset, element_type, is_float
from amcc.errors import DataError
from amcc.ir import Array, Graph

SAMPLES = 256
_SMALLEST_PICTURE = 4


def synthetic(graph: Graph, samples: int = SAMPLES, *, seed: int = 0) -> Dataset:
    """Made-up inputs `[samples, ...]` for every input of the model.

    Raises:
        DataError: the type of an input cannot be made up.
    """
    random = np.random.default_rng([seed, 2])
    inputs = {name: _drawn(graph, name, samples, random) for name in graph.inputs}
    digest = hashlib.sha256(b"".join(array.tobytes() for array in inputs.values())).hexdigest()
    return Dataset(inputs, None, f"{samples} synthetic inputs", digest, synthetic=True)


def _drawn(graph: Graph, name: str, samples: int, random: np.random.Generator) -> Array:
    value = graph.values[name]
    shape = (samples, *(d if isinstance(d, int) else 1 for d in graph.shape(name)[1:]))
    dtype = element_type(value.dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype == np.uint8:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if dtype.kind in "iu":
        return random.integers(0, _rows_looked_up(graph, name), shape, dtype=dtype)
    if not is_float(dtype):
        raise DataError(f"inputs of type {value.dtype} cannot be made up", where=name, hint="give --data or --calib")
    noise = random.standard_normal(shape)
    if len(shape) == 4:
        noise = _natural(noise, (1, 2) if shape[-1] <= 4 < shape[1] else (2, 3))
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
