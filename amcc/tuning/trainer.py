"""The loop: steps, epochs, checkpoints, and which epoch is kept."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.data import Dataset
from amcc.errors import DataError, Interrupted, UsageError
from amcc.ir import Array, Graph
from amcc.settings import OPTIMISERS, Tuning
from amcc.tuning import checkpoint
from amcc.tuning.augment import Augment
from amcc.tuning.checkpoint import Checkpoint, Progress
from amcc.tuning.loss import Loss
from amcc.tuning.schedule import schedule_of
from amcc.tuning.stream import Stream
from amcc.tuning.student import Student
from amcc.tuning.teacher import Answers, Teacher, part_of
from amcc.tuning.world import World, spread
from amcc.usercode import call, named_function

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

_SPEAKS_EVERY = 30.0
_LEAST_FOR_STATISTICS = 8
"""Samples of a run below which batch normalisation keeps the statistics that it has."""


@dataclass(frozen=True)
class Course:
    """All that a training is made of, but its progress.

    Attributes:
        answers: the teacher's to all samples, where they are known beforehand.
        data: to train on.
        stream: of its samples.
        chunk: samples of a forward pass; a step's gradients add up over several.
        judge: the metric of a graph on samples held out.
        facts: what makes the training what it is, JSON values only.
        file: of the checkpoint, if there is to be one.
        say: told how it goes, for people.
    """

    student: Student
    teacher: Teacher
    answers: Answers
    data: Dataset
    stream: Stream
    chunk: int
    augment: Augment
    loss: Loss
    judge: Callable[[Graph], float]
    tuning: Tuning
    world: World
    facts: Mapping[str, Any]
    file: Path | None
    say: Callable[[str], None]


class Trainer:
    """Trains a student.

    Attributes:
        progress: where it is.
        schedule: of the learning rate.
    """

    def __init__(self, course: Course) -> None:
        self._c = course
        course.student.to(course.world.device)
        unused = not course.loss.output_weight or course.loss.function is not None
        self._module = spread(course.student.module, course.world, unused=unused)
        self._optimiser = optimiser_of(course.student, course.tuning)
        self._rates = [group["lr"] for group in self._optimiser.param_groups]
        self._best: Mapping[str, Tensor] = {}
        self.progress = Progress()
        self._resume()

        self._stop = False
        self.schedule = schedule_of(course.tuning.schedule, course.tuning.warmup)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self._c.tuning.epochs * self._c.stream.per_epoch

    def run(self, *, keep_on_interrupt: bool = False) -> Graph | None:
        """Train to the end, and give the network of the epoch that is kept; None where that is the start.

        Args:
            keep_on_interrupt: Ctrl-C ends the training and keeps the best epoch so far.

        Raises:
            Interrupted: Ctrl-C; the checkpoint is written.
            DataError: the loss is no longer a number.
        """
        c, p = self._c, self.progress
        if not p.step:
            p.best_metric = self._judged()
        with _interruptible() as asked_to_stop:
            saved = spoke = begun = time.monotonic()
            first = p.step
            while p.step < self.steps and not p.done and not self._stop:
                p.total += self._step(p.step, asked_to_stop)
                p.step += 1
                now = time.monotonic()
                left = (now - begun) / (p.step - first) * (self.steps - p.step)
                if p.step % c.stream.per_epoch == 0:
                    self._end_epoch(left)
                    saved = spoke = time.monotonic()
                elif self._stop or now - saved > c.tuning.checkpoint_seconds:
                    self.save()
                    saved = now
                if now - spoke > _SPEAKS_EVERY:
                    self._speak(left)
                    spoke = now
        if self._stop and p.step < self.steps and not p.done and not keep_on_interrupt:
            raise Interrupted("the training was stopped", hint="the same command goes on from its checkpoint")
        p.done = True
        self.save()
        if not p.best:
            return None
        c.student.module.load_state_dict(self._best)
        return c.student.graph()

    def _speak(self, left: float) -> None:
        """Say how an epoch goes, or went."""
        c, p = self._c, self.progress
        epoch, steps = divmod(p.step, c.stream.per_epoch)
        if steps:
            text = (
                f"epoch {epoch + 1}/{c.tuning.epochs}: {steps}/{c.stream.per_epoch} steps  loss {p.total / steps:.4f}"
            )
        else:
            loss, metric = p.curve[-1]
            best = " (best)" if p.best == epoch else ""
            text = f"epoch {epoch}/{c.tuning.epochs}  loss {loss:.4f}  held out {metric:.4f}{best}"
        c.say(f"{text}  eta {left:.0f} s")

    def _step(self, step: int, asked_to_stop: Callable[[], bool]) -> float:
        """One step; the loss over the whole batch. Notes whether any process was asked to stop."""
        import torch

        c = self._c
        scale = self.schedule(step, self.steps)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * scale
        chosen = c.stream.at(step)
        inputs, labels = self._batch(chosen, step)
        share = c.world.share(c.stream.batch)
        chosen = chosen[share]
        inputs = part_of(c.data.batching, inputs, share, several=True)
        labels = None if labels is None else labels[share]
        count = c.stream.batch // c.world.size
        chunk = min(c.chunk, count)
        c.student.train(frozen_norms=chunk < _LEAST_FOR_STATISTICS)
        self._optimiser.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for start in range(0, count, chunk):
            part = slice(start, min(start + chunk, count))
            last = part.stop == count
            waiting = nullcontext() if last or c.world.size == 1 else self._module.no_sync()  # type: ignore[operator]
            with waiting:
                loss = self._loss(chosen, inputs, labels, part) * ((part.stop - part.start) / count)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach().cpu()
        both = c.world.mean(torch.stack([total, torch.tensor(float(asked_to_stop()))]))
        value, self._stop = float(both[0]), bool(both[1] > 0)
        if not math.isfinite(value):
            hint = "try a lower --rate, or a longer --warmup"
            raise DataError(f"the loss is no longer a number, at step {step + 1}", where="--train", hint=hint)
        self._optimiser.step()
        c.student.mask()
        return value

    def _loss(self, chosen: Array, inputs: Mapping[str, Tensor], labels: Tensor | None, part: slice) -> Tensor:
        import torch

        c = self._c
        feeds = part_of(c.data.batching, inputs, part)
        device = c.world.device
        wanted = c.answers.of(chosen[part]) or c.teacher(feeds)
        there = {name: _placed(tensor, device) for name, tensor in feeds.items()}
        mixed = c.tuning.precision == "bfloat16" or (c.tuning.precision == "auto" and device != "cpu")
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=mixed):
            outputs = c.student.outputs(self._module, there)
        return c.loss(outputs, None if labels is None else labels[part].to(device), wanted)

    def _batch(self, chosen: Array, step: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """The whole batch of a step, of all processes: what is drawn at random is drawn for all of it."""
        import numpy as np
        import torch

        c = self._c
        taken = c.data.batching.take(c.data.inputs, chosen)
        inputs = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in taken.items()}
        labels = None if c.data.labels is None else torch.from_numpy(np.asarray(c.data.labels[chosen]))
        return c.augment(inputs, labels, c.stream.generator(step))

    def _end_epoch(self, left: float) -> None:
        c, p = self._c, self.progress
        metric = self._judged()
        p.curve.append([p.total / c.stream.per_epoch, metric])
        p.total = 0.0
        if metric >= p.best_metric:
            p.best, p.best_metric = len(p.curve), metric
            self._best = {key: tensor.detach().clone() for key, tensor in c.student.module.state_dict().items()}
        p.done = p.step >= self.steps or bool(c.tuning.patience and len(p.curve) - p.best >= c.tuning.patience)
        self.save()
        self._speak(left)

    def _judged(self) -> float:
        c = self._c
        return float(c.world.told(c.judge(c.student.graph()) if c.world.first else None))

    def save(self) -> None:
        """Write the checkpoint, where there is to be one."""
        c = self._c
        if c.file is None or not c.world.first:
            return
        state = self._optimiser.state_dict()["state"]
        made = Checkpoint(self.progress, c.student.module.state_dict(), self._best, state)
        checkpoint.write(c.file, made.encoded(c.facts))

    def _resume(self) -> None:
        c = self._c
        data = c.file.read_bytes() if c.world.first and c.file is not None and c.file.is_file() else None
        if (data := c.world.told(data)) is None:
            return
        found = checkpoint.decoded(data, c.facts, str(c.file))
        c.student.module.load_state_dict(found.module)
        c.student.to(c.world.device)
        self._best, self.progress = found.best, found.progress
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": dict(found.optimiser)})
        if self.progress.step:
            c.say(f"going on from step {self.progress.step} of {self.steps}")


def chosen_optimiser(student: Student, tuning: Tuning) -> str | Callable[..., Any]:
    """The optimiser that was asked for, or that suits the network: SGD diverges without batch normalisation."""
    if tuning.optimiser != "auto":
        return tuning.optimiser
    return "sgd" if student.is_normed else "adamw"


def optimiser_of(student: Student, tuning: Tuning) -> Optimizer:
    """The optimiser; weight decay is for matrices and kernels alone.

    Raises:
        UsageError: a function of the user's gives none.
    """
    import torch

    weights, chosen = list(student.weights.items()), chosen_optimiser(student, tuning)
    if not isinstance(chosen, str) or ":" in chosen:
        function = named_function(chosen, option="--optimiser") if isinstance(chosen, str) else chosen
        name = getattr(function, "__name__", "optimiser")
        found = call(function, weights, name=f"optimiser '{name}'")
        if not isinstance(found, torch.optim.Optimizer):
            raise UsageError(f"'{name}' gave {type(found).__name__}, not an optimiser", where="--optimiser")
        return found
    rate, decay = OPTIMISERS[chosen]
    rate = rate if tuning.rate is None else tuning.rate
    decay = decay if tuning.decay is None else tuning.decay
    groups: list[dict[str, Any]] = [
        {"params": [w for _, w in weights if w.dim() > 1], "weight_decay": decay},
        {"params": [w for _, w in weights if w.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if chosen == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)


def _placed(tensor: Tensor, device: str) -> Tensor:
    import torch

    layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
    return tensor.to(device, memory_format=layout, non_blocking=True)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Within it, the first Ctrl-C (or SIGTERM) is noted and the second one breaks off."""
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
