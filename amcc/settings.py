"""How to compile: every choice of the user's that is not a model or data, checked once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args

from amcc.errors import UsageError

Recover = Literal["full", "layers", "none"]
Artifact = Literal["onnx", "torch"]

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


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices of a compilation.

    Attributes:
        episodes: of the search, at most.
        round: kept units of a group are a multiple of it; None for 8 where a group has at least 64
            units, else 1.
        lock: names of parameters, nodes or values whose channels all stay.
        exact: cut no channels whose removal changes what others hold (those behind a LayerNorm, say).
        min_keep: of every group at least so much stays: a share below 1, else a number of units.
        recover: `"layers"` repairs by linear algebra alone, layer by layer; `"none"` ships pure slices of the
            original weights.
        metric: see `amcc.metric`; None for top-1 with labels, else fidelity.
        emit: what to write; None for everything that the network can be written as.
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
            raise UsageError(f"'{name}' is not onnx or torch", where="--emit")
    return cast("tuple[Artifact, ...]", tuple(dict.fromkeys(listed)))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
