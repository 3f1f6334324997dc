"""Operators that read between elements: grids, regions, moved kernels; and boxes."""

from __future__ import annotations

from amcc.backends.torch_ops.movement import sizes
from amcc.backends.torch_ops.names import quoted
from amcc.backends.torch_ops.window import window
from amcc.backends.torch_ops.writer import Table, Writer, call, spelled
from amcc.ir import Node

_GRID = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic", "cubic": "bicubic"}


def _affine_grid(w: Writer, node: Node) -> str:
    corners = str(w.flag(node, "align_corners", 0))
    return f"F.affine_grid({w.tensor(node, 0)}, {sizes(w, node, 1)}, align_corners={corners})"


def _grid_sample(w: Writer, node: Node) -> str:
    mode, padding = _GRID.get(w.text(node, "mode", "linear")), w.text(node, "padding_mode", "zeros")
    if mode is None or w.rank(node) not in (4, 5) or (mode == "bicubic" and w.rank(node) == 5):
        raise w.unsupported(node, f"in mode {quoted(w.text(node, 'mode', ''))} over {w.rank(node) - 2} axes")
    return call(
        "F.grid_sample",
        w.tensor(node, 0),
        w.tensor(node, 1),
        mode=None if mode == "bilinear" else quoted(mode),
        padding_mode=None if padding == "zeros" else quoted(padding),
        align_corners=str(w.flag(node, "align_corners", 0)),
    )


def _roi_align(w: Writer, node: Node) -> str:
    size = (w.integer(node, "output_height", 1), w.integer(node, "output_width", 1))
    usual = "half_pixel" if w.graph.opset >= 16 else "output_half_pixel"
    centred = w.text(node, "coordinate_transformation_mode", usual) == "half_pixel"
    return call(
        w.helper("roi_align"),
        *(w.tensor(node, i) for i in range(3)),
        spelled(size),
        str(w.integer(node, "sampling_ratio", 0)),
        w.real(node, "spatial_scale", 1.0),
        quoted(w.text(node, "mode", "avg")),
        str(centred),
    )


def _deform_conv(w: Writer, node: Node) -> str:
    shape = w.shape(node, 1)
    if len(shape) != 4 or not all(isinstance(k, int) for k in shape):
        raise w.unsupported(node, f"over {len(shape) - 2} spatial axes")
    taken = window(w, node, [int(k) for k in shape[2:]])
    return call(
        w.helper("deform_conv"),
        *(w.tensor(node, i) for i in range(3)),
        *(w.optional(node, i) or "None" for i in (3, 4)),
        *(spelled(each) for each in (taken.strides, taken.dilations, taken.begin)),
        *(str(w.integer(node, name, 1)) for name in ("group", "offset_group")),
    )


def _non_max_suppression(w: Writer, node: Node) -> str:
    return call(
        w.helper("non_max_suppression"),
        w.tensor(node, 0),
        w.tensor(node, 1),
        w.size(node, 2) or "0",
        w.size(node, 3, "float") or "0.0",
        w.size(node, 4, "float") or "None",
        str(w.flag(node, "center_point_box", 0)),
    )


EMITTERS: Table = {
    "AffineGrid": _affine_grid,
    "DeformConv": _deform_conv,
    "GridSample": _grid_sample,
    "NonMaxSuppression": _non_max_suppression,
    "RoiAlign": _roi_align,
}
