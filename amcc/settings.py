"""How to compile: every choice of the user's that is not a model or data, checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from amcc.errors import UsageError

Recover = Literal["full", "layers", "none"]
Artifact = Literal["onnx", "torch"]

EPISODES = 200
CALIB_SAMPLES = 1500
EVAL_SAMPLES = 1000
REPORT_SAMPLES = 10_000
GUARD_SAMPLES = 20_000
LARGE_GROUP, LARGE_MULTIPLE = 64, 8


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
        threads: of ONNX Runtime, 0 for all cores.
        guarded: whether samples are held back for a guarantee.
    """

    search: str = "ddpg"
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
    guarded: bool = False

    def __post_init__(self) -> None:
        numbers = {"episodes": 1, "calib_samples": 1, "eval_samples": 1, "report_samples": 1, "threads": 0, "seed": 0}
        for name, least in numbers.items():
            if getattr(self, name) < least:
                raise UsageError(f"{getattr(self, name)} is below {least}", where=_option(name))
        if self.round is not None and self.round < 1:
            raise UsageError(f"{self.round} is below 1", where="--round")
        if not self.min_keep >= 0:
            raise UsageError(f"{self.min_keep} is not a share or a number of units", where="--min-keep")
        if self.recover not in get_args(Recover):
            raise UsageError(f"'{self.recover}' is not full, layers or none", where="--recover")

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
