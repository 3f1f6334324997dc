"""One door for every kind of model."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.errors import ModelError
from amcc.ir import Graph, Shape

if TYPE_CHECKING:
    from torch import nn

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


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
        example_inputs: for torch modules: a tensor or a tuple of the arguments of one call.
        input_shapes: for ONNX files: sizes for dynamic dimensions; see `passes.inputs.bind_inputs`.

    Raises:
        ModelError: what is wrong with the source, and what to do.
    """
    if isinstance(source, str) and _REFERENCE.fullmatch(source) and not Path(source).exists():
        source = import_reference(source)
    if isinstance(source, str | Path):
        from amcc.frontends.from_onnx import from_onnx
        from amcc.passes.shapes import infer

        return infer(from_onnx(source, input_shapes=input_shapes))
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
            raise ModelError(f"raised {type(error).__name__}: {error}", where=f"factory {name}") from error
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

    return from_torch(source, example_inputs)


def import_reference(reference: str) -> Any:
    """The object that `"package.module:name"` names; the current folder is importable.

    Raises:
        ModelError: there is no such module or name, or importing it fails.
    """
    module_name, _, attribute = reference.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        hint = "is its folder the current one, or its package installed?" if isinstance(error, ImportError) else None
        raise ModelError(
            f"importing '{module_name}' raised {type(error).__name__}: {error}", where=reference, hint=hint
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ModelError(f"'{module_name}' has no '{attribute}'", where=reference)
        found = getattr(found, part)
    return found
