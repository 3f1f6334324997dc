"""Latency in ONNX Runtime: median and spread, the models taking turns so that drift meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amcc.errors import ModelError, UsageError
from amcc.ir import Array, Shape
from amcc.passes.inputs import batch_symbols

_INTEGERS = {"int64": np.int64, "int32": np.int32, "int16": np.int16, "int8": np.int8, "uint8": np.uint8}
# What floats are tried on; the first on which the model runs.
_DRAWS: tuple[Callable[[list[int]], Any], ...] = (
    lambda shape: np.random.default_rng(0).standard_normal(shape),
    lambda shape: np.random.default_rng(0).random(shape),
    np.zeros,
)
_FLOATS = {"float": np.float32, "float16": np.float16, "double": np.float64}


@dataclass(frozen=True)
class Timing:
    """Time of one run in milliseconds.

    Attributes:
        spread: distance between the quartiles.
    """

    model: str
    median: float
    spread: float
    fastest: float
    runs: int


def bench(
    models: Mapping[str, Path | bytes],
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 0,
    batch: int = 1,
    input_shapes: Mapping[str, Shape] | None = None,
    seconds: float | None = None,
) -> list[Timing]:
    """Measure models against each other on the same random inputs.

    Args:
        models: by the name to show: an ONNX file, or the bytes of one.
        threads: of ONNX Runtime within an operator, 0 for its own choice.
        batch: size of a dynamic first dimension.
        input_shapes: for the other dynamic dimensions.
        seconds: stop after so long, but not before five runs.

    Raises:
        ModelError: ONNX Runtime does not take a model.
        UsageError: a dynamic dimension has no size.
    """
    once = [_runner(name, model, threads, batch, input_shapes or {}) for name, model in models.items()]
    for run in once:
        for _ in range(warmup):
            run()
    times = _take_turns(once, runs, seconds)
    return [_timing(name, spent) for name, spent in zip(models, times, strict=True)]


def _take_turns(once: Sequence[Callable[[], object]], runs: int, seconds: float | None) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in once]
    began = time.perf_counter()
    for turn in range(runs):
        for step in range(len(once)):
            index = (turn + step) % len(once)
            start = time.perf_counter()
            once[index]()
            times[index].append((time.perf_counter() - start) * 1000)
        if seconds is not None and turn >= 4 and time.perf_counter() - began > seconds:
            break
    return times


def _timing(name: str, spent: list[float]) -> Timing:
    low, middle, high = np.percentile(spent, [25, 50, 75])
    return Timing(name, round(float(middle), 4), round(float(high - low), 4), round(min(spent), 4), len(spent))


def _runner(
    name: str, model: Path | bytes, threads: int, batch: int, shapes: Mapping[str, Shape]
) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime does not take it: {str(error).splitlines()[0]}", where=name, hint="bench needs an ONNX file"
        ) from error
    inputs = session.get_inputs()
    batches = batch_symbols([tuple(dim if isinstance(dim, int | str) else "?" for dim in i.shape) for i in inputs])
    failure = ""
    for draw in _DRAWS:
        feeds = {i.name: _drawn(i, _sizes(i, batch, batches, shapes.get(i.name, ())), draw) for i in inputs}
        try:
            session.run(None, feeds)
            return partial(session.run, None, feeds)
        except Exception as error:  # the runtime's exceptions have no common base but this
            failure = failure or " ".join(str(error).split())[:400]
    raise ModelError(f"ONNX Runtime cannot run it on random inputs: {failure}", where=name)


def _sizes(declared: Any, batch: int, batches: Collection[str], given: Shape) -> list[int]:
    sizes: list[int] = []
    for axis, dim in enumerate(declared.shape):
        if isinstance(dim, int) and dim >= 0:
            sizes.append(dim)
        elif axis < len(given) and isinstance(given[axis], int):
            sizes.append(int(given[axis]))
        elif axis == 0 or dim in batches:
            sizes.append(batch)
        else:
            raise UsageError(
                f"dimension {axis} of input '{declared.name}' is dynamic",
                hint=f"give --input-shape {declared.name}=...",
            )
    return sizes


def _drawn(declared: Any, shape: list[int], draw: Callable[[list[int]], Any]) -> Array:
    kind = declared.type.removeprefix("tensor(").removesuffix(")")
    if kind in _FLOATS:
        return np.asarray(draw(shape)).astype(_FLOATS[kind])
    if kind in _INTEGERS:
        return np.full(shape, draw is not np.zeros).astype(_INTEGERS[kind])
    if kind == "bool":
        return np.ones(shape, bool)
    raise ModelError(f"cannot make up an input of type {declared.type}", where=declared.name)
