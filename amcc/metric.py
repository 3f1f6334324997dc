"""How good a candidate is: top-1, fidelity to the original, or a function of the user's. Higher is better.

- `top1`: with labels, the share of samples whose largest value of the first output is at the label.
- `fidelity`: without labels, `1 / (1 + e)`, where e is the mean over the floating outputs of the squared
  difference from the original's output, divided by the variance of the original's output over samples.
  1 is the same function; outputs that are not floating count by their share of unequal elements, and what only
  one of the two gives (boxes found, tokens written) as an error of 1.
- `module:function`: called once with all outputs (mapping of names to arrays, samples first) and the
  labels (or None), gives a number.

An output without a batch axis is repeated for each sample of its run. Where no output has one row a sample, because
lengths depend on the data, each is an array of objects, one array for each run of a single sample (or fixed batch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from amcc.data import Dataset, check_labels, class_count
from amcc.errors import DataError, UsageError
from amcc.fidelity import Fidelity
from amcc.ir import Array, Graph, Shape
from amcc.passes.batching import batching
from amcc.usercode import call, named_function

Outputs = Mapping[str, Array]
Metric = Callable[[Outputs, Array | None], float]
_BATCH_BYTES = 64 << 20
_LARGEST_BATCH = 64


class Runner(Protocol):
    """What runs a graph; `amcc.backends.runtime.Session` is one."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of one batch."""
        ...


