"""Convolutions, matrix products and PReLU. Layers where names allow."""

from __future__ import annotations

from collections.abc import Sequence

from amcc.backends.torch_ops.window import Window, padded, window
from amcc.backends.torch_ops.writer import Table, Writer, call, compact
from amcc.ir import Array, Node


def dtype_option(w: Writer, array: Array) -> str | None:
    """A layer's element type where it is not PyTorch's default."""
    return None if array.dtype.name == "float32" else w.torch_dtype(array.dtype.name)


def _spatial(w: Writer, node: Node, *, of: int = 1) -> int:
    """How many spatial axes a convolution has: PyTorch knows 1, 2 and 3."""
    count = w.rank(node, of) - 2
    if count not in (1, 2, 3):
        raise w.unsupported(node, f"over {count} spatial axes")
    return count


def _kernel(w: Writer, node: Node, weight: int = 1) -> list[int]:
    given = node.attributes.get("kernel_shape")
    sizes = given if isinstance(given, tuple) else w.shape(node, weight)[2:]
    if not all(isinstance(k, int) for k in sizes):
        raise w.unsupported(node, "with a kernel of unknown size")
    return [int(k) for k in sizes]


def weights(node: Node, names: Sequence[str], first: int = 1) -> list[str]:
    """Inputs and the layer's attributes for them, in turn; inputs left out are skipped."""
    pairs = [(node.input(first + i), name) for i, name in enumerate(names)]
    return [text for name, attribute in pairs if name for text in (name, attribute)]


def _operands(w: Writer, node: Node) -> list[str]:
    """Weight, and bias where there is one."""
    return [w.tensor(node, i) for i in (1, 2) if node.input(i)]


def _conv(w: Writer, node: Node) -> str:
    weight, x = w.constant(node, 1), w.tensor(node, 0)
    if weight is not None:
        window_, options = _options(w, node, _spatial(w, node), 1)
        code = call(
            f"nn.Conv{len(window_.kernel)}d",
            str(weight.shape[1] * w.integer(node, "group", 1)),
            str(weight.shape[0]),
            compact(window_.kernel),
            **options,
            bias=None if node.input(2) else "False",
            dtype=dtype_option(w, weight),
        )
        if layer := w.layer(code, *weights(node, ("weight", "bias"))):
            return f"{layer}({_uneven(x, window_)})"
    return convolution(w, node, x, _operands(w, node))


def convolution(w: Writer, node: Node, x: str, operands: Sequence[str], *, weight: int = 1) -> str:
    """The call for a convolution.

    Args:
        operands: code of the weight and of the bias, if there is one.
        weight: which input of the node is the weight.
    """
    window_, options = _options(w, node, _spatial(w, node, of=weight), weight)
    return call(f"F.conv{len(window_.kernel)}d", _uneven(x, window_), *operands, **options)


def _options(w: Writer, node: Node, count: int, weight: int) -> tuple[Window, dict[str, str | None]]:
    window_ = window(w, node, _kernel(w, node, weight)[:count])
    group = w.integer(node, "group", 1)
    return window_, {**window_.options(), "groups": str(group) if group > 1 else None}


def _uneven(x: str, window_: Window) -> str:
    """The input, padded where the layer cannot do so itself."""
    return x if window_.symmetric else padded(x, window_.begin, window_.end)


def _conv_transpose(w: Writer, node: Node) -> str:
    """Asymmetric paddings crop what PyTorch's symmetric padding leaves."""
    count = _spatial(w, node)
    kernel = _kernel(w, node)
    group = w.integer(node, "group", 1)
    given = node.attributes.get("output_padding")
    extra = tuple(int(i) for i in given) if isinstance(given, tuple) else (0,) * count
    window_ = _transposed_window(w, node, kernel, extra)
    padding = tuple(max(min(b, e), 0) for b, e in zip(window_.begin, window_.end, strict=True))
    if any(e >= max(s, d) for e, s, d in zip(extra, window_.strides, window_.dilations, strict=True)):
        raise w.unsupported(node, f"with output_padding {list(extra)}, not below its strides and dilations")
    options = {
        **Window(window_.kernel, window_.strides, window_.dilations, padding, padding).options(),
        "output_padding": compact(extra) if any(extra) else None,
        "groups": str(group) if group > 1 else None,
    }
    x, weight = w.tensor(node, 0), w.constant(node, 1)
    result = None
    if weight is not None:
        code = call(
            f"nn.ConvTranspose{count}d",
            str(weight.shape[0]),
            str(weight.shape[1] * group),
            compact(kernel),
            **options,
            bias=None if node.input(2) else "False",
            dtype=dtype_option(w, weight),
        )
        layer = w.layer(code, *weights(node, ("weight", "bias")))
        result = f"{layer}({x})" if layer else None
    if result is None:
        result = call(f"F.conv_transpose{count}d", x, *_operands(w, node), **options)
    begin = [p - b for p, b in zip(padding, window_.begin, strict=True)]
    end = [p - e for p, e in zip(padding, window_.end, strict=True)]
    return padded(result, begin, end)


