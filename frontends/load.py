"""One door for every kind of model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.errors import ModelError, UsageError
from amcc.frontends.torch_files import PROGRAM, Stored, is_torch_file
from amcc.ir import Graph, Shape
from amcc.passes.inputs import BATCH, spell
from amcc.usercode import describe, is_named, named_function

if TYPE_CHECKING:
    from torch import nn

    from amcc.frontends.torch_call import Call


@dataclass(frozen=True)
class Origin:
    """The module that a graph was captured from, and the call that it was captured with.

    It stays in the process that captured it: workers, which need the graph alone, find None in its place.

    Attributes:
        free: dimensions beside the batch that are to stay free: for the number of an input, names by axis.
    """

    module: nn.Module
    call: Call
    free: Mapping[int, Mapping[int, str]] = field(default_factory=dict)

    def __reduce__(self) -> Any:
        return _nothing, ()


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Captured:
    """A network as a graph.

    Attributes:
        origin: where it came from; None for a file.
    """

    graph: Graph
    origin: Origin | None = None


def load(
    source: str | Path | nn.Module | Callable[[], Any] | Stored,
    *,
    example_inputs: Any = None,
    input_shapes: Mapping[str, Shape] | None = None,
    tidied: bool = True,
) -> Graph:
    """A model as a graph whose shapes are known and whose constants are folded.

    Args:
        source: an ONNX file; a `.pt2` file of `torch.export.save`; `"package.module:factory"`, a function of the user's
            that gives a torch module or a pair (module, example inputs); such a function; a torch module; or one of
            these with weights from a file.
        example_inputs: for torch modules: a tensor, the arguments of one call, its keyword arguments, or a `Call`.
        input_shapes: for files: sizes for dynamic dimensions; see `passes.inputs.bind_inputs`. For a module with
            example inputs: names for the dimensions that are to stay free, by the names of the graph's inputs; for one
            without: shapes of the inputs, by the names of forward's arguments.
        tidied: in the spelling that leaves most to cut; else in the source's.

    Raises:
        ModelError: what is wrong with the source, and what to do.
        UsageError: there is no such module or function, or importing it fails.
    """
    return captured(source, example_inputs=example_inputs, input_shapes=input_shapes, tidied=tidied).graph


def captured(
    source: str | Path | nn.Module | Callable[[], Any] | Stored,
    *,
    example_inputs: Any = None,
    input_shapes: Mapping[str, Shape] | None = None,
    tidied: bool = True,
) -> Captured:
    """`load`, with the module that the graph is of."""
    found = _captured(source, example_inputs, input_shapes)
    return replace(found, graph=_tidied(found.graph)) if tidied else found


def _captured(source: Any, example_inputs: Any, input_shapes: Mapping[str, Shape] | None) -> Captured:
    stored = source if isinstance(source, Stored) else Stored("")
    source = source.model if isinstance(source, Stored) else source
    if isinstance(source, str) and is_named(source) and not Path(source).exists():
        source = named_function(source, option="MODEL")
    if isinstance(source, str | Path):
        if stored.weights is not None:
            raise UsageError("a file has its weights already", where="--weights", hint="give module:factory for MODEL")
        if not is_torch_file(source):
            return Captured(_of_file(source, input_shapes))
        if Path(source).suffix == PROGRAM:
            from amcc.frontends.from_torch import from_exported
            from amcc.frontends.torch_files import read_program
            from amcc.passes.inputs import bind_inputs
            from amcc.passes.shapes import infer

            program = from_exported(read_program(Path(source), trust_pickle=stored.trust_pickle))
            return Captured(infer(bind_inputs(program, input_shapes or {})))
        from amcc.frontends.torch_files import read_module

        module = read_module(Path(source), trust_pickle=stored.trust_pickle)
    else:
        module, example_inputs = _made(source, example_inputs)
    if stored.weights is not None:
        from amcc.frontends.torch_files import load_state, read_state

        load_state(module, read_state(stored.weights, trust_pickle=stored.trust_pickle), stored.weights)
    return _of_module(module, example_inputs, input_shapes)


def _of_file(path: str | Path, input_shapes: Mapping[str, Shape] | None) -> Graph:
    from amcc.frontends.from_onnx import from_onnx
    from amcc.passes.shapes import infer

    return infer(from_onnx(path, input_shapes=input_shapes))


def _made(source: Any, example_inputs: Any) -> tuple[nn.Module, Any]:
    """The module, and the example inputs that came with it where none were given."""
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
            hint="give an ONNX file, a .pt2 file, a torch module, or package.module:factory that returns one",
        )
    return source, example_inputs


def _of_module(module: nn.Module, example_inputs: Any, input_shapes: Mapping[str, Shape] | None) -> Captured:
    from amcc.frontends.from_torch import from_torch
    from amcc.frontends.torch_call import Call

    if example_inputs is None and input_shapes:
        example_inputs, input_shapes = _shaped(module, input_shapes), None
    if example_inputs is None:
        raise ModelError(
            "a torch module needs example inputs",
            hint="pass example_inputs, let the factory return (module, example_inputs), or give --input-shape",
        )
    call = Call.of(example_inputs)
    graph = from_torch(module, call)
    return Captured(graph, Origin(module, call, _named_dims(graph, input_shapes or {})))


def _named_dims(graph: Graph, shapes: Mapping[str, Shape]) -> dict[int, dict[int, str]]:
    """The dimensions of inputs that have a name in place of their size: for an input's number, names by axis."""
    free: dict[int, dict[int, str]] = {}
    for name, given in shapes.items():
        where, own = "--input-shape", graph.shape(name) if name in graph.inputs else None
        if own is None:
            inputs = ", ".join(f"{n} {spell(graph.shape(n))}" for n in graph.inputs)
            raise ModelError(f"the model has no input '{name}'", where=where, hint=f"its inputs are {inputs}")
        fits = len(own) == len(given) and all(
            isinstance(new, str) or new == size or (axis, size) == (0, BATCH)
            for axis, (size, new) in enumerate(zip(own, given, strict=True))
        )
        if not fits:
            hint = "give names for dimensions that are to stay free; sizes are those of the example inputs"
            raise ModelError(f"input '{name}' is {spell(own)}, not {spell(given)}", where=where, hint=hint)
        pairs = enumerate(zip(own, given, strict=True))
        named = {axis: new for axis, (size, new) in pairs if isinstance(new, str) and size != BATCH}
        if named:
            free[graph.inputs.index(name)] = named
    return free


def _shaped(module: nn.Module, shapes: Mapping[str, Shape]) -> Call:
    """A call with zeros of these shapes for the arguments of these names."""
    import torch

    from amcc.frontends.torch_call import Call

    names = list(inspect.signature(module.forward).parameters)
    if unknown := [name for name in shapes if name not in names]:
        raise ModelError(
            f"forward of {type(module).__name__} has no argument '{unknown[0]}'",
            where="--input-shape",
            hint=f"its arguments are {', '.join(names)}",
        )
    kind = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    sizes = {name: [dim if isinstance(dim, int) else 2 for dim in shape] for name, shape in shapes.items()}
    return Call(**{name: torch.zeros(size, dtype=kind) for name, size in sizes.items()})


def _tidied(graph: Graph) -> Graph:
    """The same network in the spelling that leaves most to cut."""
    from amcc.passes.copies import own_constants
    from amcc.passes.in_order import gathers_in_order
    from amcc.passes.picks import picks_first
    from amcc.passes.shuffles import shuffles_as_gathers

    return own_constants(shuffles_as_gathers(picks_first(gathers_in_order(graph))))
