"""Operators with weights: convolutions, matrix products, normalisations. Layers where names allow."""

from __future__ import annotations

from collections.abc import Sequence

from amcc.backends.torch_ops.window import Window, padded, window
from amcc.backends.torch_ops.writer import Table, Writer, call, compact, spelled
from amcc.ir import Array, Node


def _dtype_option(w: Writer, array: Array) -> str | None:
    return None if array.dtype.name == "float32" else w.torch_dtype(array.dtype.name)


def _spatial(w: Writer, node: Node, *, of: int = 1) -> int:
    """How many spatial axes a convolution has: PyTorch knows 1, 2 and 3."""
    count = w.rank(node, of) - 2
    if count not in (1, 2, 3):
        raise w.unsupported(node, f"over {count} spatial axes")
    return count


def _kernel(w: Writer, node: Node) -> list[int]:
    given = node.attributes.get("kernel_shape")
    sizes = given if isinstance(given, tuple) else w.shape(node, 1)[2:]
    if not all(isinstance(k, int) for k in sizes):
        raise w.unsupported(node, "with a kernel of unknown size")
    return [int(k) for k in sizes]


def _weights(node: Node, names: Sequence[str], first: int = 1) -> list[str]:
    """Inputs and the layer's attributes for them, in turn; inputs left out are skipped."""
    pairs = [(node.input(first + i), name) for i, name in enumerate(names)]
    return [text for name, attribute in pairs if name for text in (name, attribute)]


def _operands(w: Writer, node: Node) -> list[str]:
    """Weight, and bias where there is one."""
    return [w.tensor(node, i) for i in (1, 2) if node.input(i)]


def _conv(w: Writer, node: Node) -> str:
    count = _spatial(w, node)
    window_ = window(w, node, _kernel(w, node))
    group = w.integer(node, "group", 1)
    x = w.tensor(node, 0)
    if not window_.symmetric:
        x = padded(x, window_.begin, window_.end)
    options = {**window_.options(), "groups": str(group) if group > 1 else None}
    weight = w.constant(node, 1)
    if weight is not None:
        code = call(
            f"nn.Conv{count}d",
            str(weight.shape[1] * group),
            str(weight.shape[0]),
            compact(window_.kernel),
            **options,
            bias=None if node.input(2) else "False",
            dtype=_dtype_option(w, weight),
        )
        if layer := w.layer(code, *_weights(node, ("weight", "bias"))):
            return f"{layer}({x})"
    return call(f"F.conv{count}d", x, *_operands(w, node), **options)


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
            dtype=_dtype_option(w, weight),
        )
        layer = w.layer(code, *_weights(node, ("weight", "bias")))
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
        dtype=_dtype_option(w, weight),
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


def _batch_norm(w: Writer, node: Node) -> str:
    if w.flag(node, "training_mode", 0) or not w.flag(node, "spatial", 1):
        raise w.unsupported(node, "in training mode, or with statistics for each position")
    if any(w.used(name) for name in node.outputs[1:]):
        raise w.unsupported(node, "with its statistics as outputs")
    x, scale = w.tensor(node, 0), w.constant(node, 1)
    eps = w.real(node, "epsilon", 1e-5)
    momentum = f"{1 - float(w.real(node, 'momentum', 0.9)):.7g}"
    rank = w.rank(node)
    bare = w.absent(node.input(1), 1) and w.absent(node.input(2), 0)
    if scale is not None and rank in (2, 3, 4, 5):
        code = call(
            f"nn.BatchNorm{max(rank - 2, 1)}d",
            str(scale.shape[0]),
            eps=None if eps == "1e-05" else eps,
            momentum=None if momentum == "0.1" else momentum,
            affine="False" if bare else None,
            dtype=_dtype_option(w, scale),
        )
        affine = [] if bare else _weights(node, ("weight", "bias"))
        if layer := w.layer(code, *affine, *_weights(node, ("running_mean", "running_var"), first=3)):
            return f"{layer}({x})"
    scale_, bias, mean, variance = (w.tensor(node, i) for i in (1, 2, 3, 4))
    return f"F.batch_norm({x}, {mean}, {variance}, {scale_}, {bias}, self.training, {momentum}, {eps})"


