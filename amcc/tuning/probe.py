"""What is measured on a few samples before a training: augmentations that stand, units of the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.data import Dataset
from amcc.errors import UsageError
from amcc.ir import Array, Graph
from amcc.settings import Tuning
from amcc.tuning import augment as augmenting
from amcc.tuning.loss import Loss, scales_of
from amcc.tuning.stream import Stream
from amcc.tuning.targets import Target
from amcc.tuning.teacher import Teacher, part_of
from amcc.usercode import named_function

if TYPE_CHECKING:
    from torch import Generator, Tensor

_STATISTICS_SAMPLES = 512
_PROBE_SAMPLES = 256
_SCALE_SAMPLES = 64
_RUN = 64


def statistics(data: Dataset) -> Iterator[dict[str, Array]]:
    """Samples on which the statistics of batch normalisation are measured, run by run."""
    count, size = min(len(data), _STATISTICS_SAMPLES), 1 if data.batching.alone else _RUN
    size = max(size // max(data.batching.size, 1), 1) * max(data.batching.size, 1)
    for start in range(0, count, size):
        yield data.batching.feeds(data.inputs, start, min(start + size, count))


def first(data: Dataset, count: int) -> dict[str, Tensor]:
    """Some samples, spread over the data."""
    import torch

    places = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).astype(np.int64))
    taken = data.take(places).inputs
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in taken.items()}


def asked(teacher: Teacher, data: Dataset, inputs: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """What the original says of samples, one row a run's first axis."""
    import torch

    how = data.batching
    count = min(t.shape[axis] for n, t in inputs.items() if (axis := how.axis(n)) is not None)
    size = 1 if how.alone else max(_RUN // max(how.size, 1), 1) * max(how.size, 1)
    runs = [teacher(part_of(how, inputs, slice(a, min(a + size, count)))) for a in range(0, count, size)]
    return {name: torch.cat([run[name].reshape(len(run[name]), -1) for run in runs]).cpu() for name in names}


def augment_of(
    tuning: Tuning, graph: Graph, data: Dataset, wanted: Sequence[Target], teacher: Teacher, stream: Stream
) -> augmenting.Augment:
    """The augmentation that was asked for, or that the original stands.

    Raises:
        UsageError: pictures are to be changed, and the input is none.
    """
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
        return asked(teacher, data, inputs, [scores.name])[scores.name].argmax(1)

    def draws(place: int) -> Generator:
        return stream.generator(-1 - place & 0x7FFFFFFF)

    return augmenting.Augment(
        picture, augmenting.standing(picture, first(data, _PROBE_SAMPLES), answers, labels, draws)
    )


def loss_of(tuning: Tuning, wanted: Sequence[Target], teacher: Teacher, data: Dataset, labelled: bool) -> Loss:
    """The loss that was asked for, its units measured."""
    function = tuning.loss
    if isinstance(function, str):
        function = named_function(function, option="--loss")
    probe = asked(teacher, data, first(data, _SCALE_SAMPLES), [target.name for target in wanted])
    return Loss(
        wanted,
        scales_of(wanted, probe),
        tuning.label_weight if labelled else 0.0,
        tuning.output_weight,
        tuning.feature_weight,
        tuning.temperature,
        function,
    )
