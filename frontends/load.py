"""One door for every kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.errors import ModelError
from amcc.ir import Graph, Shape
from amcc.usercode import describe, is_named, named_function

if TYPE_CHECKING:
    from torch import nn


def load(
    source: str | Path | nn.Module | Callable[[], Any],
    *,
    example_inputs: Any = None,
    input_shapes: Mapping[str, Shape] | None = None,
) -> Graph:
    """A model as a graph whose shapes are known and whose constants are folded.

    Args:
        source: an ONNX file; `"package.module:factory"`, a function of the user's that gives a torch
            module or a pair (module, example inputs); such a function; or a torch module.
        example_inputs: for torch modules: a tensor, the arguments of one call, or its keyword arguments.
        input_shapes: for ONNX files: sizes for dynamic dimensions; see `passes.inputs.bind_inputs`.

    Raises:
        ModelError: what is wrong with the source, and what to do.
        UsageError: there is no such module or function, or importing it fails.
    """
    if isinstance(source, str) and is_named(source) and not Path(source).exists():
        source = named_function(source, option="MODEL")
    if isinstance(source, str | Path):
        from amcc.frontends.from_onnx import from_onnx
        from amcc.passes.shapes import infer

        return _tidied(infer(from_onnx(source, input_shapes=input_shapes)))
    if input_shapes:
        raise ModelError("--input-shape is for ONNX files", hint="shape the example inputs instead")
    return _from_torch(source, example_inputs)


def _from_torch(source: Any, example_inputs: Any) -> Graph:
    from torch import nn

    if not isinstance(source, nn.Module) and callable(source):
        name = getattr(source, "__qualname__", repr(source))
        try:
            made = source()
        except Exception as error:
            raise ModelError(f"factory {name} raised {describe(error)}", hint="run it alone to see where") from error
        if isinstance(made, tuple) and len(made) == 2:
            source, given = made
            example_inputs = given if example_inputs is None else example_inputs
        else:
            source = made
    if not isinstance(source, nn.Module):
        raise ModelError(
            f"cannot compile a {type(source).__name__}",
            hint="give an ONNX file, a torch module, or package.module:factory that returns one",
        )
    if example_inputs is None:
        raise ModelError(
            "a torch module needs example inputs",
            hint="pass example_inputs, or let the factory return (module, example_inputs)",
        )
    from amcc.frontends.from_torch import from_torch

    return _tidied(from_torch(source, example_inputs))


def _tidied(graph: Graph) -> Graph:
    """The same network in the spelling that leaves most to cut."""
    from amcc.passes.copies import own_constants
    from amcc.passes.in_order import gathers_in_order
    from amcc.passes.picks import picks_first
    from amcc.passes.shuffles import shuffles_as_gathers

    return own_constants(shuffles_as_gathers(picks_first(gathers_in_order(graph))))
