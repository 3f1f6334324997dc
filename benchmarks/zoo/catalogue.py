"""All entries by name, and how to build one."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from zoo.entry import Entry

if TYPE_CHECKING:
    import torch

SEED = 0


def _rank(entry: Entry) -> int:
    return entry.rank


@functools.cache
def catalogue() -> dict[str, Entry]:
    """Every entry by name, in the order of export: by rank, the sources taking turns."""
    from zoo import derived, detection, timm_models, torchvision_models, transformers_models, written

    sources = (torchvision_models, detection, timm_models, transformers_models, written, derived)
    turns: list[tuple[int, float, int, Entry]] = []
    for number, source in enumerate(sources):
        for rank, group in itertools.groupby(sorted(source.entries(), key=_rank), key=_rank):
            members = list(group)
            turns += [(rank, turn / len(members), number, entry) for turn, entry in enumerate(members)]
    found = [entry for *_, entry in sorted(turns, key=lambda turn: turn[:3])]
    names = [entry.name for entry in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return {entry.name: entry for entry in found}


def load(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The network in eval mode with its random weights, and example inputs.

    Raises:
        KeyError: No such entry.
        TypeError: The entry is an ONNX graph and has no module.
    """
    import torch

    from zoo import weights

    entry = catalogue()[name]
    if entry.build is None:
        raise TypeError(f"{name} is an ONNX graph")
    torch.manual_seed(SEED)
    module, inputs = entry.build()
    module.eval().requires_grad_(False)
    weights.randomise(module, inputs)
    return module, inputs
