"""Pictures changed at random: flipped, shifted. Both networks see the same changed picture.

`auto` asks the original: of flips and of shifts it uses those on which the original's answers to training samples
hold up. A network trained with flips does not mind them; one that reads digits does.

A function of the user's is called with the inputs by name, the labels (or None) and a `torch.Generator`, and gives the
inputs, or a tuple of inputs and labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amcc.errors import DataError
from amcc.ir import Graph
from amcc.usercode import call

if TYPE_CHECKING:
    from torch import Generator, Tensor

KINDS = ("flip", "shift")
STANDS = 0.02
"""The share of answers that may change from right to wrong under an augmentation that `auto` uses."""

_SMALLEST_PICTURE = 8
_SHIFT = 8
"""Pictures move by up to one part in so many of their side."""


def picture_input(graph: Graph) -> str | None:
    """The one input, if it has the shape of pictures `[N, C, H, W]`."""
    if len(graph.inputs) != 1:
        return None
    value = graph.values[graph.inputs[0]]
    shape = value.shape
    if shape is None or len(shape) != 4 or value.dtype not in ("float32", "float16", "bfloat16"):
        return None
    channels, *sides = shape[1:]
    large = all(isinstance(side, int) and side >= _SMALLEST_PICTURE for side in sides)
    return value.name if large and isinstance(channels, int) and channels <= 4 else None


def flipped(pictures: Tensor, draws: Generator) -> Tensor:
    """Each picture mirrored left to right, or not."""
    import torch

    mirror = torch.rand(len(pictures), generator=draws).to(pictures.device) < 0.5
    return torch.where(mirror[:, None, None, None], pictures.flip(3), pictures)


def shifted(pictures: Tensor, draws: Generator) -> Tensor:
    """Each picture moved by up to an eighth of its sides, zeros where it leaves a gap."""
    import torch
    from torch.nn.functional import pad

    count, channels, height, width = pictures.shape
    down, right = max(1, height // _SHIFT), max(1, width // _SHIFT)
    padded = pad(pictures, (right, right, down, down))
    tops = torch.randint(0, 2 * down + 1, (count, 1), generator=draws)
    lefts = torch.randint(0, 2 * right + 1, (count, 1), generator=draws)
    rows = (tops + torch.arange(height))[:, None, :, None].to(pictures.device)
    columns = (lefts + torch.arange(width))[:, None, None, :].to(pictures.device)
    samples = torch.arange(count, device=pictures.device)[:, None, None, None]
    planes = torch.arange(channels, device=pictures.device)[None, :, None, None]
    return padded[samples, planes, rows, columns]


_CHANGES = {"flip": flipped, "shift": shifted}


@dataclass(frozen=True)
class Augment:
    """Changes the inputs of a step.

    Attributes:
        picture: the input that `kinds` change.
        kinds: of `KINDS`, in turn.
        function: the user's, in place of these.
    """

    picture: str | None = None
    kinds: tuple[str, ...] = ()
    function: Callable[..., Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What is done, for people."""
        return self.kinds if self.function is None else (getattr(self.function, "__name__", "function"),)

    def __call__(
        self, inputs: Mapping[str, Tensor], labels: Tensor | None, draws: Generator
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The changed inputs, and the labels.

        Raises:
            DataError: the user's function raises, or what it gives does not fit.
        """
        if self.function is not None:
            return self._users(self.function, inputs, labels, draws)
        changed = dict(inputs)
        for kind in self.kinds if self.picture else ():
            changed[str(self.picture)] = _CHANGES[kind](changed[str(self.picture)], draws)
        return changed, labels

    def _users(
        self, function: Callable[..., Any], inputs: Mapping[str, Tensor], labels: Tensor | None, draws: Generator
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        name = f"augmentation '{self.names[0]}'"
        found = call(function, dict(inputs), labels, draws, name=name)
        if isinstance(found, tuple) and len(found) == 2:
            found, labels = found
        if not isinstance(found, Mapping) or any(
            key not in found or found[key].shape[1:] != tensor.shape[1:] for key, tensor in inputs.items()
        ):
            raise DataError(f"{name} did not give tensors of the inputs' shapes under their names")
        return {key: found[key].contiguous() for key in inputs}, labels


def standing(
    picture: str | None,
    inputs: Mapping[str, Tensor],
    answers: Callable[[Mapping[str, Tensor]], Tensor | None],
    labels: Tensor | None,
    draws: Callable[[int], Generator],
) -> tuple[str, ...]:
    """The augmentations on which the original's answers hold up.

    Args:
        inputs: some samples.
        answers: the original's class of each sample, [N]; None where it gives no classes.
        labels: the right classes; without them, the original's own are right.
        draws: random numbers for each kind.
    """
    if picture is None or (own := answers(inputs)) is None:
        return ()
    right = own if labels is None else labels
    before = float((own == right).float().mean())
    found: list[str] = []
    for place, kind in enumerate(KINDS):
        changed = answers({**inputs, picture: _CHANGES[kind](inputs[picture], draws(place))})
        if changed is not None and before - float((changed == right).float().mean()) <= STANDS:
            found.append(kind)
    return tuple(found)


def asked(text: str) -> Sequence[str] | None:
    """The kinds that an option names; None for `auto`."""
    return None if text == "auto" else [k for k in KINDS if k in [n.strip() for n in text.split(",")]]