def _instance_norm(w: Writer, node: Node) -> str:
    x, scale, rank = w.tensor(node, 0), w.constant(node, 1), w.rank(node)
    eps = w.real(node, "epsilon", 1e-5)
    if all(dim == 1 for dim in w.shape(node)[2:]):  # nothing left but the bias; PyTorch refuses it
        shape = spelled((-1, *(1,) * (rank - 2)))
        return f"0.0 * {x} + {w.tensor(node, 2)}.reshape({shape})"
    if scale is not None and rank in (3, 4, 5):
        options = {"eps": None if eps == "1e-05" else eps, "affine": "True", "dtype": _dtype_option(w, scale)}
        code = call(f"nn.InstanceNorm{rank - 2}d", str(scale.shape[0]), **options)
        if layer := w.layer(code, *_weights(node, ("weight", "bias"))):
            return f"{layer}({x})"
    if w.absent(node.input(1), 1) and w.absent(node.input(2), 0):
        return call("F.instance_norm", x, eps=eps)
    return call("F.instance_norm", x, weight=w.tensor(node, 1), bias=w.tensor(node, 2), eps=eps)


def _group_norm(w: Writer, node: Node) -> str:
    """Scale and bias: one a channel since operator set 21, one a group before."""
    x, groups = w.tensor(node, 0), w.integer(node, "num_groups", 1)
    channels = w.shape(node)[1]
    if not isinstance(channels, int):
        raise w.unsupported(node, "over an unknown number of channels")
    eps = w.real(node, "epsilon", 1e-5)
    scale, bias = w.tensor(node, 1), w.tensor(node, 2)
    array = w.constant(node, 1)
    if w.graph.opset < 21 and groups != channels:
        scale, bias = (f"{t}.repeat_interleave({channels // groups})" for t in (scale, bias))
    elif array is not None:
        options = {"eps": None if eps == "1e-05" else eps, "dtype": _dtype_option(w, array)}
        code = call("nn.GroupNorm", str(groups), str(channels), **options)
        if layer := w.layer(code, *_weights(node, ("weight", "bias"))):
            return f"{layer}({x})"
    return f"F.group_norm({x}, {groups}, {scale}, {bias}, {eps})"


def _layer_norm(w: Writer, node: Node) -> str:
    if any(w.used(name) for name in node.outputs[1:]):
        raise w.unsupported(node, "with its statistics as outputs")
    x, eps = w.tensor(node, 0), w.real(node, "epsilon", 1e-5)
    axis = w.integer(node, "axis", -1) % w.rank(node)
    over = w.shape(node)[axis:]
    if not all(isinstance(dim, int) for dim in over):
        raise w.unsupported(node, "over an axis of unknown size")
    scale, affine = w.constant(node, 1), _weights(node, ("weight", "bias"))
    fits = all(w.graph.values[name].shape == over for name in affine[::2])
    if scale is not None and fits:
        options = {
            "eps": None if eps == "1e-05" else eps,
            "bias": None if node.input(2) else "False",
            "dtype": _dtype_option(w, scale),
        }
        code = call("nn.LayerNorm", str(over[0]) if len(over) == 1 else spelled(over), **options)
        if layer := w.layer(code, *affine):
            return f"{layer}({x})"
    if fits:
        weight = None if w.absent(node.input(1), 1) else w.tensor(node, 1)
        bias = None if w.absent(node.input(2), 0) else w.tensor(node, 2)
        return call("F.layer_norm", x, spelled(over), weight=weight, bias=bias, eps=eps)
    result = f"F.layer_norm({x}, {spelled(over)}, eps={eps}) * {w.tensor(node, 1)}"
    return f"{result} + {w.tensor(node, 2)}" if node.input(2) else result


def _rms_norm(w: Writer, node: Node) -> str:
    x, eps = w.tensor(node, 0), w.real(node, "epsilon", 1e-5)
    axes = spelled(range(w.integer(node, "axis", -1) % w.rank(node), w.rank(node)))
    return f"{x} * torch.rsqrt({x}.square().mean({axes}, keepdim=True) + {eps}) * {w.tensor(node, 1)}"


def _prelu(w: Writer, node: Node) -> str:
    """A slope a channel, when it is a vector reshaped to broadcast, is PyTorch's own PReLU."""
    x, made = w.tensor(node, 0), w.graph.producers.get(node.input(1))
    if made is not None and made.op in ("Reshape", "Unsqueeze"):
        slope, shape = w.graph.params.get(made.inputs[0]), w.graph.values[node.input(1)].shape
        if slope is not None and slope.ndim == 1 and shape == (slope.size, *(1,) * (w.rank(node) - 2)):
            code = call("nn.PReLU", str(slope.size), dtype=_dtype_option(w, slope))
            if layer := w.layer(code, made.inputs[0], "weight"):
                return f"{layer}({x})"
            return f"F.prelu({x}, {w.value(made.inputs[0])})"
    slope_ = w.operand(node, 1)
    return f"torch.where({x} < 0, {x} * {slope_}, {x})"


EMITTERS: Table = {
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "PRelu": _prelu,
    "RMSNormalization": _rms_norm,
}
