"""Latency in ONNX Runtime, the models taking turns so that whatever else the machine does meets all alike.

What else a machine does only ever adds to a time, so what a run takes is told by the fast ones: the tenth percentile,
which one lucky run does not decide as it does the minimum. And a run by one thread on the CPU is timed by that
thread's own clock, which stands still while the machine runs something else in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amcc.errors import ModelError, UsageError
from amcc.ir import Array, Shape
from amcc.passes.inputs import batch_symbols

CPU = "CPUExecutionProvider"
LOW = 10
"""The percentile that stands for a model's latency."""
BURST = 4
"""Runs at a turn, after one that finds the caches as another model left them and does not count."""

_INTEGERS = {"int64": np.int64, "int32": np.int32, "int16": np.int16, "int8": np.int8, "uint8": np.uint8}
# What floats are tried on; the first on which the model runs.
_DRAWS: tuple[Callable[[list[int]], Any], ...] = (
    lambda shape: np.random.default_rng(0).standard_normal(shape),
    lambda shape: np.random.default_rng(0).random(shape),
    np.zeros,
)
_FLOATS = {"float": np.float32, "float16": np.float16, "double": np.float64}
_LEAST_RUNS = 5
_FINE = 1e-6


@dataclass(frozen=True)
class Timing:
    """Time of one run in milliseconds.

    Attributes:
        spread: distance between the quartiles.
        low: the tenth percentile.
    """

    model: str
    median: float
    spread: float
    low: float
    fastest: float
    runs: int


@dataclass(frozen=True)
class Runner:
    """A model made ready to run on made-up inputs."""

    session: Any
    feeds: Mapping[str, Array]

    def __call__(self) -> None:
        """Run it once."""
        self.session.run(None, self.feeds)


def bench(
    models: Mapping[str, Path | bytes],
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 0,
    batch: int = 1,
    provider: str = CPU,
    input_shapes: Mapping[str, Shape] | None = None,
    seconds: float | None = None,
) -> list[Timing]:
    """Measure models against each other on the same random inputs.

    Args:
        models: by the name to show: an ONNX file, or the bytes of one.
        threads: of ONNX Runtime within an operator, 0 for its own choice.
        batch: size of a dynamic first dimension.
        provider: ONNX Runtime's name of what runs it.
        input_shapes: for the other dynamic dimensions.
        seconds: stop after so long, but not before five runs.

    Raises:
        ModelError: ONNX Runtime does not take a model.
        UsageError: a dynamic dimension has no size, or there is no such provider here.
    """
    shapes = input_shapes or {}
    ready = [
        opened(name, model, threads=threads, batch=batch, provider=provider, shapes=shapes)
        for name, model in models.items()
    ]
    for run in ready:
        for _ in range(warmup):
            run()
    times = _take_turns(ready, runs, seconds, _clock(threads, provider))
    return [_timing(name, spent) for name, spent in zip(models, times, strict=True)]


def opened(
    name: str,
    model: Path | bytes,
    *,
    threads: int,
    batch: int,
    provider: str = CPU,
    shapes: Mapping[str, Shape],
    prepare: Callable[[Any], None] | None = None,
) -> Runner:
    """A model made ready to run; `prepare` may change ONNX Runtime's session options. See `bench`."""
    import onnxruntime as ort

    check_provider(provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if prepare is not None:
        prepare(options)
    try:
        session = ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=[provider])
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
            return Runner(session, feeds)
        except Exception as error:  # the runtime's exceptions have no common base but this
            failure = failure or " ".join(str(error).split())[:400]
    raise ModelError(f"ONNX Runtime cannot run it on random inputs: {failure}", where=name)


def check_provider(provider: str, option: str = "--latency-provider") -> None:
    """Check that ONNX Runtime has an execution provider of this name.

    Raises:
        UsageError: it has none; names those that it has.
    """
    import onnxruntime as ort

    if provider not in (there := ort.get_available_providers()):
        raise UsageError(f"ONNX Runtime has no '{provider}' here", where=option, hint=f"it has {', '.join(there)}")


def _clock(threads: int, provider: str) -> Callable[[], float]:
    """What runs are timed by: the thread's own clock where one thread does all, and the clock is fine enough."""
    alone = threads == 1 and provider == CPU and time.get_clock_info("thread_time").resolution <= _FINE
    return time.thread_time if alone else time.perf_counter


def _take_turns(
    ready: Sequence[Runner], runs: int, seconds: float | None, clock: Callable[[], float]
) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in ready]
    began = time.perf_counter()
    for turn in range(-(-runs // BURST)):
        for step in range(len(ready)):
            index = (turn + step) % len(ready)
            ready[index]()
            for _ in range(min(BURST, runs - len(times[index]))):
                start = clock()
                ready[index]()
                times[index].append((clock() - start) * 1000)
        if seconds is not None and len(times[0]) >= _LEAST_RUNS and time.perf_counter() - began > seconds:
            break
    return times


def _timing(name: str, spent: list[float]) -> Timing:
    tenth, first, middle, third = (float(np.percentile(spent, share)) for share in (LOW, 25, 50, 75))
    median, spread, low, fastest = (round(ms, 6) for ms in (middle, third - first, tenth, min(spent)))
    return Timing(name, median, spread, low, fastest, len(spent))


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
