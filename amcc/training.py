"""The training of a compilation: what it is trained on, and in how many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amcc.artifacts import tuning_path
from amcc.data import Dataset, Spec, load_data
from amcc.errors import UsageError
from amcc.ir import Array, Graph
from amcc.passes.cost import node_macs
from amcc.settings import Tuning
from amcc.stages import Notes
from amcc.study import Study
from amcc.summary import TuningLine
from amcc.synthetic import that_runs
from amcc.tuning.tuned import Task, tuned
from amcc.tuning.world import joined, launched

_GENERATED, _GENERATED_MACS = 4096, 2 * 10**12


@dataclass(frozen=True)
class Training:
    """The training of a compilation.

    Attributes:
        data: to train on; None for the calibration samples, or made-up ones.
        preprocess: for pictures; see `amcc.data.load_data`.
        file: of the checkpoint, if there is to be one.
        interruptible: Ctrl-C ends it and keeps the best epoch so far.
        steps: in which a compilation reaches its budget, training after each.
        samples: the data, once loaded.
    """

    tuning: Tuning
    data: Spec | None = None
    preprocess: str | Callable[..., Any] | None = None
    file: Path | None = None
    fresh: bool = False
    interruptible: bool = False
    steps: int = 1
    samples: Dataset | None = None

    def of(self, study: Study) -> Training:
        """The same with its data loaded.

        Raises:
            DataError: they cannot be read or do not fit.
        """
        graph, calibration = study.subject.graph, study.splits.calibration
        if self.data is None and not calibration.synthetic:
            return replace(self, samples=calibration)
        with study.clock.phase("data", "loading data"):
            return replace(self, samples=fed(self.data, graph, study.notes, study.settings.seed, self.preprocess))

    def run(
        self, study: Study, kept: Mapping[tuple[str, int], Array], graph: Graph, step: int | None = None
    ) -> tuple[Graph, TuningLine]:
        """Train a network that was cut out of the study's, and say how it went.

        Args:
            kept: the original's indices that stay; see `Channels.kept`.
            step: its number, from 1, where it is not the last.
        """
        assert self.samples is not None
        settings, file = study.settings, self.file
        if file is not None and step is not None:
            file = file.with_name(f"{file.name}.{step}")
        task = Task(graph, study.subject.graph, kept, self.samples, settings.seed, settings.metric, file, self.fresh)
        with study.clock.phase("tune", "training"), joined(self.tuning.device) as world:
            found, line = tuned(
                task, self.tuning, world, study.notes, study.clock.observer, keep_on_interrupt=self.interruptible
            )
        return found, line.model_copy(update={"untrained": study.reporter.score(graph)})

    def clean(self) -> None:
        """Remove the checkpoints of what has been written."""
        if self.file is not None:
            for file in (self.file, *(self.file.with_name(f"{self.file.name}.{n}") for n in range(1, self.steps))):
                file.unlink(missing_ok=True)


def training_asked(
    tune: Tuning | bool,
    train: Spec | None,
    steps: int,
    preprocess: str | Callable[..., Any] | None,
    out: Path | None,
    *,
    fresh: bool,
    interruptible: bool,
) -> Training | None:
    """What the options of a compilation say; None where nothing is to be trained.

    Raises:
        UsageError: options without the training that they are for, or several processes.
    """
    if steps < 1:
        raise UsageError(f"{steps} is below 1", where="--steps")
    if not tune:
        if train is not None:
            raise UsageError("samples to train on, and no training", where="--train", hint="give --tune")
        if steps > 1:
            raise UsageError("steps are for compilations that train after each", where="--steps", hint="give --tune")
        return None
    if launched():
        hint = "compile first; torchrun then trains the result: torchrun ... -m amcc tune DIR"
        raise UsageError("a compilation runs in one process", where="--tune", hint=hint)
    file = None if out is None else tuning_path(out)
    chosen = tune if isinstance(tune, Tuning) else Tuning()
    return Training(chosen, train, preprocess, file, fresh, interruptible, steps)


def fed(
    spec: Spec | None, graph: Graph, notes: Notes, seed: int, preprocess: str | Callable[..., Any] | None
) -> Dataset:
    """The samples to train on; made-up ones where none are given, fewer for large networks."""
    from amcc.backends.runtime import Session

    if spec is not None:
        data = load_data(spec, graph, preprocess=preprocess, seed=seed, option="--train")
        notes.add(*data.notes)
        return data
    macs = max(sum(node_macs(graph).values()), 1)
    session = Session(graph)

    def tried(data: Dataset) -> Dataset:
        session.run(data.batching.feeds(data.inputs, 0, 1))
        return data

    notes.add("no samples to train on were given: synthetic inputs stand in for real ones, which do better (--train)")
    return that_runs(graph, max(256, min(_GENERATED, _GENERATED_MACS // macs)), tried, seed=seed)
