"""A training from beginning to end."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.certificate import TOLERANCE, difference
from amcc.data import Dataset, check_labels, class_count
from amcc.errors import DataError, UsageError, VerificationError
from amcc.ir import Array, Graph, frozen
from amcc.metric import Evaluator
from amcc.passes.batching import batching
from amcc.passes.recovery.chunks import sample_bytes
from amcc.progress import Observer
from amcc.settings import OPTIMISERS, Tuning
from amcc.stages import Notes, weights_hash
from amcc.summary import EpochLine, TuningLine, versions
from amcc.tuning import augment as augmenting
from amcc.tuning.loss import Loss, scales_of
from amcc.tuning.norms import with_room
from amcc.tuning.schedule import rate_at
from amcc.tuning.stream import Stream, held_out
from amcc.tuning.student import Student, batch_is_free
from amcc.tuning.targets import Target, targets
from amcc.tuning.teacher import Teacher, part_of
from amcc.tuning.trainer import Course, Trainer
from amcc.tuning.world import World
from amcc.usercode import named_function

if TYPE_CHECKING:
    from torch import Tensor

_HELD_OUT_SAMPLES = 5000
_STATISTICS_SAMPLES = 512
_PROBE_SAMPLES = 256
_CERTIFICATE_SAMPLES = 32
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
    student = Student(work, [t.name for t in wanted], _statistics(data), norms=tuning.norms)
    stream = Stream.of(len(data), _batch(tuning, len(data), world), tuning.samples, task.seed)
    augment = _augment(tuning, work, data, wanted, teacher, stream)
    judge = Evaluator(task.original, held, task.metric, threads=tuning.threads) if world.first else None
    facts = _facts(task, tuning, augment.names)
    if task.fresh and task.file is not None and world.first:
        task.file.unlink(missing_ok=True)
    course = Course(
        student=student,
        teacher=teacher,
        data=data,
        stream=stream,
        chunk=_chunk(work, student, data, stream.batch, world),
        augment=augment,
        loss=_loss(tuning, wanted, teacher, data, labelled),
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
    error = world.told(_certified(graph, student if found is not None else None, held) if world.first else None)
    tolerance = _tolerance(task.student)
    if not error <= tolerance:
        raise VerificationError(
            f"the tuned network differs from the module that was trained by {error:.2e}, more than {tolerance:.0e}",
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


def _statistics(data: Dataset) -> Iterator[dict[str, Array]]:
    """Samples on which the statistics of batch normalisation are measured, run by run."""
    count, size = min(len(data), _STATISTICS_SAMPLES), 1 if data.batching.alone else 64
    size = max(size // max(data.batching.size, 1), 1) * max(data.batching.size, 1)
    for start in range(0, count, size):
        yield data.batching.feeds(data.inputs, start, min(start + size, count))


def _batch(tuning: Tuning, samples: int, world: World) -> int:
    if tuning.batch % world.size:
        raise UsageError(f"{tuning.batch} is no multiple of the {world.size} processes", where="--batch")
    batch = min(tuning.batch, samples) // world.size * world.size
    if not batch:
        raise DataError(f"{samples} samples are too few for {world.size} processes", where="--train")
    return batch


def _first(data: Dataset, count: int) -> dict[str, Tensor]:
    """Some samples, spread over the data."""
    import torch

    places = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).astype(np.int64))
    taken = data.take(places).inputs
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in taken.items()}


def _asked(teacher: Teacher, data: Dataset, inputs: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """What the original says of samples, one row a run's first axis."""
    import torch

    how = data.batching
    count = min(t.shape[axis] for n, t in inputs.items() if (axis := how.axis(n)) is not None)
    size = 1 if how.alone else max(64 // max(how.size, 1), 1) * max(how.size, 1)
    runs = [teacher(part_of(how, inputs, slice(a, min(a + size, count)))) for a in range(0, count, size)]
    return {name: torch.cat([run[name].reshape(len(run[name]), -1) for run in runs]).cpu() for name in names}


def _augment(
    tuning: Tuning, graph: Graph, data: Dataset, wanted: Sequence[Target], teacher: Teacher, stream: Stream
) -> augmenting.Augment:
    import torch

    if not isinstance(tuning.augment, str) or ":" in tuning.augment:
        function = tuning.augment
        if isinstance(function, str):
            function = named_function(function, option="--augment")
        return augmenting.Augment(function=function)
    picture, kinds = augmenting.picture_input(graph), augmenting.asked(tuning.augment)
    if kinds and picture is None:
        raise UsageError("the network's input is no picture [N, C, H, W]", where="--augment")
    if kinds is not None:
        return augmenting.Augment(picture, tuple(kinds))
    scores = next((t for t in wanted if t.classes is not None and not t.feature), None)
    if picture is None or scores is None or data.synthetic or data.batching.alone:
        return augmenting.Augment()
    places = np.unique(np.linspace(0, len(data) - 1, min(_PROBE_SAMPLES, len(data))).astype(np.int64))
    labels = None if data.labels is None else torch.from_numpy(data.labels[places])

    def answers(inputs: Mapping[str, Tensor]) -> Tensor:
        return _asked(teacher, data, inputs, [scores.name])[scores.name].argmax(1)

    def draws(place: int) -> torch.Generator:
        return stream.generator(-1 - place & 0x7FFFFFFF)

    return augmenting.Augment(
        picture, augmenting.standing(picture, _first(data, _PROBE_SAMPLES), answers, labels, draws)
    )


def _loss(tuning: Tuning, wanted: Sequence[Target], teacher: Teacher, data: Dataset, labelled: bool) -> Loss:
    function = tuning.loss
    if isinstance(function, str):
        function = named_function(function, option="--loss")
    probe = _asked(teacher, data, _first(data, 64), [target.name for target in wanted])
    return Loss(
        wanted,
        scales_of(wanted, probe),
        tuning.label_weight if labelled else 0.0,
        tuning.output_weight,
        tuning.feature_weight,
        tuning.temperature,
        function,
    )


def _chunk(graph: Graph, student: Student, data: Dataset, batch: int, world: World) -> int:
    """Samples of a forward pass: what fits in memory, and the graph's own number where it takes no other."""
    how = batching(graph)
    if how.alone:
        return 1
    if how.size and not batch_is_free(graph, student.module, _first(data, how.size + 1)):
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


def _tolerance(graph: Graph) -> float:
    types = {graph.values[name].dtype for name in (*graph.inputs, *graph.params)}
    return max(TOLERANCE.get(dtype, 0.0) for dtype in (*types, "float32"))


def _certified(graph: Graph, student: Student | None, held: Dataset) -> float:
    """The largest relative difference of the network, written as ONNX and read again, from the trained module.

    Args:
        student: None where the network is the one that training started with.
    """
    import torch

    from amcc.backends.runtime import Session
    from amcc.backends.to_onnx import write_onnx
    from amcc.backends.torch_module import torch_module
    from amcc.frontends.from_onnx import from_onnx
    from amcc.passes.shapes import infer

    names = student.targets if student is not None else graph.outputs
    module = student.module.cpu().eval() if student is not None else torch_module(graph)[0]
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(graph, Path(folder) / "model.onnx")
        written = infer(from_onnx(Path(folder) / "model.onnx"))
        session = Session(written, outputs=[name for name in names if name in written.values])
        worst = 0.0
        how, samples = held.batching, min(len(held), _CERTIFICATE_SAMPLES)
        size = 1 if how.alone else how.size or samples
        for start in range(0, samples - size + 1, size) or [0]:
            feeds = how.feeds(held.inputs, start, start + size)
            expected = session.run(feeds)
            given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
            with torch.no_grad():
                if student is not None:
                    found = student.outputs(module, given)
                else:
                    results = module(*(given[name] for name in graph.inputs))
                    found = dict(zip(names, results if isinstance(results, tuple) else (results,), strict=True))
            for name, array in expected.items():
                own = found[name].float().numpy()
                worst = max(worst, difference(array.astype(np.float32), own) if array.dtype.kind in "fV" else 0.0)
    return worst if math.isfinite(worst) else math.inf


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
    total = trainer.steps
    optimiser = tuning.optimiser if isinstance(tuning.optimiser, str) else _called(tuning.optimiser)
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
        optimiser=optimiser,
        rate=rate,
        augment=course.augment.names,
        norms=course.student.norms,
        compared=tuple(target.name for target in course.loss.targets),
        error=error,
        tolerance=_tolerance(task.student),
        curve=tuple(
            EpochLine(
                rate=round(rate * rate_at((place + 1) * stream.per_epoch - 1, total, tuning.warmup), 9),
                loss=loss,
                metric=metric,
            )
            for place, (loss, metric) in enumerate(progress.curve)
        ),
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
