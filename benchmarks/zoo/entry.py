"""An entry of the zoo's catalogue: how to build a network and how to export it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import torch

BATCH = 2  # of the example inputs: torch.export takes a size of 1 for a constant


@dataclass(frozen=True)
class Entry:
    """A network of the zoo.

    Attributes:
        name: Unique; the stem of its files.
        source: Where it comes from: torchvision, timm, transformers, written, light, ort, qdq.
        family: The architecture family it stands for.
        build: Makes the module and its example inputs; for `graph` entries, None.
        graph: Makes the ONNX model itself, for entries that no exporter writes.
        needs: The exported file that `graph` reads, as the name of another entry; None for none.
        dynamic: Axis of each input that is the batch, in order (None: static); an empty tuple: all static.
        old: Export with the old exporter too.
        raw: Keep the graph as the new exporter wrote it, before its optimiser, too.
        failure: Why it cannot be exported, where it cannot.
        rank: Order of export: lower first.
    """

    name: str
    source: str
    family: str
    build: Callable[[], tuple[torch.nn.Module, tuple[torch.Tensor, ...]]] | None = None
    graph: Callable[[onnx.ModelProto | None], onnx.ModelProto] | None = None
    needs: str | None = None
    dynamic: tuple[int | None, ...] | None = None
    old: bool = False
    raw: bool = True
    failure: str | None = None
    rank: int = 1
