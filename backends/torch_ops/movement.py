"""Operators that move, join and cut: nothing is computed."""

from __future__ import annotations

import numpy as np

from amcc.backends.torch_ops.names import quoted
from amcc.backends.torch_ops.window import padded
from amcc.backends.torch_ops.writer import Table, Writer, call, nested, number, spelled
from amcc.ir import Node, Shape

FAR = (1 << 31) - 1  # exporters write "to the end" as something beyond


def span(begin: int, end: int, step: int, dim: int | str) -> str:
    """A Python slice; bounds that say nothing are left out."""
    first = "" if begin == 0 else str(begin)
    last = "" if end >= (min(dim, FAR) if isinstance(dim, int) else FAR) else str(end)
    return f"{first}:{last}" + (f":{step}" if step != 1 else "")


def sizes(w: Writer, node: Node, index: int) -> str:
    """A tensor of sizes as a list."""
    array = w.constant(node, index)
    return nested(array.reshape(-1)) if array is not None else f"{w.tensor(node, index)}.tolist()"


def _concat(w: Writer, node: Node) -> str:
    parts = ", ".join(w.tensor(node, i) for i in range(len(node.inputs)))
    return f"torch.cat(({parts}{',' if len(node.inputs) == 1 else ''}), dim={w.integer(node, 'axis', 0)})"


