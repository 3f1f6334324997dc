"""Sizes for the dynamic dimensions of a graph's inputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from amcc.errors import ModelError
from amcc.ir import Dim, Graph, Shape, Value, unused

BATCH = "batch"


def bind_inputs(graph: Graph, input_shapes: Mapping[str, Shape]) -> Graph:
    """Fix dynamic dimensions of inputs; only the batch may stay dynamic unasked.

    The batch is a leading dimension or, behind a leading number, one with "batch" in its name.

    A given int fixes the dimension, and every other that shares its symbol. A given text keeps it
    dynamic under that name. A leading 1 means "one sample": a dynamic leading dimension stays dynamic.
    A leading dimension without a name becomes `"batch"`.

    Raises:
        ModelError: a name that is no input, a shape that contradicts the file's, or a dynamic
            dimension that is still open.
    """
    if unknown := sorted(set(input_shapes) - set(graph.inputs)):
        raise ModelError(f"the model has no input '{unknown[0]}'", hint=f"its inputs are {', '.join(graph.inputs)}")
    bound: dict[str, Dim] = {}
    shapes: dict[str, Shape] = {}
    for name in graph.inputs:
        value = graph.values[name]
        if name in input_shapes:
            shapes[name] = _merged(value, input_shapes[name], bound)
        elif value.shape is not None:
            shapes[name] = tuple(BATCH if (axis, dim) == (0, "?") else dim for axis, dim in enumerate(value.shape))
    shapes = {name: tuple(_bind(dim, bound) for dim in shape) for name, shape in shapes.items()}
    for name in graph.inputs:
        _check_closed(graph.values[name], shapes.get(name), name in input_shapes)
    values = {
        name: Value(name, value.dtype, shapes.get(name, _rebind(value.shape, bound)))
        for name, value in graph.values.items()
    }
    return graph.replace(values=values)


def _bind(dim: Dim, bound: Mapping[str, Dim]) -> Dim:
    return bound.get(dim, dim) if isinstance(dim, str) else dim


def _rebind(shape: Shape | None, bound: Mapping[str, Dim]) -> Shape | None:
    return None if shape is None else tuple(_bind(dim, bound) for dim in shape)


def _merged(value: Value, given: Shape, bound: dict[str, Dim]) -> Shape:
    """The declared shape with what the user gave; records what symbols turned into."""
    declared: Shape = ("?",) * len(given) if value.shape is None else value.shape
    if len(declared) != len(given) or any(d != g for d, g in zip(declared, given, strict=True) if isinstance(d, int)):
        raise ModelError(f"input '{value.name}' has shape {spell(declared)}, which {spell(given)} contradicts")
    merged: list[Dim] = []
    for axis, (dim, new) in enumerate(zip(declared, given, strict=True)):
        if isinstance(new, int) and new < 1:
            raise ModelError(f"input '{value.name}': {spell(given)} has a dimension below 1")
        if isinstance(dim, int):
            merged.append(dim)
            continue
        if axis == 0 and new == 1:
            new = BATCH if dim == "?" else dim
        if dim != "?":
            if bound.get(dim, new) != new:
                raise ModelError(f"dimension '{dim}' cannot be both {bound[dim]} and {new}")
            bound[dim] = new
        merged.append(new)
    return tuple(merged)


def _check_closed(value: Value, shape: Shape | None, given: bool) -> None:
    if value.dtype in ("", "object") or value.dtype.endswith(")"):
        return
    if shape is not None and (given or not _open_behind(shape)):
        return
    if shape is None:
        raise ModelError(f"input '{value.name}' has no shape", hint=f"give --input-shape {value.name}=1x3x224x224")
    example = "x".join("1" if i == 0 else str(d) if isinstance(d, int) else "SIZE" for i, d in enumerate(shape))
    raise ModelError(
        f"input '{value.name}' has dynamic dimensions beside the batch: {spell(shape)}",
        hint=f"fix them with --input-shape {value.name}={example}, a number for every SIZE",
    )


def _open_behind(shape: Shape) -> list[Dim]:
    """Dynamic dimensions beside the batch."""
    behind: list[Dim] = [dim for dim in shape[1:] if not isinstance(dim, int)]
    batch = shape[:1] and isinstance(shape[0], int) and len(behind) == 1 and _named_batch(behind[0])
    return [] if batch else behind


def batch_symbols(shapes: Iterable[Shape]) -> frozenset[str]:
    """The dimensions of inputs that are the batch: those in front, else those with "batch" in their name."""
    shapes = list(shapes)
    leading = {shape[0] for shape in shapes if shape and isinstance(shape[0], str)}
    named = {dim for shape in shapes for dim in shape if isinstance(dim, str) and _named_batch(dim)}
    return frozenset(leading or named)


def _named_batch(dim: Dim) -> bool:
    return isinstance(dim, str) and BATCH in dim.lower()


def spell(shape: Shape) -> str:
    """A shape as people write it: `[batch, 3, 32, 32]`."""
    return f"[{', '.join(map(str, shape))}]"


def unbind_inputs(declared: Mapping[str, Shape | None], input_shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """What to give `bind_inputs` in place of `input_shapes` to keep the dimensions dynamic that its numbers fix.

    Each keeps its own symbol; one without is named after its input and axis.

    Args:
        declared: shapes of all inputs, as the file says them.

    Returns:
        A shape for every input that has one; nothing if the numbers fix no dimension.
    """
    known = {n: shape or ("?",) * len(input_shapes.get(n, ())) for n, shape in declared.items()}
    pairs = [(d, g) for n, given in input_shapes.items() for d, g in zip(known[n], given, strict=True)]
    renamed = {d: g for d, g in pairs if isinstance(d, str) and isinstance(g, str) and d != "?"}
    taken = {dim for shape in (*known.values(), *input_shapes.values()) for dim in map(str, shape)}
    free: dict[str, Shape] = {}
    fixes = False
    for name, shape in known.items():
        given = input_shapes.get(name, shape)
        dims: list[Dim] = []
        for axis, (dim, new) in enumerate(zip(shape, given, strict=True)):
            leading = axis == 0 and new in (1, "?")
            fixes |= isinstance(dim, str) and isinstance(new, int) and not leading
            if isinstance(dim, int):
                dims.append(dim)
            elif dim != "?":
                dims.append(renamed.get(dim, dim))
            elif leading:
                dims.append(1)
            elif new != "?" and isinstance(new, str):
                dims.append(new)
            else:
                own = unused(re.sub(r"\W", "_", f"{name}_{axis}"), taken)
                dims.append(own)
                taken.add(own)
        if shape or name in input_shapes:
            free[name] = tuple(dims)
    return free if fixes else {}
