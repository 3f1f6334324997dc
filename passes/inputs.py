"""Sizes for the dynamic dimensions of a graph's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from amcc.errors import ModelError
from amcc.ir import Dim, Graph, Shape, Value

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
