"""The processes that train together: one, or those that `torchrun` started.

Each has its share of every batch. Gradients are averaged by PyTorch's `DistributedDataParallel`, and batch
normalisation takes its statistics over the whole batch, so that a training does not depend on their number
beyond rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amcc.errors import UsageError, WorkerError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """One of the processes that train together.

    Attributes:
        rank: its number, from 0; the first one alone evaluates and writes.
        size: how many there are.
        device: what it computes on.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether it is the one that evaluates and writes."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Its part of a batch."""
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, numbers: Tensor) -> Tensor:
        """The mean over processes, of one tensor on the CPU."""
        if self.size == 1:
            return numbers
        import torch.distributed as dist

        there = numbers.to(self.device)
        dist.all_reduce(there)
        return (there / self.size).cpu()

    def told(self, value: Any) -> Any:
        """What the first process has, in all: numbers, text, bytes."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value if self.first else None]
        dist.broadcast_object_list(box, src=0, device=_torch_device(self.device))
        return box[0]


def launched() -> bool:
    """Whether `torchrun`, or something like it, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def rank() -> int:
    """The number of this process among those that were started together."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


@contextmanager
def joined(device: str) -> Iterator[World]:
    """This process among those that train together.

    Raises:
        UsageError: there is no such device.
        WorkerError: the processes do not find each other.
    """
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("PyTorch finds no GPU here", where="--device", hint="use --device cpu")
    if not launched():
        yield World(device=device)
        return
    import torch.distributed as dist

    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    except (RuntimeError, ValueError) as error:
        raise WorkerError(f"the processes do not find each other: {error}") from None
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def spread(module: nn.Module, world: World, *, unused: bool) -> nn.Module:
    """The module whose gradients are averaged over processes, its statistics taken over all of them.

    Args:
        unused: whether the loss may leave parameters out.
    """
    if world.size == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    from amcc.tuning.synced import synced

    return DistributedDataParallel(synced(module), broadcast_buffers=False, find_unused_parameters=unused)


def _torch_device(device: str) -> Any:
    import torch

    return torch.device(device)
