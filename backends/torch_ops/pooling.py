"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

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
    window_, count = _window(w, node)
    x, ceil, dtype = w.tensor(node, 0), w.flag(node, "ceil_mode", 0), w.dtype(node)
    indices = len(node.outputs) > 1 and w.used(node.outputs[1])
    x = x if dtype[0] in "fb" else f"{x}.float()"
    if indices:
        window_ = _complete(w, node, window_) if ceil else window_
        sides = [spelled(s) for s in (window_.kernel, window_.strides, window_.dilations, window_.begin, window_.end)]
        columns = str(w.flag(node, "storage_order", 0))
        return w.several(node, call(w.helper("max_pool_indices"), f"F.max_pool{count}d", x, *sides, columns), 2)
    if not _fits(window_):
        window_ = _complete(w, node, window_) if ceil else window_
        x = padded(x, window_.begin, window_.end, 'float("-inf")')
        none = (0,) * count
        ceil, window_ = False, Window(window_.kernel, window_.strides, window_.dilations, none, none)
    code = _pool(f"F.max_pool{count}d", x, window_, {"ceil_mode": "True" if ceil else None})
    return code if dtype[0] in "fb" else f"{code}.to({w.torch_dtype(dtype)})"


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
    return _mean(w, x, whole, window_.end if include else None)


def _lp_pool(w: Writer, node: Node) -> str:
    window_, count = _window(w, node)
    p = w.integer(node, "p", 2)
    x, size = f"{w.tensor(node, 0)}.abs().pow({p})", prod(window_.kernel)
    if w.flag(node, "ceil_mode", 0) or max(window_.dilations) > 1:
        whole = _complete(w, node, window_) if w.flag(node, "ceil_mode", 0) else window_
        mean = _mean(w, x, whole, whole.end)
    else:
        bare = Window(window_.kernel, window_.strides, window_.dilations, (0,) * count, (0,) * count)
        mean = _pool(f"F.avg_pool{count}d", padded(x, window_.begin, window_.end), bare, {})
    return f"({mean} * {size}).pow({1 / p!r})"


def _mean(w: Writer, x: str, window_: Window, counted: Sequence[int] | None) -> str:
    """The mean over windows where PyTorch's own counts other paddings."""
    sides = (window_.kernel, window_.strides, window_.dilations, window_.begin, window_.end)
    return call(w.helper("average_pool"), x, *map(spelled, sides), "None" if counted is None else spelled(counted))


def _max_unpool(w: Writer, node: Node) -> str:
    window_, _ = _window(w, node)
    sizes = w.shape(node)[2:]
    if not all(isinstance(n, int) for n in sizes):
        raise w.unsupported(node, "over axes of unknown size")
    inferred = [
        (int(n) - 1) * s + k - b - e
        for n, s, k, b, e in zip(sizes, window_.strides, window_.kernel, window_.begin, window_.end, strict=True)
    ]
    shape = w.listed(node, "output_shape", 2) or "None"
    return call(w.helper("max_unpool"), w.tensor(node, 0), w.tensor(node, 1), spelled(inferred), shape)


def _col2im(w: Writer, node: Node) -> str:
    count = w.shape(node, 1)[0]
    if not isinstance(count, int):
        raise w.unsupported(node, "into an unknown number of axes")
    taken = window(w, node, (1,) * count)
    size, kernel = w.listed(node, "", 1) or "", w.listed(node, "", 2) or ""
    sides = [spelled(side) for side in (taken.strides, taken.dilations, taken.begin, taken.end)]
    return call(w.helper("col2im"), w.tensor(node, 0), size, kernel, *sides)


def _global(text: str) -> Emitter:
    def emit(w: Writer, node: Node) -> str:
        axes = spelled(range(2, w.rank(node)))
        return text.format(x=w.tensor(node, 0), axes=axes, p=w.integer(node, "p", 2))

    return emit


EMITTERS: Table = {
    "AveragePool": _average_pool,
    "Col2Im": _col2im,
    "GlobalAveragePool": _global("{x}.mean({axes}, keepdim=True)"),
    "GlobalLpPool": _global("{x}.abs().pow({p}).sum({axes}, keepdim=True).pow(1 / {p})"),
    "GlobalMaxPool": _global("{x}.amax({axes}, keepdim=True)"),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MaxUnpool": _max_unpool,
}
