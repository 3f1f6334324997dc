"""What a compilation did, in numbers that a program can read. `summary.json`.

All that differs between two runs of the same command stands under `timings`.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from amcc import __version__
from amcc.budget import Key
from amcc.jsontext import Document, Filed

Count = Annotated[int, Field(ge=0)]


class Change(Document):
    """One resource before and after, in whole units (multiply-accumulates, parameters, bytes)."""

    before: Count
    after: Count

    @property
    def ratio(self) -> float:
        """After as a share of before."""
        return self.after / self.before if self.before else 1.0


class Totals(Document):
    """What the network costs.

    Attributes:
        macs: multiply-accumulates of one sample.
        params: elements of all parameters.
        bytes: of all parameters.
        memory: bytes of activations alive at once, one sample, at the worst moment.
    """

    macs: Change
    params: Change
    bytes: Change
    memory: Change


class BudgetLine(Document):
    """One part of the budget: `reached` is at most `limit`, both exact.

    Latency is in nanoseconds: what the plan took when it was run, the original beside it. That is kept with the
    device's table; `timings` has another measurement, of what is shipped.
    """

    asked: str
    resource: Key
    original: Count
    limit: Count
    reached: Count
    ratio: float


class Measured(Document):
    """The metric on one set of samples, of the original and of the result.

    Attributes:
        pure: of the pure slices, before recovery; None where it was not measured.
    """

    samples: Count
    source: str
    before: float
    after: float
    pure: float | None = None


class MetricLine(Document):
    """The metric; `report` was measured on samples that the search never saw."""

    name: str
    search: Measured | None
    report: Measured | None


class CertificateLine(Document):
    """The check that pure slices equal the masked original.

    Attributes:
        error: the largest relative difference over all outputs.
        passed: the error is within the tolerance.
    """

    error: float
    tolerance: float
    outputs: dict[str, float]
    seed: int
    passed: bool


class PolicyLine(Document):
    """What one policy reached, and how far the plan that is shipped is ahead of it.

    Attributes:
        score: of its best plan, as the search scored it; None where nothing that it proposed fits.
        final: of that plan in the last round, repaired; None where it was not in it.
        margin: what the shipped plan has more, as the search scored both; below 0 where only the last round prefers it.
        final_margin: the same in the last round.
        evaluations: plans that it proposed.
        shipped: it proposed the plan that is shipped.
    """

    policy: str
    score: float | None
    final: float | None = None
    margin: float | None = None
    final_margin: float | None = None
    evaluations: Count
    shipped: bool


class FinalistLine(Document):
    """A plan of the last round: its score once repaired, on so many samples."""

    policy: str
    episode: Count
    score: float
    samples: Count


class GroupLine(Document):
    """One group: how much of it stays and what reads it.

    Attributes:
        consumers: nodes that sum over its units.
        macs: multiply-accumulates of the nodes that hold its parameters, before and after.
        inexact: cutting it changes what other channels hold.
    """

    name: str
    size: Count
    kept: Count
    consumers: tuple[str, ...]
    macs: Change
    inexact: bool = False


class CandidateLine(Document):
    """A plan that a guarantee was checked for; see `GuaranteeLine`.

    Attributes:
        cost: in the minimised resource.
        ratio: the cost as a share of the original's.
        reward: AMC's, `-Error * log(cost)`, by the search's score.
        metric: on the samples held back.
    """

    policy: str
    cost: Count
    ratio: float
    reward: float
    metric: float
    bound: float
    passed: bool


class GuaranteeLine(Document):
    """What was asked for in place of a budget, and shown on samples held back; what is shipped passed.

    Attributes:
        asked: `min-metric=0.92` or `max-drop=0.5%`.
        method: of the bound.
        limit: the value that was asked for.
        before: the original's metric on these samples.
        after: that of what is shipped.
        bound: at this confidence the metric is at least so much, or its drop at most.
        candidates: the plans that were checked, in this order, until one failed; the last that passed is shipped.
    """

    asked: str
    minimised: Key
    confidence: float
    metric: str
    method: Literal["exact", "bootstrap"]
    samples: Count
    source: str
    sha256: str
    limit: float
    before: float
    after: float
    bound: float
    candidates: tuple[CandidateLine, ...]

    def __str__(self) -> str:
        if self.asked.startswith("max-drop"):
            shown = f"the drop of {self.metric} is at most {self.bound:.4f}"
        else:
            shown = f"{self.metric} is at least {self.bound:.4f}"
        return (
            f"{self.asked}: at {self.confidence:.4g} confidence {shown} ({self.method} bound), {self.before:.4f} -> "
            f"{self.after:.4f} on {self.samples} samples held back"
        )


class EpochLine(Document):
    """One epoch of a training: the learning rate at its end, the mean loss, the metric on the samples held out."""

    rate: float
    loss: float
    metric: float


class TuningLine(Document):
    """How the weights were trained after the cut.

    Attributes:
        epochs: that ran, and `kept` the one whose weights are shipped, 0 for those before the training.
        batch: samples of a step, of all processes together.
        train: where the samples came from; so many `samples` of it were trained on and `held_out` decided which
            epoch is kept. None of them is the report's.
        metric: its name; of the original, and of the network before and after, on the samples held out.
        labelled: whether there were class numbers.
        loss: its parts with their weights, or the user's function.
        rate: the highest learning rate; 0 where a function of the user's chose it.
        augment: what was done to the inputs at random.
        norms: batch normalisations that were put in for the training, and folded after it.
        compared: the values that were compared with the original's.
        error: the largest relative difference between `model.onnx` and the module that was trained.
        untrained: the metric before the training on the report's samples; None where there are none.
    """

    epochs: Count
    kept: Count
    steps: Count
    batch: Count
    train: str
    samples: Count
    sha256: str
    held_out: Count
    metric: str
    original: float
    before: float
    after: float
    labelled: bool
    loss: str
    optimiser: str
    rate: float
    seed: int
    augment: tuple[str, ...]
    norms: Count
    compared: tuple[str, ...]
    error: float
    tolerance: float
    untrained: float | None = None
    curve: tuple[EpochLine, ...]

    def __str__(self) -> str:
        kept = f"epoch {self.kept} of {self.epochs}" if self.kept else f"none of {self.epochs} epochs"
        return (
            f"{kept} kept: {self.metric} {self.before:.4f} -> {self.after:.4f} on {self.held_out} samples held out "
            f"(original {self.original:.4f}); model.onnx equals the trained module to {self.error:.1e}"
        )


class SparsityLine(Document):
    """What sparse weights come to, all trained parameters together.

    Attributes:
        nonzeros: numbers other than zero.
        zlib: bytes, each parameter compressed with zlib.
        bitmask: bytes after, with the zeros of layers left out and a bit for each of their weights.
        csr: bytes after, with the layers' matrices as compressed sparse rows.
    """

    granularity: str
    nonzeros: Change
    zlib: Change
    bitmask: Count
    csr: Count


class FreeLine(Document):
    """An input of which `--input-shape` fixed sizes for the analysis that `model.onnx` keeps free.

    Attributes:
        shape: the free dimensions by name.
        checked: the shapes at which the free network was compared with the fixed one or the masked original.
    """

    input: str
    shape: tuple[int | str, ...]
    checked: tuple[tuple[int | str, ...], ...]


class Latency(Document):
    """Milliseconds of one run.

    Attributes:
        low: the tenth percentile of all runs, which is what a budget of latency means.
        spread: distance between the quartiles.
    """

    low: float
    median: float
    spread: float
    runs: Count


class Timings(Document):
    """All that no two runs share.

    Attributes:
        seconds: by phase.
        device: what ran the original (`before`) and the result (`after`).
    """

    seconds: dict[str, float]
    device: str = ""
    before: Latency | None = None
    after: Latency | None = None


class Summary(Filed):
    """The whole summary.

    Attributes:
        within_reach: share of the multiply-accumulates that can go, all locks considered.
        calibration: where the samples for recovery came from; None for pure slices.
        guarantee: what was asked for in place of a budget, and shown; left out where there was none.
        tuning: how weights were trained after the cut, a line for each time; left out where they were not.
        sparsity: what the zeros save; left out where channels went. A group is then a layer, and its size its weights;
            `totals.params` are the weights that stay, and `totals.bytes` what they take with a bit for each unit.
        free: inputs with sizes that a number fixed for the analysis only; left out where there are none.
        files: SHA-256 of the folder's files, but for those that hold timings.
        inputs: SHA-256 of the model, of each data set, and of the table of latencies where there is one.
    """

    FILE: ClassVar = "summary.json"

    version: Literal[1] = 1
    model: str
    budget: tuple[BudgetLine, ...]
    guarantee: GuaranteeLine | None = None
    totals: Totals
    metric: MetricLine
    certificate: CertificateLine
    groups: tuple[GroupLine, ...]
    policies: tuple[PolicyLine, ...]
    policy: str
    finalists: tuple[FinalistLine, ...] = ()
    recover: Literal["full", "layers", "none"]
    calibration: str | None
    within_reach: float
    seed: int
    versions: dict[str, str]
    inputs: dict[str, str]
    sparsity: SparsityLine | None = None
    free: tuple[FreeLine, ...] = ()
    tuning: tuple[TuningLine, ...] = ()
    files: dict[str, str]
    warnings: tuple[str, ...]
    timings: Timings

    @model_serializer(mode="wrap")
    def _without_nothing_free(self, standard: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = standard(self)
        for name in ("free", "tuning"):
            if not content[name]:
                del content[name]
        for name in ("guarantee", "sparsity"):
            if content[name] is None:
                del content[name]
        return content

    def __str__(self) -> str:
        lines = [f"{self.model}: {', '.join(line.asked for line in self.budget)}, found by {self.policy}"]
        if self.guarantee is not None:
            lines.append(f"  guarantee    {self.guarantee}")
        for name, change in self.totals:
            lines.append(f"  {name:<12} {change.before:,} -> {change.after:,} ({change.ratio:.3f})")
        for split, measured in (("search", self.metric.search), ("report", self.metric.report)):
            if measured is not None:
                values = f"{measured.before:.4f} -> {measured.after:.4f}"
                lines.append(f"  {self.metric.name:<12} {values} on the {split} split ({measured.samples} samples)")
        lines += [f"  training     {line}" for line in self.tuning]
        lines.append(f"  certificate  {self.certificate.error:.1e} (tolerance {self.certificate.tolerance:.0e})")
        return "\n".join(lines)


def versions() -> dict[str, str]:
    """Of amcc, Python and the libraries that decide what comes out."""
    found = {"amcc": __version__, "python": platform.python_version()}
    for name in ("numpy", "onnx", "onnxruntime", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
