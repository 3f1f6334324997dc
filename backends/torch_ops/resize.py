"""Resize and Upsample: `F.interpolate` where it means the same, else weights a position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amcc.backends.torch_ops.names import quoted
from amcc.backends.torch_ops.writer import Table, Writer, call, number, spelled
from amcc.ir import Node

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_MODES = ("nearest", "linear", "cubic")
_CROP = "tf_crop_and_resize"
_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", _CROP)
_ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
# Enlarging by these, PyTorch finds the nearest index by the same rounding; elsewhere ties are a matter of chance.
_WHOLE = frozenset(map(float, range(1, 9)))


@dataclass(frozen=True)
class _Resize:
    """ONNX's attributes; scales or sizes, one an axis of the input, or else both None: they are computed."""

    mode: str
    coordinates: str
    rounding: str
    scales: list[float] | None
    sizes: list[int] | None = None


def _upsample(w: Writer, node: Node) -> str:
    """Upsample, and Resize before operator set 11: corners are not special, indices are rounded down."""
    given = node.attributes.get("scales")
    scales = [float(s) for s in given] if isinstance(given, tuple) else _floats(w, node, 1)
    how = _Resize(w.text(node, "mode", "nearest"), "asymmetric", "floor", scales)
    return _written(w, node, how, f"{w.tensor(node, 1)}.tolist()" if scales is None else "")


def _resize(w: Writer, node: Node) -> str:
    if w.graph.opset < 11:
        return _upsample(w, node)
    coordinates = w.text(node, "coordinate_transformation_mode", "half_pixel")
    rounding = w.text(node, "nearest_mode", "round_prefer_floor")
    if coordinates not in _COORDINATES or rounding not in _ROUNDING:
        raise w.unsupported(node, f"with {quoted(coordinates)} and {quoted(rounding)}")
    how = _Resize(w.text(node, "mode", "nearest"), coordinates, rounding, *_target(w, node))
    return _written(w, node, how, f"{w.tensor(node, 2)}.tolist()" if _is_computed(w, node, 2) else "")


def _target(w: Writer, node: Node) -> tuple[list[float] | None, list[int] | None]:
    """Scales or sizes for all axes, as far as they are known."""
    rank, out = w.rank(node), w.output_shape(node)
    scales = _floats(w, node, 2) if node.input(2) else None
    if scales:
        whole = [1.0] * rank
        axes = [a % rank for a in w.ints(node, "axes", 9) or range(rank)]
        for axis, scale in zip(axes, scales, strict=True):
            whole[axis] = scale
        return whole, None
    spatial = (out or ())[2:]
    if _is_computed(w, node, 2):
        return None, None
    if out is None or not all(isinstance(dim, int) for dim in spatial) or out[:2] != w.shape(node)[:2]:
        return None, None
    return None, [1, 1, *(int(dim) for dim in spatial)]


def _is_computed(w: Writer, node: Node, index: int) -> bool:
    """Whether scales are given, and only run time knows them."""
    return bool(node.input(index)) and w.constant(node, index) is None and w.shape(node, index) != (0,)


def _floats(w: Writer, node: Node, index: int) -> list[float] | None:
    array = w.constant(node, index)
    return None if array is None else [float(f) for f in array.reshape(-1)]


def _written(w: Writer, node: Node, how: _Resize, computed: str) -> str:
    """The call.

    Args:
        computed: the code of scales that only run time knows.
    """
    if how.mode not in _MODES:
        raise w.unsupported(node, f"in mode {quoted(how.mode)}")
    plain = None if _is_odd(w, node, how) else _interpolation(w, node, how)
    if plain is not None:
        return call("F.interpolate", w.tensor(node, 0), **_extent(how), **plain)
    rank, sizes, scales = w.rank(node), "None", computed or "None"
    axes: Sequence[int] = [a % rank for a in w.ints(node, "axes", 9) or range(rank)]
    policy, out = w.text(node, "keep_aspect_ratio_policy", "stretch"), w.output_shape(node)
    if how.scales is not None:
        axes = [axis for axis in axes if how.scales[axis] != 1 or how.coordinates == _CROP]
        scales = spelled([number(np.float32(how.scales[axis])) for axis in axes])
    elif not computed and policy == "stretch" and out is not None and all(isinstance(out[axis], int) for axis in axes):
        sizes = spelled([out[axis] for axis in axes])
    elif not computed:
        sizes = w.listed(node, "", 3) or "None"
    crop = how.coordinates == _CROP
    return call(
        w.helper("resize"),
        w.tensor(node, 0),
        quoted(how.mode),
        spelled(axes),
        sizes,
        scales,
        coordinates=quoted(how.coordinates),
        rounding=quoted(how.rounding),
        cubic=w.real(node, "cubic_coeff_a", -0.75),
        exclude=str(w.flag(node, "exclude_outside", 0)),
        antialias="True" if w.flag(node, "antialias", 0) else None,
        keep=None if policy == "stretch" else quoted(policy),
        roi=f"{w.tensor(node, 1)}.tolist()" if crop else None,
        outside=w.real(node, "extrapolation_value", 0.0) if crop else None,
    )


def _is_odd(w: Writer, node: Node, how: _Resize) -> bool:
    """Whether PyTorch's own call cannot do it: it knows spatial axes, sizes and corners alone."""
    kept = w.text(node, "keep_aspect_ratio_policy", "stretch") != "stretch" or w.flag(node, "antialias", 0)
    batch = how.scales is not None and how.scales[:2] != [1.0, 1.0]
    unknown = how.scales is None and how.sizes is None
    return bool(kept or batch or unknown or w.rank(node) not in (3, 4, 5) or how.coordinates == _CROP)


def _extent(how: _Resize) -> dict[str, str | None]:
    if how.sizes is not None:
        return {"size": spelled(how.sizes[2:])}
    factors = [number(s) for s in (how.scales or [])[2:]]
    return {"scale_factor": factors[0] if len(set(factors)) == 1 else spelled(factors)}


def _interpolation(w: Writer, node: Node, how: _Resize) -> dict[str, str | None] | None:
    """The arguments with which `F.interpolate` does the same; None if there are none."""
    rank, out = w.rank(node), (w.output_shape(node) or ())[2:]
    if w.flag(node, "exclude_outside", 0):
        return None
    if how.mode == "nearest":
        centred = how.coordinates in ("half_pixel", "pytorch_half_pixel") and how.rounding.startswith("round")
        lower = how.coordinates == "asymmetric" and how.rounding == "floor"
        return {"mode": '"nearest"'} if (lower or centred) and _factors(w, node, how) <= _WHOLE else None
    if how.mode == "cubic" and (rank != 4 or w.real(node, "cubic_coeff_a", -0.75) != "-0.75"):
        return None
    name = f'"{_LINEAR[rank] if how.mode == "linear" else "bicubic"}"'
    several = all(isinstance(dim, int) and dim > 1 for dim in out)
    if how.coordinates == "half_pixel" or (how.coordinates == "pytorch_half_pixel" and several):
        return {"mode": name, "align_corners": "False"}
    return {"mode": name, "align_corners": "True"} if how.coordinates == "align_corners" else None


def _factors(w: Writer, node: Node, how: _Resize) -> set[float]:
    """By how much the axes grow; 0 where that is unknown."""
    if how.scales is not None:
        return set(how.scales)
    spatial = w.shape(node)[2:]
    return {new / old if isinstance(old, int) else 0.0 for new, old in zip((how.sizes or [])[2:], spatial, strict=True)}


EMITTERS: Table = {"Resize": _resize, "Upsample": _upsample}
