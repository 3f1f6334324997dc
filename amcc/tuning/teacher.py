"""What the original says of samples: ONNX Runtime on the CPU, PyTorch on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.data import Dataset
from amcc.ir import Array, Graph
from amcc.passes.batching import Batching
from amcc.tuning.targets import Target

if TYPE_CHECKING:
    from torch import Tensor


def part_of(how: Batching, inputs: Mapping[str, Tensor], part: slice, *, several: bool = False) -> dict[str, Tensor]:
    """Some of the samples as a run takes them; of samples that go alone, the first.

    Args:
        several: as they lie, not as a run takes them.
    """
    if how.stacked and not several:
        return {name: tensor[part.start] for name, tensor in inputs.items()}
    axes = {name: how.axis(name) for name in inputs}
    return {
        name: tensor if (axis := axes[name]) is None else tensor.narrow(axis, part.start, part.stop - part.start)
        for name, tensor in inputs.items()
    }


class Teacher:
    """Runs the original and gives its targets, of features the channels that the smaller network has.

    Args:
        threads: of ONNX Runtime, 0 for all cores.

    Raises:
        ModelError: it cannot be run.
    """

    def __init__(self, graph: Graph, targets: Sequence[Target], device: str = "cpu", threads: int = 0) -> None:
        self._targets, self._device = targets, device
        self._inputs = graph.inputs
        names = tuple(target.name for target in targets)
        if device == "cpu":
            from amcc.backends.runtime import Session

            self._session = Session(graph, outputs=names, threads=threads)
            return
        from amcc.backends.torch_module import torch_module

        self._module = torch_module(graph.replace(outputs=names).live())[0].to(device).requires_grad_(False)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The targets by name, float32."""
        import torch

        found: dict[str, Tensor]
        if self._device == "cpu":
            arrays = self._session.run({name: tensor.numpy() for name, tensor in inputs.items()})
            found = {target.name: torch.from_numpy(arrays[target.name]) for target in self._targets}
        else:
            with torch.no_grad():
                given = self._module(*(inputs[name].to(self._device) for name in self._inputs))
            results = given if isinstance(given, tuple) else (given,)
            found = dict(zip((target.name for target in self._targets), results, strict=True))
        for target in self._targets:
            for axis, indices in target.kept:
                found[target.name] = found[target.name].index_select(axis, torch.from_numpy(indices).to(self._device))
        return {name: tensor.float() for name, tensor in found.items()}


class Answers:
    """What the original says of all samples, asked once, for trainings that change no input.

    Attributes:
        found: the targets by name, `[samples, ...]`; empty where they were not asked for.
    """

    LARGEST = 1 << 30
    """Bytes that are held."""

    def __init__(self, found: Mapping[str, Tensor] | None = None) -> None:
        self.found = dict(found or {})

    @classmethod
    def to(cls, teacher: Teacher, data: Dataset, size: int) -> Answers:
        """Ask the original for all samples, in their order; for none where that takes too much memory.

        Args:
            size: samples of a run.
        """
        import torch

        how, count = data.batching, len(data)
        feeds = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in data.inputs.items()}
        parts: list[dict[str, Tensor]] = []
        for start in range(0, count, size):
            part = teacher(part_of(how, feeds, slice(start, min(start + size, count))))
            rows = min(size, count - start)
            if any(len(tensor) != rows for tensor in part.values()):
                return cls()
            if count * sum(t.numel() // rows * t.element_size() for t in part.values()) > cls.LARGEST:
                return cls()
            parts.append(part)
        return cls({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def of(self, chosen: Array) -> dict[str, Tensor]:
        """What it says of some samples."""
        import torch

        places = torch.from_numpy(chosen)
        return {name: tensor[places.to(tensor.device)] for name, tensor in self.found.items()}