class Evaluator:
    """Scores graphs on one set of samples.

    The original's outputs are computed once, when the evaluator is made; a candidate's outputs must
    have their shapes.

    Args:
        graph: the original.
        metric: `"top1"`, `"fidelity"`, `module:function` or a function; by default top-1 with labels,
            else fidelity.
        threads: of ONNX Runtime, 0 for all cores.
        runner: makes what runs a graph, for tests.

    Attributes:
        name: of the metric.
        function: the metric.
        original: the original's score.
        batch: samples of a run.

    Raises:
        DataError: labels do not fit, or the metric raises or gives no finite number.
        UsageError: the metric does not exist.
    """

    def __init__(
        self,
        graph: Graph,
        data: Dataset,
        metric: str | Metric | None = None,
        *,
        threads: int = 0,
        runner: Callable[[Graph], Runner] | None = None,
    ) -> None:
        self.data = data
        self._threads = threads
        self._runner = runner
        self._graph, self._how = graph, batching(graph)
        self.batch = batch_size(graph)
        self._names: tuple[str, ...] | None = None
        outputs = self.outputs(graph)
        self.name, self.function = _metric(metric, graph, data, outputs)
        self.original = self.measure(outputs, data.labels)

    def score(self, graph: Graph, least: float | None = None) -> float:
        """The metric of a candidate that has the original's inputs and outputs.

        Args:
            least: stop once the candidate cannot exceed it, which top-1 tells from some of the samples; the share
                of those samples, at most `least`, is given then.
        """
        if least is not None and isinstance(self.function, Top1) and self._names is not None:
            right = self._right(graph, self.function.labels, least)
            if right is not None:
                return right
        return self.measure(self.outputs(graph), self.data.labels)

    def noise(self, score: float) -> float:
        """How far a score is from that of other samples by chance: the standard error of a top-1, else taken as 0."""
        return math.sqrt(score * (1 - score) / len(self.data)) if isinstance(self.function, Top1) else 0.0

    def _right(self, graph: Graph, labels: Array, least: float) -> float | None:
        """Top-1 over all samples, or over the first runs where these are enough; None where rows are no samples."""
        runner, name, total = self._running(graph), graph.outputs[0], len(labels)
        right = seen = 0
        most = round(least * total)
        for chosen in self._runs(total):
            outputs = self._run(runner, chosen)[name]
            if len(outputs) != len(labels[chosen]):
                return None
            right += int(Top1(labels[chosen]).right({name: outputs}).sum())
            seen += len(outputs)
            if right + total - seen < most:
                break
        return right / seen

    def _runs(self, total: int) -> Iterator[slice]:
        """Samples run by run, where it may be each taken from all over the data: they may lie class by class."""
        if self._how.size or self._how.alone:
            yield from (slice(start, min(start + self.batch, total)) for start in range(0, total, self.batch))
        else:
            stride = -(-total // self.batch)
            yield from (slice(start, total, stride) for start in range(stride))

    def on(self, threads: int) -> Evaluator:
        """The same with another number of threads."""
        other = copy(self)
        other._threads = threads
        return other

    def _running(self, graph: Graph) -> Runner:
        if self._runner is not None:
            return self._runner(graph)
        from amcc.backends.runtime import Session

        return Session(graph, threads=self._threads)

    def outputs(self, graph: Graph) -> dict[str, Array]:
        """Outputs of a candidate, samples first: those that can be joined for the original, or else all."""
        runner = self._running(graph)
        parts = self._parts(runner, self.batch)
        joined = self._joined(parts)
        least = max(self._how.size, 1)
        if not joined and self._names is None and self.batch > least:  # samples may be mixed in a run
            self.batch = least
            parts = self._parts(runner, least)
            joined = self._joined(parts)
        if self._names is None and joined:
            self._names = tuple(joined)
        if self._names is None or any(name not in joined for name in self._names):
            if self.batch > least:
                parts = self._parts(runner, least)
            self._names = self._names or tuple(parts[0])
            joined |= {name: _objects([part[name] for part in parts]) for name in self._names if name not in joined}
        return {name: joined[name] for name in self._names}

    def _parts(self, runner: Runner, batch: int) -> list[dict[str, Array]]:
        """The outputs of each run over so many samples, samples in front where they are known."""
        parts: list[dict[str, Array]] = []
        for start in range(0, len(self.data), batch):
            parts.append(self._run(runner, slice(start, min(start + batch, len(self.data)))))
        return parts

    def _run(self, runner: Runner, chosen: slice) -> dict[str, Array]:
        """The outputs of one run, samples in front where they are known."""
        how, inputs = self._how, self.data.inputs
        feeds = how.feeds(inputs, chosen.start, chosen.stop) if how.stacked else how.take(inputs, chosen)
        found, count = runner.run(feeds), len(range(*chosen.indices(len(self.data))))
        shapes = {name: value.shape if (value := self._graph.values.get(name)) else None for name in found}
        return {name: how.samples_first(shapes[name], array, count) for name, array in found.items()}

    def _joined(self, parts: list[dict[str, Array]]) -> dict[str, Array]:
        """The outputs that have one row a sample, all runs joined."""
        joined = {}
        for name in parts[0]:
            arrays = [part[name] for part in parts]
            if len({a.shape[1:] for a in arrays}) == 1 and all(a.ndim for a in arrays):
                array = np.concatenate(arrays)
                if len(array) == len(self.data):
                    joined[name] = array
        return joined

    def measure(self, outputs: Outputs, labels: Array | None) -> float:
        """The metric of outputs of these samples, or of some of them.

        Raises:
            DataError: the metric raises, or gives no finite number.
        """
        result = call(self.function, outputs, labels, name=f"metric '{self.name}'")
        try:
            value = float(result)
        except (TypeError, ValueError):
            raise DataError(f"metric '{self.name}' gave {type(result).__name__}, not a number") from None
        if not math.isfinite(value):
            raise DataError(
                f"metric '{self.name}' gave {value} on {self.data.source}", hint="it must be a finite number"
            )
        return value


@dataclass(frozen=True, slots=True)
class Top1:
    """Share of samples whose largest value of the first output `[N, classes]` is at the label, int [N]."""

    labels: Array

    def right(self, outputs: Outputs) -> Array:
        """For each sample whether it is so: bool [N]."""
        first = next(iter(outputs.values()))
        found: Array = first.reshape(len(first), -1).argmax(axis=1) == self.labels
        return found

    def __call__(self, outputs: Outputs, labels: Array | None = None) -> float:
        """The share."""
        return float(self.right(outputs).mean())


def _metric(
    metric: str | Metric | None, graph: Graph, data: Dataset, outputs: Outputs
) -> tuple[str, Callable[[Outputs, Array | None], Any]]:
    if metric is None:
        metric = "top1" if data.labels is not None else "fidelity"
    if callable(metric):
        return getattr(metric, "__name__", "metric"), metric
    if metric == "fidelity":
        return "fidelity", Fidelity(outputs)
    if metric == "top1":
        return "top1", _checked_top1(graph, data, outputs)
    if ":" not in metric:
        raise UsageError(
            f"no metric is called '{metric}'", where="--metric", hint="use top1, fidelity or module:function"
        )
    return metric, named_function(metric, option="--metric")


def _checked_top1(graph: Graph, data: Dataset, outputs: Outputs) -> Top1:
    if data.labels is None:
        raise DataError("top-1 needs labels", where=data.source, hint="add 'label', or use --metric fidelity")
    name = graph.outputs[0]
    classes = class_count(graph)
    if classes is None or name not in outputs or outputs[name].dtype == object:
        raise DataError(
            f"top-1 needs a first output of shape [N, classes]; '{name}' is {list(outputs[name].shape)}",
            where=data.source,
            hint="give --metric module:function, or --metric fidelity",
        )
    return Top1(check_labels(data.labels, len(data), classes, data.source))


def batch_size(graph: Graph) -> int:
    """Samples to run at once: 64, fewer where the largest activation took over 64 MB; a multiple of a fixed batch.

    `benchmarks/speed.py batch` measures other sizes. None is measured where it is used: results would depend on clocks.
    """
    how = batching(graph)
    if how.alone:
        return 1
    sizes = (_sample_bytes(value.shape) for value in graph.values.values() if value.name not in graph.params)
    most = max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(*sizes, 1)))
    fixed = max(how.size, 1)
    return max(1, most // fixed) * fixed


def _sample_bytes(shape: Shape | None) -> int:
    return 4 * math.prod(d for d in (shape or ())[1:] if isinstance(d, int))


def _objects(arrays: list[Array]) -> Array:
    made = np.empty(len(arrays), object)
    for place, array in enumerate(arrays):
        made[place] = array
    return made