def _transposed_window(w: Writer, node: Node, kernel: Sequence[int], extra: Sequence[int]) -> Window:
    """ONNX ConvTranspose: an asked output shape or automatic padding decides the paddings."""
    plain = window(w, node, kernel, fixed=(0,) * (2 * len(kernel)))
    mode = w.text(node, "auto_pad", "NOTSET")
    target = node.attributes.get("output_shape")
    if not isinstance(target, tuple) and not mode.startswith("SAME"):
        return window(w, node, kernel)
    sizes = w.shape(node)[2:]
    if not all(isinstance(n, int) for n in sizes):
        raise w.unsupported(node, "with a given output shape over axes of unknown size")
    begin, end = [], []
    for i, size in enumerate(int(n) for n in sizes):
        stride = plain.strides[i]
        asked = int(target[i - len(kernel)]) if isinstance(target, tuple) else size * stride
        total = stride * (size - 1) + extra[i] + (kernel[i] - 1) * plain.dilations[i] + 1 - asked
        less, more = total // 2, total - total // 2
        begin.append(less if mode == "SAME_UPPER" else more)
        end.append(more if mode == "SAME_UPPER" else less)
    return Window(plain.kernel, plain.strides, plain.dilations, tuple(begin), tuple(end))


def _gemm(w: Writer, node: Node) -> str:
    a, b = w.tensor(node, 0), node.input(1)
    alpha, beta = w.real(node, "alpha", 1.0), w.real(node, "beta", 1.0)
    flipped_a, flipped_b = w.flag(node, "transA", 0), w.flag(node, "transB", 0)
    bias = node.input(2)
    linear = flipped_b and alpha == "1.0" and (beta == "1.0" or not bias)
    linear = linear and (not bias or w.graph.shape(bias) == w.graph.shape(b)[:1])
    if flipped_a:
        a = f"{a}.T"
    if linear:
        weight = w.constant(node, 1)
        if weight is not None and (layer := _linear(w, weight, b, bias)):
            return f"{layer}({a})"
        return call("F.linear", a, *_operands(w, node))
    product = f"{a} @ {w.tensor(node, 1)}{'.T' if flipped_b else ''}"
    if alpha != "1.0":
        product = f"{alpha} * ({product})"
    if not bias or float(beta) == 0:
        return product
    added = w.operand(node, 2)
    return f"{product} + {added if beta == '1.0' else f'{beta} * {added}'}"


def _linear(w: Writer, weight: Array, name: str, bias: str) -> str | None:
    code = call(
        "nn.Linear",
        str(weight.shape[1]),
        str(weight.shape[0]),
        bias=None if bias else "False",
        dtype=dtype_option(w, weight),
    )
    return w.layer(code, name, "weight", *((bias, "bias") if bias else ()))


def _matmul(w: Writer, node: Node) -> str:
    """With a transposed weight, the layer that PyTorch spells so; its bias is the Add that follows."""
    x, made = w.tensor(node, 0), w.graph.producers.get(node.input(1))
    weight = w.graph.params.get(made.inputs[0]) if made is not None and made.op == "Transpose" else None
    if made is None or weight is None or weight.ndim != 2 or w.rank(node) < 2:
        return f"{x} @ {w.tensor(node, 1)}"
    name, (add, bias) = made.inputs[0], _following_bias(w, node, weight.shape[0])
    if bias and (layer := _linear(w, weight, name, bias)):
        w.absorbed[add] = node.outputs[0]
        return f"{layer}({x})"
    if layer := _linear(w, weight, name, ""):
        return f"{layer}({x})"
    return f"F.linear({x}, {w.value(name)})"


def _following_bias(w: Writer, node: Node, size: int) -> tuple[str, str]:
    """The output and the bias of the Add that alone reads the node; empty names if there is none."""
    readers = w.graph.consumers.get(node.outputs[0], ())
    if len(readers) == 1 and readers[0].op == "Add" and node.outputs[0] not in w.graph.outputs:
        for name in readers[0].inputs:
            if name in w.graph.params and w.graph.params[name].shape == (size,):
                return readers[0].outputs[0], name
    return "", ""


def _prelu(w: Writer, node: Node) -> str:
    """A slope a channel, when it is a vector reshaped to broadcast, is PyTorch's own PReLU."""
    x, made = w.tensor(node, 0), w.graph.producers.get(node.input(1))
    if made is not None and made.op in ("Reshape", "Unsqueeze"):
        slope, shape = w.graph.params.get(made.inputs[0]), w.graph.values[node.input(1)].shape
        if slope is not None and slope.ndim == 1 and shape == (slope.size, *(1,) * (w.rank(node) - 2)):
            code = call("nn.PReLU", str(slope.size), dtype=dtype_option(w, slope))
            if layer := w.layer(code, made.inputs[0], "weight"):
                return f"{layer}({x})"
            return f"F.prelu({x}, {w.value(made.inputs[0])})"
    given, shape = w.graph.values[node.input(1)].shape, w.shape(node)
    if given is not None and len(given) == 1 and given[0] != 1 and given == shape[1:2] and given != shape[-1:]:
        return f"F.prelu({x}, {w.tensor(node, 1)})"  # as operator sets before 7 had it
    slope_ = w.operand(node, 1)
    return f"torch.where({x} < 0, {x} * {slope_}, {x})"


EMITTERS: Table = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "PRelu": _prelu,
}
