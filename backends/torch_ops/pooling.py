"""Pooling and reductions."""

from __future__ import annotations

from collections.abc import Sequence

from amcc.backends.torch_ops.window import Window, padded, window
from amcc.backends.torch_ops.writer import Emitter, Table, Writer, call, compact, spelled
from amcc.ir import Node


def _window(w: Writer, node: Node) -> tuple[Window, int]:
    kernel = node.attributes.get("kernel_shape")
    count = w.rank(node) - 2
    if not isinstance(kernel, tuple) or count not in (1, 2, 3):
        raise w.unsupported(node, f"over {count} spatial axes")
    return window(w, node, kernel), count


def _complete(w: Writer, node: Node, window_: Window) -> Window:
    """Rounding up, spelled as padding: the last window that starts before the end's padding is filled."""
    end = list(window_.end)
    for i, size in enumerate(w.shape(node)[2:]):
        if not isinstance(size, int):
            raise w.unsupported(node, "with ceil_mode and uneven padding over an axis of unknown size")
        extent = window_.dilations[i] * (window_.kernel[i] - 1) + 1
        stride, inside = window_.strides[i], size + window_.begin[i]
        steps = max(-(-(inside + end[i] - extent) // stride), 0)
        if steps * stride >= inside:
            steps -= 1
        end[i] = max(end[i], steps * stride + extent - inside)
    return Window(window_.kernel, window_.strides, window_.dilations, window_.begin, tuple(end))


def _fits(window_: Window) -> bool:
    """Whether PyTorch's own padding does: symmetric, at most half the kernel."""
    return window_.symmetric and all(2 * b <= k for b, k in zip(window_.begin, window_.kernel, strict=True))


def _max_pool(w: Writer, node: Node) -> str:
    if len(node.outputs) > 1 and w.used(node.outputs[1]):
        raise w.unsupported(node, "with indices")
    window_, count = _window(w, node)
    x, ceil = w.tensor(node, 0), w.flag(node, "ceil_mode", 0)
    if not _fits(window_):
        window_ = _complete(w, node, window_) if ceil else window_
        lowest = 'float("-inf")' if w.dtype(node)[0] in "fb" else f"torch.iinfo({x}.dtype).min"
        x = padded(x, window_.begin, window_.end, lowest)
        ceil = False
    return _pool(f"F.max_pool{count}d", x, window_, {"ceil_mode": "True" if ceil else None})


def _pool(function: str, x: str, window_: Window, options: dict[str, str | None]) -> str:
    """A pooling call; PyTorch's stride is the kernel when it is not given."""
    given = window_.options()
    stride = None if window_.strides == window_.kernel else compact(window_.strides)
    return call(
        function, x, compact(window_.kernel), **{**given, "stride": stride, "padding": given["padding"]}, **options
    )


def _average_pool(w: Writer, node: Node) -> str:
    window_, count = _window(w, node)
    include = w.flag(node, "count_include_pad", 0)
    x, ceil = w.tensor(node, 0), w.flag(node, "ceil_mode", 0)
    plain = set(window_.dilations) <= {1}
    if plain and _fits(window_):
        counts = include or not any(window_.begin)
        options = {"ceil_mode": "True" if ceil else None, "count_include_pad": None if counts else "False"}
        return _pool(f"F.avg_pool{count}d", x, window_, options)
    if plain and include and not ceil:
        bare = Window(window_.kernel, window_.strides, window_.dilations, (0,) * count, (0,) * count)
        return _pool(f"F.avg_pool{count}d", padded(x, window_.begin, window_.end), bare, {})
    whole = _complete(w, node, window_) if ceil else window_
    return call(
        w.helper("average_pool"),
        x,
        spelled(window_.kernel),
        spelled(window_.strides),
        spelled(window_.dilations),
        *(spelled(side) for side in (whole.begin, whole.end)),
        spelled(window_.end) if include else "None",
    )


def _lp_pool(w: Writer, node: Node) -> str:
    window_, count = _window(w, node)
    if w.flag(node, "ceil_mode", 0) or set(window_.dilations) > {1}:
        raise w.unsupported(node, "with ceil_mode or dilations")
    p = w.integer(node, "p", 2)
    x = padded(f"{w.tensor(node, 0)}.abs().pow({p})", window_.begin, window_.end)
    bare = Window(window_.kernel, window_.strides, window_.dilations, (0,) * count, (0,) * count)
    size = 1
    for k in window_.kernel:
        size *= k
    return f"({_pool(f'F.avg_pool{count}d', x, bare, {})} * {size}).pow({1 / p!r})"


def _global(text: str) -> Emitter:
    def emit(w: Writer, node: Node) -> str:
        axes = spelled(range(2, w.rank(node)))
        return text.format(x=w.tensor(node, 0), axes=axes, p=w.integer(node, "p", 2))

    return emit


# `{over}` is the axes and keepdim.
REDUCE = {
    "ReduceL1": "{x}.abs().sum({over})",
    "ReduceL2": "{x}.square().sum({over}).sqrt()",
    "ReduceLogSum": "{x}.sum({over}).log()",
    "ReduceLogSumExp": "{x}.logsumexp({over})",
    "ReduceMax": "{x}.amax({over})",
    "ReduceMean": "{x}.mean({over})",
    "ReduceMin": "{x}.amin({over})",
    "ReduceSum": "{x}.sum({over})",
    "ReduceSumSquare": "{x}.square().sum({over})",
}


def _axes(w: Writer, node: Node) -> list[int] | None:
    """The axes of a reduction, ascending; None for all, [] for none."""
    axes = w.ints(node, "axes", 1)
    if not axes:
        return [] if w.flag(node, "noop_with_empty_axes", 0) else list(range(w.rank(node)))
    rank = w.rank(node)
    return sorted(axis % rank for axis in axes)


def _reduce(op: str) -> Emitter:
    def emit(w: Writer, node: Node) -> str:
        x, axes = w.tensor(node, 0), _axes(w, node)
        if not axes:
            return x
        dtype = w.dtype(node)
        if op == "ReduceMean" and dtype[0] in "ui":
            raise w.unsupported(node, "of integers")
        over = f"{axes[0] if len(axes) == 1 else spelled(axes)}"
        text = REDUCE[op].format(x=x, over=over + (", keepdim=True" if w.flag(node, "keepdims", 1) else ""))
        return f"{text}.to({x}.dtype)" if dtype[0] in "ui" and dtype != "int64" else text

    return emit


def _reduce_prod(w: Writer, node: Node) -> str:
    result = w.tensor(node, 0)
    keep = ", keepdim=True" if w.flag(node, "keepdims", 1) else ""
    for axis in reversed(_axes(w, node) or ()):
        result += f".prod({axis}{keep})"
    return result


def _arg(name: str) -> Emitter:
    """The first index among equals, or the last: the first from behind."""

    def emit(w: Writer, node: Node) -> str:
        x, axis = w.tensor(node, 0), w.integer(node, "axis", 0)
        keep = ", keepdim=True" if w.flag(node, "keepdims", 1) else ""
        if w.flag(node, "select_last_index", 0):
            return f"{x}.shape[{axis}] - 1 - {x}.flip({axis}).{name}({axis}{keep})"
        return f"{x}.{name}({axis}{keep})"

    return emit


def _softmax(function: str) -> Emitter:
    """Before operator set 13, over everything from the axis on."""

    def emit(w: Writer, node: Node) -> str:
        x, rank, old = w.tensor(node, 0), w.rank(node), w.graph.opset < 13
        axis = w.integer(node, "axis", 1 if old else -1)
        if old and axis % rank != rank - 1:
            return f"{function}({x}.flatten({axis}), -1).reshape({x}.shape)"
        return f"{function}({x}, {axis})"

    return emit


def _hardmax(w: Writer, node: Node) -> str:
    x = w.tensor(node, 0)
    if w.graph.opset < 13:
        axis = w.integer(node, "axis", 1)
        flat = f"{x}.flatten({axis})"
        return f"F.one_hot({flat}.argmax(-1), {flat}.shape[-1]).to({x}.dtype).reshape({x}.shape)"
    axis = w.integer(node, "axis", -1)
    return f"F.one_hot({x}.argmax({axis}), {x}.shape[{axis}]).to({x}.dtype).movedim(-1, {axis})"


def _lrn(w: Writer, node: Node) -> str:
    size = w.integer(node, "size", 1)
    alpha, beta, bias = w.real(node, "alpha", 1e-4), w.real(node, "beta", 0.75), w.real(node, "bias", 1.0)
    if not size % 2:  # implementations disagree on which side the longer half is
        raise w.unsupported(node, f"over an even number of channels ({size})")
    return f"F.local_response_norm({w.tensor(node, 0)}, {size}, {alpha}, {beta}, {bias})"


def _mean_variance(w: Writer, node: Node) -> str:
    given: Sequence[int] = w.ints(node, "axes", 1) or (0, 2, 3)
    x, axes = w.tensor(node, 0), spelled(given)
    centred = f"({x} - {x}.mean({axes}, keepdim=True))"
    return f"{centred} / ({x}.var({axes}, correction=0, keepdim=True).sqrt() + 1e-09)"


def _lp_norm(w: Writer, node: Node) -> str:
    x, axis, p = w.tensor(node, 0), w.integer(node, "axis", -1), w.integer(node, "p", 2)
    return f"F.normalize({x}, p={p}, dim={axis}, eps=1e-37)"


EMITTERS: Table = {
    **{op: _reduce(op) for op in REDUCE},
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("{x}.mean({axes}, keepdim=True)"),
    "GlobalLpPool": _global("{x}.abs().pow({p}).sum({axes}, keepdim=True).pow(1 / {p})"),
    "GlobalMaxPool": _global("{x}.amax({axes}, keepdim=True)"),
    "Hardmax": _hardmax,
    "LRN": _lrn,
    "LogSoftmax": _softmax("F.log_softmax"),
    "LpNormalization": _lp_norm,
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MeanVarianceNormalization": _mean_variance,
    "ReduceProd": _reduce_prod,
    "Softmax": _softmax("F.softmax"),
}