def _split(w: Writer, node: Node) -> str:
    axis, count = w.integer(node, "axis", 0), len(node.outputs)
    w.current.several = count
    x = w.tensor(node, 0)
    if (parts := w.listed(node, "split", 1)) is not None:
        return f"{x}.split({parts}, dim={axis})"
    size = w.shape(node)[axis]
    if not isinstance(size, int):
        raise w.unsupported(node, "into equal parts of an axis of unknown size")
    part = -(-size // count)
    return f"{x}.split({nested(np.array([min(part, size - part * i) for i in range(count)]))}, dim={axis})"


def _slice(w: Writer, node: Node) -> str:
    x, rank = w.tensor(node, 0), w.rank(node)
    dynamic = "starts" not in node.attributes and any(name and name not in w.graph.params for name in node.inputs[1:])
    if dynamic:
        given = [f"{w.tensor(node, i)}.tolist()" if node.input(i) else "None" for i in (1, 2, 3, 4)]
        return call(w.helper("slice_axes"), x, *given)
    starts, ends = w.ints(node, "starts", 1) or [], w.ints(node, "ends", 2) or []
    axes = [a % rank for a in w.ints(node, "axes", 3) or range(len(starts))]
    steps = w.ints(node, "steps", 4) or [1] * len(starts)
    forward = {a: (b, e, s) for a, b, e, s in zip(axes, starts, ends, steps, strict=True) if s > 0}
    dims = w.shape(node)
    index = [span(*forward[axis], dims[axis]) if axis in forward else ":" for axis in range(rank)]
    while index and index[-1] == ":":
        index.pop()
    result = f"{x}[{', '.join(index)}]" if index else x
    for axis, begin, end, step in zip(axes, starts, ends, steps, strict=True):
        if step == -1 and begin in (-1, FAR) and end <= -FAR:
            result = f"{result}.flip({axis})"
        elif step < 0:
            result = f"{w.helper('take')}({result}, {axis}, {begin}, {end}, {step})"
    return result


def _pad(w: Writer, node: Node) -> str:
    mode = w.text(node, "mode", "constant")
    if any(node.input(i) and w.constant(node, i) is None for i in (1, 2, 3)):
        return _computed_pad(w, node, mode)
    pads, rank = w.ints(node, "pads", 1) or [], w.rank(node)
    axes = [a % rank for a in w.ints(node, "axes", 3) or range(rank)]
    sides = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    begin, end = ([sides.get(axis, (0, 0))[side] for axis in range(rank)] for side in (0, 1))
    x = w.tensor(node, 0)
    if mode == "constant":
        first = next((a for a in range(rank) if begin[a] or end[a]), rank)
        value = w.real(node, "value", 0.0) if "value" in node.attributes else _pad_value(w, node)
        return padded(x, begin[first:], end[first:], "" if value in ("0", "0.0", "-0.0", "False") else value)
    kind = _MODES.get(mode)
    if kind is None:
        raise w.unsupported(node, f"in mode {quoted(mode)}")
    if rank in (3, 4, 5) and min(*begin, *end) >= 0 and not any((*begin[:2], *end[:2])):
        pairs = [p for b, e in zip(begin[:1:-1], end[:1:-1], strict=True) for p in (b, e)]
        return f'F.pad({x}, {spelled(pairs)}, mode="{kind}")' if any(pairs) else x
    for axis in range(rank):
        if begin[axis] or end[axis]:
            x = f'{w.helper("pad_axis")}({x}, {axis}, {begin[axis]}, {end[axis]}, "{kind}")'
    return x


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _computed_pad(w: Writer, node: Node, mode: str) -> str:
    if mode not in _MODES:
        raise w.unsupported(node, f"in mode {quoted(mode)}")
    return call(
        w.helper("pad"),
        w.tensor(node, 0),
        w.tensor(node, 1),
        axes=w.optional(node, 3),
        mode=None if mode == "constant" else quoted(_MODES[mode]),
        value=w.size(node, 2, "float"),
    )


def _pad_value(w: Writer, node: Node) -> str:
    array = w.constant(node, 2)
    return "0" if array is None else number(array.reshape(-1)[0])


def _transpose(w: Writer, node: Node) -> str:
    perm = w.ints(node, "perm", 1) or list(reversed(range(w.rank(node))))
    return f"{w.tensor(node, 0)}.permute{spelled(perm)}" if perm else w.tensor(node, 0)


def _flatten(w: Writer, node: Node) -> str:
    x, rank = w.tensor(node, 0), w.rank(node)
    axis = w.integer(node, "axis", 1)
    axis = axis + rank if axis < 0 else axis
    if axis == 0:
        return f"{x}.reshape(1, -1)"
    if axis == rank:
        return f"{x}.reshape(-1, 1)"
    if axis == 1:
        return f"{x}.flatten(1)"
    return f"{x}.flatten({axis}).flatten(0, {axis - 1})"


def _reshape(w: Writer, node: Node) -> str:
    x, target = w.tensor(node, 0), w.constant(node, 1)
    dims = w.graph.values[node.inputs[0]].shape
    out = w.output_shape(node)
    parts: list[str] | None = None
    if target is not None:
        keep = not w.flag(node, "allowzero", 0)
        sizes = [int(i) for i in target.reshape(-1)]
        parts = [f"{x}.shape[{i}]" if size == 0 and keep else str(size) for i, size in enumerate(sizes)]
    elif out is not None:
        parts = _target(x, dims, out)
    if parts is None:
        return _computed_reshape(w, node)
    if len(parts) == 2 and parts[0] == f"{x}.shape[0]" and dims is not None and len(dims) > 1:
        return f"{x}.flatten(1)"
    return f"{x}.reshape({', '.join(parts)})" if parts else f"{x}.reshape(())"


def _computed_reshape(w: Writer, node: Node) -> str:
    x, shape = w.tensor(node, 0), w.tensor(node, 1)
    return f"{x}.reshape({shape}.tolist())" if w.flag(node, "allowzero", 0) else f"{w.helper('reshape')}({x}, {shape})"


def _target(x: str, dims: Shape | None, out: Shape) -> list[str] | None:
    """A shape with symbols as code; None if more than one of its sizes is unknown."""
    parts: list[str] = []
    for axis, dim in enumerate(out):
        if isinstance(dim, int):
            parts.append(str(dim))
        elif dims is not None and dim != "?" and dim in dims:
            near = axis if axis < len(dims) and dims[axis] == dim else dims.index(dim)
            parts.append(f"{x}.shape[{near}]")
        else:
            parts.append("-1")
    return parts if parts.count("-1") < 2 else None


def _squeeze(w: Writer, node: Node) -> str:
    x = w.tensor(node, 0)
    if node.input(1) and w.constant(node, 1) is None:
        return f"{x}.squeeze(tuple({w.tensor(node, 1)}.tolist()))"
    axes = w.ints(node, "axes", 1)
    if axes is None:
        return f"{x}.squeeze()"
    return f"{x}.squeeze({axes[0] if len(axes) == 1 else spelled(axes)})" if axes else x


def _unsqueeze(w: Writer, node: Node) -> str:
    if node.input(1) and w.constant(node, 1) is None:
        return f"{w.helper('unsqueeze')}({w.tensor(node, 0)}, {w.tensor(node, 1)}.tolist())"
    axes = w.ints(node, "axes", 1) or []
    rank = w.rank(node) + len(axes)
    return w.tensor(node, 0) + "".join(f".unsqueeze({axis})" for axis in sorted(a % rank for a in axes))


def _expand(w: Writer, node: Node) -> str:
    """Broadcasting both ways: a target of 1 keeps the size."""
    x, out = w.tensor(node, 0), w.output_shape(node)
    dims = w.graph.values[node.inputs[0]].shape
    if dims is not None and out is not None:
        missing = len(out) - len(dims)
        same = [axis >= missing and dims[axis - missing] == dim != "?" for axis, dim in enumerate(out)]
        if all(isinstance(dim, int) or kept for dim, kept in zip(out, same, strict=True)):
            parts = ["-1" if kept else str(dim) for dim, kept in zip(out, same, strict=True)]
            return f"{x}.expand({', '.join(parts)})" if parts else x
    return f"{x}.expand(torch.broadcast_shapes({x}.shape, tuple({sizes(w, node, 1)})))"


def _tile(w: Writer, node: Node) -> str:
    return f"{w.tensor(node, 0)}.repeat({sizes(w, node, 1)})"


def _depth_to_space(w: Writer, node: Node) -> str:
    block = w.integer(node, "blocksize", 1)
    if w.text(node, "mode", "DCR") == "CRD":
        return f"F.pixel_shuffle({w.tensor(node, 0)}, {block})"
    return f"{w.helper('depth_to_space')}({w.tensor(node, 0)}, {block})"


def _space_to_depth(w: Writer, node: Node) -> str:
    if w.text(node, "mode", "DCR") == "CRD":
        return f"F.pixel_unshuffle({w.tensor(node, 0)}, {w.integer(node, 'blocksize', 1)})"
    return f"{w.helper('space_to_depth')}({w.tensor(node, 0)}, {w.integer(node, 'blocksize', 1)})"


def _center_crop_pad(w: Writer, node: Node) -> str:
    axes = w.listed(node, "axes", 9) or f"range({w.rank(node)})"
    return call(w.helper("center_crop_pad"), w.tensor(node, 0), sizes(w, node, 1), axes)


def _reverse_sequence(w: Writer, node: Node) -> str:
    axes = [str(w.integer(node, name, default)) for name, default in (("batch_axis", 1), ("time_axis", 0))]
    return call(w.helper("reverse_sequence"), w.tensor(node, 0), w.tensor(node, 1), *axes)


def _eye_like(w: Writer, node: Node) -> str:
    dtype = w.asked_dtype(node, "dtype", w.dtype(node))
    return call(w.helper("eye_like"), w.tensor(node, 0), str(w.integer(node, "k", 0)), dtype)


EMITTERS: Table = {
    "CenterCropPad": _center_crop_pad,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "EyeLike": _eye_like,
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
