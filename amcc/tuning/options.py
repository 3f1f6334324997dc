"""How to train: every choice, checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from amcc.errors import UsageError
from amcc.usercode import is_named

EPOCHS = 10
HELD_OUT_SAMPLES = 5000
OPTIMISERS = {"sgd": (0.02, 1e-4), "adamw": (5e-4, 1e-2)}
"""Peak learning rate and weight decay of each optimiser, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choices of a training.

    Attributes:
        epochs: passes over the samples.
        samples: of an epoch; all by default. Each epoch goes on where the one before stopped.
        batch: samples of a step, over all processes together.
        optimiser: `"sgd"` (Nesterov momentum 0.9), `"adamw"`, or a function from `(name, parameter)` pairs to an
            optimiser.
        rate: the highest learning rate; by default the optimiser's of `OPTIMISERS`.
        decay: weight decay, of weights alone; by default the optimiser's of `OPTIMISERS`.
        warmup: share of the steps in which the rate rises; it falls to zero along a cosine after them.
        label_weight: of the cross-entropy with the labels, where there are some.
        output_weight: of the distance from the original's outputs.
        feature_weight: of the distance from what the original has between its blocks.
        temperature: at which class probabilities are compared.
        loss: a function in place of these, see `amcc.tuning.loss`.
        augment: `"auto"`, `"none"`, `"flip"`, `"shift"`, `"flip,shift"`, or a function, see `amcc.tuning.augment`.
        norms: whether batch normalisation is put behind convolutions for the training, and folded after it.
        precision: `"float32"`, `"bfloat16"` (mixed), or `"auto"`: mixed on a GPU.
        device: `"cpu"` or `"cuda"`.
        held_out: the share of the samples that is not trained on and decides which epoch is kept; at most 5,000.
        patience: epochs without a better one after which the training ends; 0 for never.
        checkpoint_seconds: the longest time between two checkpoints; each epoch ends with one in any case.
        threads: of PyTorch, 0 for its own choice.
    """

    epochs: int = EPOCHS
    samples: int | None = None
    batch: int = 128
    optimiser: str | Callable[..., Any] = "sgd"
    rate: float | None = None
    decay: float | None = None
    warmup: float = 0.05
    label_weight: float = 0.1
    output_weight: float = 0.9
    feature_weight: float = 0.5
    temperature: float = 4.0
    loss: str | Callable[..., Any] | None = None
    augment: str | Callable[..., Any] = "auto"
    norms: bool = True
    precision: str = "auto"
    device: str = "cpu"
    held_out: float = 0.1
    patience: int = 0
    checkpoint_seconds: float = 60.0
    threads: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 0), ("threads", 0), ("checkpoint_seconds", 0)):
            if not getattr(self, name) >= least:
                raise UsageError(f"{getattr(self, name)} is below {least}", where=_option(name))
        if self.samples is not None and self.samples < 1:
            raise UsageError(f"{self.samples} is below 1", where="--train-samples")
        for name in ("label_weight", "output_weight", "feature_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{getattr(self, name)} is not a weight", where=_option(name))
        if self.loss is None and not (self.label_weight or self.output_weight or self.feature_weight):
            raise UsageError("nothing is left of the loss", where="--output-weight")
        for name in ("rate", "decay"):
            if (value := getattr(self, name)) is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{value} is not a number above 0", where=_option(name))
        if not self.temperature > 0:
            raise UsageError(f"{self.temperature} is not above 0", where="--temperature")
        if not (0 <= self.warmup < 1):
            raise UsageError(f"{self.warmup} is not a share", where="--warmup")
        if not (0 < self.held_out < 1):
            raise UsageError(f"{self.held_out} is not a share between 0 and 1", where="--held-out")
        self._check_names()

    def _check_names(self) -> None:
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"'{self.precision}' is not auto, float32 or bfloat16", where="--precision")
        if self.device.partition(":")[0] not in ("cpu", "cuda"):
            raise UsageError(f"'{self.device}' is not cpu or cuda", where="--device")
        if isinstance(self.optimiser, str) and self.optimiser not in OPTIMISERS and not is_named(self.optimiser):
            known = ", ".join(OPTIMISERS)
            raise UsageError(f"'{self.optimiser}' is not {known} or module:function", where="--optimiser")
        if isinstance(self.loss, str) and not is_named(self.loss):
            raise UsageError(f"'{self.loss}' is not of the form module:function", where="--loss")
        if isinstance(self.augment, str) and not is_named(self.augment):
            names = [name.strip() for name in self.augment.split(",")]
            if names not in (["auto"], ["none"]) and not {*names} <= {"flip", "shift"}:
                raise UsageError(
                    f"'{self.augment}' is not auto, none, flip, shift, flip,shift or module:function", where="--augment"
                )
        if find_spec("torch") is None:
            raise UsageError("PyTorch is not installed", hint="pip install torch")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
