"""How good a candidate is: top-1, fidelity to the original, or a function of the user's. Higher is better.

- `top1`: with labels, the share of samples whose largest value of the first output is at the label.
- `fidelity`: without labels, `1 / (1 + e)`, where e is the mean over the floating outputs of the squared
  difference from the original's output, divided by the variance of the original's output over samples.
  1 is the same function; outputs that are not floating count by their share of unequal elements.
- `module:function`: called once with all outputs (mapping of names to arrays, samples first) and the
  labels (or None), gives a number.

An output without a batch axis is repeated for each sample of its run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from amcc.data import Dataset, check_labels, class_count
from amcc.errors import DataError, UsageError
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
        self._runner = runner or self._session
        self._graph, self._how = graph, batching(graph)
        self._batch = _batch_size(graph)
        outputs = self.outputs(graph)
        self.name, self.function = _metric(metric, graph, data, outputs)
        self.original = self.measure(outputs, data.labels)

    def score(self, graph: Graph) -> float:
        """The metric of a candidate that has the original's inputs and outputs."""
        return self.measure(self.outputs(graph), self.data.labels)

    def _session(self, graph: Graph) -> Runner:
        from amcc.backends.runtime import Session

        return Session(graph, threads=self._threads)

    def outputs(self, graph: Graph) -> dict[str, Array]:
        """All outputs of a candidate, samples first."""
        runner = self._runner(graph)
        joined = self._joined(runner)
        least = max(self._how.size, 1)
        if not joined and self._batch > least:  # samples may be mixed in a run
            self._batch = least
            joined = self._joined(runner)
        if not joined:
            raise DataError(f"no output of {list(graph.outputs)} has one row a sample", where=self.data.source)
        return joined

    def _joined(self, runner: Runner) -> dict[str, Array]:
        """The outputs that have one row a sample, all batches joined."""
        parts: list[dict[str, Array]] = []
        for start in range(0, len(self.data), self._batch):
            stop = min(start + self._batch, len(self.data))
            found = runner.run(self._how.feeds(self.data.inputs, start, stop))
            shapes = {name: value.shape if (value := self._graph.values.get(name)) else None for name in found}
            parts.append({n: self._how.samples_first(shapes[n], a, stop - start) for n, a in found.items()})
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


class Fidelity:
    """Closeness to the outputs of the original; called with outputs, gives a number in [0, 1]."""

    def __init__(self, reference: Outputs) -> None:
        self._reference = {name: array for name, array in reference.items() if array.size}
        self._scale = {n: _variance(a) for n, a in self._reference.items() if a.dtype.kind == "f"}

    def errors(self, outputs: Outputs) -> Array:
        """Each sample's relative squared error, its mean over the outputs: float [N]."""
        errors: list[Array] = []
        for name, reference in self._reference.items():
            if name in self._scale:
                error = np.square(outputs[name].astype(np.float64) - reference) / self._scale[name]
            else:
                error = outputs[name] != reference
            errors.append(error.reshape(len(error), -1).mean(axis=1))
        return np.mean(errors, axis=0) if errors else np.zeros(1)

    def __call__(self, outputs: Outputs, labels: Array | None = None) -> float:
        """1 / (1 + mean relative squared error), see the module's text; 0 where outputs are not finite."""
        return fidelity(float(self.errors(outputs).mean()))


def fidelity(error: float) -> float:
    """Of a mean relative squared error."""
    return 1 / (1 + error) if math.isfinite(error) else 0.0


def _variance(array: Array) -> float:
    """Mean squared distance from the mean over samples; of outputs that do not vary, the mean square."""
    wide = array.astype(np.float64)
    power = float(np.square(wide).mean())
    variance = float(np.square(wide - wide.mean(axis=0)).mean())
    return variance if variance > 1e-9 * power else max(power, 1e-30)


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
    if classes is None:
        raise DataError(
            f"top-1 needs a first output of shape [N, classes]; '{name}' is {list(outputs[name].shape)}",
            where=data.source,
            hint="give --metric module:function, or --metric fidelity",
        )
    return Top1(check_labels(data.labels, len(data), classes, data.source))


def _batch_size(graph: Graph) -> int:
    """Samples to run at once: the largest activation takes up to 64 MB; a multiple of a fixed batch."""
    how = batching(graph)
    if how.alone:
        return 1
    sizes = (_sample_bytes(value.shape) for value in graph.values.values() if value.name not in graph.params)
    most = max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(*sizes, 1)))
    fixed = max(how.size, 1)
    return max(1, most // fixed) * fixed


def _sample_bytes(shape: Shape | None) -> int:
    return 4 * math.prod(d for d in (shape or ())[1:] if isinstance(d, int))
