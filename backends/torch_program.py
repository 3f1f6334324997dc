"""A graph as a program that `torch.export` keeps: `.pt2`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.backends.torch_module import tensor, torch_module
from amcc.errors import ModelError, OutputError
from amcc.ir import Array, Graph
from amcc.passes.batching import batching

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def torch_program(graph: Graph, feeds: Mapping[str, Array]) -> ExportedProgram:
    """The graph as `torch.export` captures the written module; a free batch stays free where torch allows it.

    Args:
        feeds: inputs to capture it with, by name.

    Raises:
        ModelError: it cannot be written for PyTorch, or torch cannot capture what runs by its data.
    """
    import torch

    module, _ = torch_module(graph)
    given = tuple(tensor(feeds[name]) for name in graph.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = _free_batch(graph)
        try:
            return torch.export.export(module, given, dynamic_shapes=shapes)
        except Exception as error:  # torch's own have no common base
            failure = error
        if shapes is not None:
            try:
                return torch.export.export(module, given)
            except Exception as error:
                failure = error
    message = " ".join(str(failure).split())[:300]
    raise ModelError(f"torch.export cannot capture the written module: {message}", hint="model.py holds it all")


def write_program(graph: Graph, path: Path, feeds: Mapping[str, Array]) -> None:
    """Write `torch_program` to a `.pt2` file.

    Raises:
        ModelError: see `torch_program`.
        OutputError: the file cannot be written.
    """
    import torch

    program = torch_program(graph, feeds)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        torch.export.save(program, part)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"cannot write the program: {error.strerror or error}", where=str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def _free_batch(graph: Graph) -> tuple[Any, ...] | None:
    """What torch calls dynamic shapes; None where nothing is free."""
    from torch.export import Dim

    how, batch = batching(graph), Dim("batch")
    axes = [how.axis(name) if graph.shape(name) else None for name in graph.inputs]
    if how.size or how.stacked:
        return None
    shapes = [None if axis is None else {axis: batch} for axis in axes]
    return tuple(shapes) if any(shapes) else None
