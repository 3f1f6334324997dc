"""What a training needs to go on from where it was, as one safetensors file, written whole or not at all.

Tensors stand under `module.`, `optimiser.<number>.` and `best.`; all else is JSON under the key `amcc` of the
header: the step, the curve so far, and what makes the training what it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.errors import OutputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
_AGAIN = "give --fresh to begin anew"


@dataclass
class Progress:
    """Where a training is.

    Attributes:
        step: the next one.
        total: the loss summed over the steps of this epoch so far.
        curve: loss and metric of each epoch that ended.
        best: the epoch that is kept, 0 for the start, and its metric.
        done: whether the training has ended.
    """

    step: int = 0
    total: float = 0.0
    curve: list[list[float]] = field(default_factory=list)
    best: int = 0
    best_metric: float = float("-inf")
    done: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """One file's content.

    Attributes:
        module, best: state dicts; `best` is empty while the start is the best.
        optimiser: for each parameter's number its state.
    """

    progress: Progress
    module: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimiser: Mapping[int, Mapping[str, Any]]

    def encoded(self, facts: Mapping[str, Any]) -> bytes:
        """The file."""
        from safetensors.torch import save

        tensors = {f"module.{key}": tensor for key, tensor in self.module.items()}
        tensors |= {f"best.{key}": tensor for key, tensor in self.best.items()}
        numbers: dict[str, Any] = {}
        for place, state in self.optimiser.items():
            for key, value in state.items():
                name = f"optimiser.{place}.{key}"
                if hasattr(value, "numel"):
                    tensors[name] = value
                elif value is None or isinstance(value, bool | int | float | str):
                    numbers[name] = value
                else:
                    hint = "its state must be tensors and numbers"
                    raise UsageError(f"the optimiser's '{key}' cannot be stored", where="--optimiser", hint=hint)
        told = {"format": FORMAT, "facts": facts, "progress": vars(self.progress), "numbers": numbers}
        flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        return save(flat, {"amcc": json.dumps(told)})


def decoded(data: bytes, facts: Mapping[str, Any], where: str) -> Checkpoint:
    """Read what `encoded` made.

    Raises:
        UsageError: it is the checkpoint of another training (says what differs), or none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        size = int.from_bytes(data[:8], "little")
        told = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["amcc"])
        tensors = load(data)
        progress = Progress(**told["progress"])
        theirs, numbers = dict(told["facts"]), told["numbers"]
    except (ValueError, KeyError, TypeError, SafetensorError):
        raise UsageError("this file is not a checkpoint of amcc", where=where, hint=_AGAIN) from None
    if differing := [key for key in {**facts, **theirs} if facts.get(key) != theirs.get(key)]:
        said = "; ".join(f"{key} was {_short(theirs.get(key))}, is {_short(facts.get(key))}" for key in differing)
        raise UsageError(f"the checkpoint belongs to another training: {said}", where=where, hint=_AGAIN)
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "best": {}}
    optimiser: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **numbers}.items():
        part, _, key = name.partition(".")
        if part in parts:
            parts[part][key] = value
        else:
            place, _, key = key.partition(".")
            optimiser.setdefault(int(place), {})[key] = value
    return Checkpoint(progress, parts["module"], parts["best"], optimiser)


def write(path: Path, data: bytes) -> None:
    """Put the file in place.

    Raises:
        OutputError: it cannot be written; an older one stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"the checkpoint cannot be written: {error.strerror or error}", where=str(path)) from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
