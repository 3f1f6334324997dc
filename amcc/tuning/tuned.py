"""A training from beginning to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amcc.data import Dataset, check_labels, class_count
from amcc.errors import DataError, UsageError, VerificationError
from amcc.ir import Array, Graph, frozen
from amcc.metric import Evaluator
from amcc.passes.batching import batching
from amcc.passes.recovery.chunks import sample_bytes
from amcc.progress import Observer
from amcc.settings import OPTIMISERS, Tuning
from amcc.stages import Notes, weights_hash
from amcc.summary import TuningLine, versions
from amcc.tuning.norms import with_room
from amcc.tuning.outcome import certified, curve, tolerance
from amcc.tuning.probe import augment_of, first, loss_of, statistics
from amcc.tuning.stream import Stream, held_out
from amcc.tuning.student import Student, batch_is_free
from amcc.tuning.targets import targets
from amcc.tuning.teacher import Answers, Teacher
from amcc.tuning.trainer import Course, Trainer, chosen_optimiser
from amcc.tuning.world import World

_HELD_OUT_SAMPLES = 5000
_STEP_BYTES = {"cpu": 2 << 30, "cuda": 16 << 30}
"""Bytes of activations of one forward pass."""


@dataclass(frozen=True)
class Task:
    """What is to be tuned, and on what.

    Attributes:
        student: the smaller network.
        original: the network that it came from, which teaches it.
        kept: the original's indices that stay, for each (value, axis) that is shorter.
        data: to train on; a part is held out.
        metric: see `amcc.metric`.
        file: for checkpoints, if there are to be any.
        fresh: whether one that is there is thrown away.
    """

    student: Graph
    original: Graph
    kept: Mapping[tuple[str, int], Array]
    data: Dataset
    seed: int = 0
    metric: str | Callable[..., Any] | None = None
    file: Path | None = None
    fresh: bool = False


def tuned(
    task: Task,
    tuning: Tuning,
    world: World,
    notes: Notes,
    observer: Observer,
    *,
    keep_on_interrupt: bool = False,
) -> tuple[Graph, TuningLine]:
    """Train a network, and say how it went.

    Args:
        keep_on_interrupt: Ctrl-C ends the training and keeps the best epoch so far.

    Raises:
        ModelError: PyTorch cannot run the network.
        DataError: samples, labels or a function of the user's do not fit; the loss is no longer a number.
        UsageError: the checkpoint is another training's.
        VerificationError: the network that came out differs from the module that was trained.
        Interrupted: Ctrl-C.
    """
    with _threads(tuning.threads):
        return _tuned(task, tuning, world, notes, observer, keep_on_interrupt)


def _tuned(
    task: Task, tuning: Tuning, world: World, notes: Notes, observer: Observer, keep_on_interrupt: bool
) -> tuple[Graph, TuningLine]:
    work = _single(task.student)
    chosen, left_out = held_out(len(task.data), tuning.held_out, _HELD_OUT_SAMPLES, task.seed)
    data, held = task.data.take(chosen), task.data.take(left_out, "held-out part")
    data, labelled = _labelled(data, work)
    wanted = targets(work, task.original, task.kept, labelled=labelled, features=tuning.feature_weight > 0)
    if not wanted:
        raise DataError("none of the network's outputs can be compared with the original's", where="--teacher")
    teacher = Teacher(task.original, wanted, world.device, tuning.threads)
    student = Student(work, [t.name for t in wanted], statistics(data), norms=tuning.norms)
    stream = Stream.of(len(data), _batch(tuning, len(data), world), tuning.samples, task.seed)
    augment = augment_of(tuning, work, data, wanted, teacher, stream)
    judge = Evaluator(task.original, held, task.metric, threads=tuning.threads) if world.first else None
    facts = _facts(task, tuning, augment.names)
    if task.fresh and task.file is not None and world.first:
        task.file.unlink(missing_ok=True)
    chunk = _chunk(work, student, data, stream.batch, world)
    steps = tuning.epochs * stream.per_epoch
    again = not augment.names and steps * stream.batch >= 2 * len(data) and not data.batching.alone
    course = Course(
        student=student,
        teacher=teacher,
        answers=Answers.to(teacher, data, chunk) if again else Answers(),
        data=data,
        stream=stream,
        chunk=chunk,
        augment=augment,
        loss=loss_of(tuning, wanted, teacher, data, labelled),
        judge=judge.score if judge is not None else _nowhere,
        tuning=tuning,
        world=world,
        facts=facts,
        file=task.file,
        say=observer.phase,
    )
    trainer = Trainer(course)
    found = trainer.run(keep_on_interrupt=keep_on_interrupt)
    graph = task.student if found is None else _as_before(found, task.student)
    error = world.told(certified(graph, student if found is not None else None, held) if world.first else None)
    if not error <= (most := tolerance(task.student)):
        raise VerificationError(
            f"the tuned network differs from the module that was trained by {error:.2e}, more than {most:.0e}",
            hint="this is a fault of amcc: please report the model",
        )
    if found is None:
        notes.add("no epoch of the training did better on the samples held out: the weights are as they were")
    before = judge.score(task.student) if judge is not None else 0.0
    line = _line(task, tuning, trainer, course, before, held, error, judge)
    return graph, line


def _single(graph: Graph) -> Graph:
    """The graph in float32."""
    if all(value.dtype not in ("float16", "bfloat16", "float64") for value in graph.values.values()):
        return graph
    from amcc.backends.precision import as_float32

    return as_float32(graph)


def _as_before(found: Graph, student: Graph) -> Graph:
    """The tuned graph in the types of the one that it came from."""
    roomy = with_room(student, found)
    types = {name: array.dtype for name, array in roomy.params.items()}
    return roomy.with_params({name: frozen(found.params[name].astype(dtype)) for name, dtype in types.items()})


def _labelled(data: Dataset, graph: Graph) -> tuple[Dataset, bool]:
    """The data with class numbers for labels, or without labels where they are none."""
    classes = class_count(graph)
    if data.labels is None or classes is None:
        return replace(data, labels=None), False
    try:
        labels = check_labels(data.labels, len(data), classes, data.source)
    except DataError:
        return replace(data, labels=None), False
    return replace(data, labels=labels.astype(np.int64)), True


def _batch(tuning: Tuning, samples: int, world: World) -> int:
    if tuning.batch % world.size:
        raise UsageError(f"{tuning.batch} is no multiple of the {world.size} processes", where="--batch")
    batch = min(tuning.batch, samples) // world.size * world.size
    if not batch:
        raise DataError(f"{samples} samples are too few for {world.size} processes", where="--train")
    return batch


def _chunk(graph: Graph, student: Student, data: Dataset, batch: int, world: World) -> int:
    """Samples of a forward pass: what fits in memory, and the graph's own number where it takes no other."""
    how = batching(graph)
    if how.alone:
        return 1
    if how.size and not batch_is_free(graph, student.module, first(data, how.size + 1)):
        return how.size
    most = _STEP_BYTES[world.device.partition(":")[0]] // max(2 * sample_bytes(graph, graph.values), 1)
    return max(1, min(batch, most))


