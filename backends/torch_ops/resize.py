"""Resize and Upsample: `F.interpolate` where it means the same, else weights a position."""

from __future__ import annotations

from amcc.backends.torch_ops.names import quoted
from amcc.backends.torch_ops.writer import Table, Writer, call, number, spelled
from amcc.ir import Node

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
_ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _upsample(w: Writer, node: Node) -> str:
    """Upsample, and Resize before operator set 11: corners are not special, indices are rounded down."""
    given = node.attributes.get("scales")
    scales = [float(s) for s in given] if isinstance(given, tuple) else _floats(w, node, 1)
    if scales is None:
        raise w.unsupported(node, "with scales computed at run time")
    return _written(w, node, w.text(node, "mode", "nearest"), "asymmetric", "floor", scales, None)


def _resize(w: Writer, node: Node) -> str:
    if w.graph.opset < 11:
        return _upsample(w, node)
    coordinates = w.text(node, "coordinate_transformation_mode", "half_pixel")
    rounding = w.text(node, "nearest_mode", "round_prefer_floor")
    mode = w.text(node, "mode", "nearest")
    policy = w.text(node, "keep_aspect_ratio_policy", "stretch")
    if (
        coordinates not in _COORDINATES
        or rounding not in _ROUNDING
        or policy != "stretch"
        or w.flag(node, "antialias", 0)
    ):
        raise w.unsupported(node, "with antialias, a region of interest or a kept aspect ratio")
    return _written(w, node, mode, coordinates, rounding, *_target(w, node))


def _target(w: Writer, node: Node) -> tuple[list[float] | None, list[int] | None]:
    """Scales or sizes, one an axis of the input."""
    rank, out = w.rank(node), w.output_shape(node)
    axes = [a % rank for a in w.ints(node, "axes", 9) or range(rank)]
    scales = _floats(w, node, 2) if node.input(2) else None
    if scales:
        whole = [1.0] * rank
        for axis, scale in zip(axes, scales, strict=True):
            whole[axis] = scale
        return whole, None
    spatial = (out or ())[2:]
    if out is None or not all(isinstance(dim, int) for dim in spatial):
        raise w.unsupported(node, "to a size computed at run time")
    if out[:2] != w.shape(node)[:2]:
        raise w.unsupported(node, "over batch or channels")
    return None, [1, 1, *(int(dim) for dim in spatial)]


def _floats(w: Writer, node: Node, index: int) -> list[float] | None:
    array = w.constant(node, index)
    return None if array is None else [float(f) for f in array.reshape(-1)]


def _written(
    w: Writer,
    node: Node,
    mode: str,
    coordinates: str,
    rounding: str,
    scales: list[float] | None,
    sizes: list[int] | None,
) -> str:
    if mode not in ("nearest", "linear", "cubic"):
        raise w.unsupported(node, f"in mode {quoted(mode)}")
    rank = w.rank(node)
    if rank not in (3, 4, 5) or (scales is not None and scales[:2] != [1.0, 1.0]):
        raise w.unsupported(node, "over batch or channels")
    cubic, exclude = w.real(node, "cubic_coeff_a", -0.75), w.flag(node, "exclude_outside", 0)
    options: dict[str, str | None]
    if sizes is not None:
        options = {"size": spelled(sizes[2:])}
    else:
        factors = [number(s) for s in (scales or [])[2:]]
        options = {"scale_factor": factors[0] if len(set(factors)) == 1 else spelled(factors)}
    x = w.tensor(node, 0)
    plain = _interpolation(w, node, mode, coordinates, rounding, scales, exclude, cubic)
    if plain is not None:
        return call("F.interpolate", x, **options, **plain)
    named = {"coordinates": quoted(coordinates), "rounding": quoted(rounding), "cubic": cubic, "exclude": str(exclude)}
    return call(w.helper("resize"), x, quoted(mode), **options, **named)


def _interpolation(
    w: Writer,
    node: Node,
    mode: str,
    coordinates: str,
    rounding: str,
    scales: list[float] | None,
    exclude: bool,
    cubic: str,
) -> dict[str, str | None] | None:
    """The arguments with which `F.interpolate` does the same; None if there are none."""
    rank, out = w.rank(node), (w.output_shape(node) or ())[2:]
    if exclude:
        return None
    if mode == "nearest":
        whole = scales is not None and all(s.is_integer() for s in scales)
        centred = coordinates in ("half_pixel", "pytorch_half_pixel")
        if (coordinates == "asymmetric" and rounding == "floor") or (
            whole and centred and rounding.startswith("round")
        ):
            return {"mode": '"nearest"'}
        return {"mode": '"nearest-exact"'} if coordinates == "half_pixel" and rounding == "round_prefer_ceil" else None
    if mode == "cubic" and (rank != 4 or cubic != "-0.75"):
        return None
    name = f'"{_LINEAR[rank] if mode == "linear" else "bicubic"}"'
    if coordinates == "half_pixel" or (
        coordinates == "pytorch_half_pixel" and all(isinstance(d, int) and d > 1 for d in out)
    ):
        return {"mode": name, "align_corners": "False"}
    if coordinates == "align_corners":
        return {"mode": name, "align_corners": "True"}
    return None


EMITTERS: Table = {"Resize": _resize, "Upsample": _upsample}
