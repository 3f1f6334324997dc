"""How to compile: every choice of the user's that is not a model or data, checked once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args

from amcc.errors import UsageError
from amcc.granularity import Granularity
from amcc.usercode import is_named

Recover = Literal["full", "layers", "none"]
Artifact = Literal["onnx", "torch", "pt2"]

POLICY = "refine"
EPISODES = 200
CALIB_SAMPLES = 1500
EVAL_SAMPLES = 1000
REPORT_SAMPLES = 10_000
GUARD_SAMPLES = 20_000
LARGE_GROUP, LARGE_MULTIPLE = 64, 8


@dataclass(frozen=True, slots=True)
class Measuring:
    """How latency is measured.

    Attributes:
        provider: ONNX Runtime's name of what runs the network here.
        threads: of ONNX Runtime within an operator, 0 for all cores.
        batch: samples in a run, where the network leaves that free.
        hook: a function, or `module:function`, that is given the path of an ONNX file and gives milliseconds,
            in place of ONNX Runtime here.
        timeout: seconds that the function may take for one network.
    """

    provider: str = "CPUExecutionProvider"
    threads: int = 1
    batch: int = 1
    hook: str | Callable[..., Any] | None = None
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name, least in (("threads", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{getattr(self, name)} is below {least}", where=f"--latency-{name}")
        if not self.timeout > 0:
            raise UsageError(f"{self.timeout} is not above 0", where="--latency-timeout")


OPTIMISERS = {"sgd": (0.005, 1e-4), "adamw": (2e-4, 1e-2)}
"""Peak learning rate and weight decay of each optimiser, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choices of a training.

    Attributes:
        epochs: passes over the samples.
        samples: of an epoch; all by default. Each epoch goes on where the one before stopped.
        batch: samples of a step, over all processes together.
        optimiser: `"sgd"` (Nesterov momentum 0.9), `"adamw"`, or a function from `(name, parameter)` pairs to an
            optimiser; `"auto"` is SGD where there is batch normalisation, AdamW elsewhere.
        rate: the highest learning rate; by default the optimiser's of `OPTIMISERS`.
        decay: weight decay, of weights alone; by default the optimiser's of `OPTIMISERS`.
        schedule: of the rate: `"cosine"`, which falls to zero, `"constant"`, or a function from a step and the number
            of all steps to a share of the highest rate.
        warmup: share of the steps in which the rate rises before that; for functions it means nothing.
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

    epochs: int = 10
    samples: int | None = None
    batch: int = 128
    optimiser: str | Callable[..., Any] = "auto"
    rate: float | None = None
    decay: float | None = None
    schedule: str | Callable[..., Any] = "cosine"
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
        known = ("auto", *OPTIMISERS)
        if isinstance(self.optimiser, str) and self.optimiser not in known and not is_named(self.optimiser):
            raise UsageError(f"'{self.optimiser}' is not {', '.join(known)} or module:function", where="--optimiser")
        if (
            isinstance(self.schedule, str)
            and self.schedule not in ("cosine", "constant")
            and not is_named(self.schedule)
        ):
            raise UsageError(f"'{self.schedule}' is not cosine, constant or module:function", where="--schedule")
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


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices of a compilation.

    Attributes:
        episodes: of the search, at most.
        round: kept units of a group are a multiple of it; None for 8 where a group has at least 64
            units, else 1.
        granularity: what goes at once, see `amcc.granularity`.
        lock: names of parameters, nodes or values whose channels, or weights, all stay.
        exact: cut no channels whose removal changes what others hold (those behind a LayerNorm, say).
        min_keep: of every group at least so much stays: a share below 1, else a number of units.
        recover: `"layers"` repairs by linear algebra alone, layer by layer; `"none"` ships pure slices of the
            original weights.
        metric: see `amcc.metric`; None for top-1 with labels, else fidelity.
        emit: what to write; None for `onnx`, and `torch` where the network can be written so.
        threads: of ONNX Runtime, 0 for all cores; of each worker, 0 for its share.
        workers: what scores plans side by side; None for one here, or for as many as a Ray cluster has room for.
        ray: the address of a Ray cluster, or `"local"`.
        guarded: whether samples are held back for a guarantee.
        measuring: how latency is measured.
    """

    search: str = POLICY
    episodes: int = EPISODES
    seed: int = 0
    round: int | None = None
    granularity: str = "channel"
    lock: tuple[str, ...] = ()
    exact: bool = False
    min_keep: float = 0.0
    recover: str = "full"
    metric: str | Callable[..., Any] | None = None
    emit: tuple[Artifact, ...] | None = None
    calib_samples: int = CALIB_SAMPLES
    eval_samples: int = EVAL_SAMPLES
    report_samples: int = REPORT_SAMPLES
    threads: int = 0
    workers: int | None = None
    ray: str | None = None
    guarded: bool = False
    measuring: Measuring = Measuring()

    def __post_init__(self) -> None:
        numbers = {"episodes": 1, "calib_samples": 1, "eval_samples": 1, "report_samples": 1, "threads": 0, "seed": 0}
        if self.workers is not None:
            numbers["workers"] = 1
        for name, least in numbers.items():
            if getattr(self, name) < least:
                raise UsageError(f"{getattr(self, name)} is below {least}", where=_option(name))
        if self.round is not None and self.round < 1:
            raise UsageError(f"{self.round} is below 1", where="--round")
        if Granularity.parse(self.granularity) is not None and self.round is not None:
            raise UsageError(f"widths are rounded, and {self.granularity} leaves them alone", where="--round")
        if not self.min_keep >= 0:
            raise UsageError(f"{self.min_keep} is not a share or a number of units", where="--min-keep")
        if self.recover not in get_args(Recover):
            raise UsageError(f"'{self.recover}' is not full, layers or none", where="--recover")
        if self.ray is not None and find_spec("ray") is None:
            raise UsageError("Ray is not installed", where="--ray", hint="pip install 'amcc[ray]'")
        if self.ray is None and self.side_by_side and os.name != "posix":
            raise UsageError("workers need Linux or macOS", where="--workers", hint="--ray local works here")

    @property
    def side_by_side(self) -> bool:
        """Whether workers score plans."""
        return self.ray is not None or (self.workers or 1) > 1

    @property
    def threads_each(self) -> int:
        """Threads of a worker: on a cluster one by default, here a share of the cores."""
        if self.threads or self.ray is not None:
            return self.threads or 1
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // (self.workers or 1))

    def multiple(self, size: int) -> int:
        """The multiple for a group of this many units."""
        if self.round is not None:
            return self.round
        return LARGE_MULTIPLE if size >= LARGE_GROUP else 1

    def minimum(self, size: int) -> int:
        """The fewest units that must stay of a group of this many."""
        least = -(-self.min_keep * size // 1) if self.min_keep < 1 else self.min_keep
        return min(size, max(1, int(least)))


def artifacts(names: str | Iterable[str] | None) -> tuple[Artifact, ...] | None:
    """Read `onnx,torch`, or a list.

    Raises:
        UsageError: something that amcc does not write.
    """
    if names is None:
        return None
    listed = [n.strip() for text in ([names] if isinstance(names, str) else names) for n in text.split(",")]
    for name in listed:
        if name not in get_args(Artifact):
            raise UsageError(f"'{name}' is not onnx, torch or pt2", where="--emit")
    return cast("tuple[Artifact, ...]", tuple(dict.fromkeys(listed)))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