def _facts(task: Task, tuning: Tuning, augment: Sequence[str]) -> dict[str, Any]:
    """What makes a training what it is. Time between checkpoints, threads and device do not."""
    named = {name: getattr(tuning, name) for name in Tuning.__slots__}
    for name in ("checkpoint_seconds", "threads", "device"):
        del named[name]
    chosen = {name: value if not callable(value) else _called(value) for name, value in named.items()}
    return {
        "network": weights_hash(task.student),
        "original": weights_hash(task.original),
        "train": task.data.sha256,
        "metric": task.metric if not callable(task.metric) else _called(task.metric),
        "seed": task.seed,
        **chosen,
        "augmented": list(augment),
        "versions": versions(),
    }


def _called(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', repr(type(function)))}"


def _nowhere(graph: Graph) -> float:
    raise AssertionError("only the first process evaluates")


def _line(
    task: Task,
    tuning: Tuning,
    trainer: Trainer,
    course: Course,
    before: float,
    held: Dataset,
    error: float,
    judge: Evaluator | None,
) -> TuningLine:
    progress, stream = trainer.progress, course.stream
    chosen = chosen_optimiser(course.student, tuning)
    optimiser = chosen if isinstance(chosen, str) else _called(chosen)
    usual = OPTIMISERS.get(optimiser, (0.0, 0.0))[0]
    rate = usual if tuning.rate is None else tuning.rate
    return TuningLine(
        epochs=len(progress.curve),
        kept=progress.best,
        steps=progress.step,
        batch=stream.batch,
        train=task.data.source,
        samples=stream.samples,
        sha256=task.data.sha256,
        held_out=len(held),
        metric=judge.name if judge is not None else "",
        original=judge.original if judge is not None else 0.0,
        before=before,
        after=progress.best_metric if progress.best else before,
        labelled=course.data.labels is not None,
        loss=str(course.loss),
        optimiser=optimiser,
        rate=rate,
        seed=task.seed,
        augment=course.augment.names,
        norms=course.student.norms,
        compared=tuple(target.name for target in course.loss.targets),
        error=error,
        tolerance=tolerance(task.student),
        curve=curve(trainer, rate, stream.per_epoch),
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch on so many threads, its own choice for 0."""
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
