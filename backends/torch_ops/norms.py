"""Normalisations. Layers where names allow."""

from __future__ import annotations

from collections.abc import Sequence

from amcc.backends.torch_ops.layers import dtype_option, weights
from amcc.backends.torch_ops.writer import Table, Writer, call, spelled
from amcc.ir import Node


def _batch_norm(w: Writer, node: Node) -> str:
    if not w.flag(node, "spatial", 1):
        raise w.unsupported(node, "with statistics for each position")
    if w.flag(node, "training_mode", 0):
        given = [w.tensor(node, i) for i in range(5)]
        eps, momentum = w.real(node, "epsilon", 1e-5), w.real(node, "momentum", 0.9)
        return w.several(node, call(w.helper("batch_norm_training"), *given, momentum, eps), 3)
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
            dtype=dtype_option(w, scale),
        )
        affine = [] if bare else weights(node, ("weight", "bias"))
        if layer := w.layer(code, *affine, *weights(node, ("running_mean", "running_var"), first=3)):
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
        options = {"eps": None if eps == "1e-05" else eps, "affine": "True", "dtype": dtype_option(w, scale)}
        code = call(f"nn.InstanceNorm{rank - 2}d", str(scale.shape[0]), **options)
        if layer := w.layer(code, *weights(node, ("weight", "bias"))):
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
        options = {"eps": None if eps == "1e-05" else eps, "dtype": dtype_option(w, array)}
        code = call("nn.GroupNorm", str(groups), str(channels), **options)
        if layer := w.layer(code, *weights(node, ("weight", "bias"))):
            return f"{layer}({x})"
    return f"F.group_norm({x}, {groups}, {scale}, {bias}, {eps})"


def _layer_norm(w: Writer, node: Node) -> str:
    x, eps = w.tensor(node, 0), w.real(node, "epsilon", 1e-5)
    if any(w.used(name) for name in node.outputs[1:]):
        given = [x, w.tensor(node, 1), w.optional(node, 2) or "None", str(w.integer(node, "axis", -1)), eps]
        return w.several(node, call(w.helper("layer_norm"), *given), 3)
    axis = w.integer(node, "axis", -1) % w.rank(node)
    over = w.shape(node)[axis:]
    if not all(isinstance(dim, int) for dim in over):
        raise w.unsupported(node, "over an axis of unknown size")
    scale, affine = w.constant(node, 1), weights(node, ("weight", "bias"))
    fits = all(w.graph.values[name].shape == over for name in affine[::2])
    if scale is not None and fits:
        options = {
            "eps": None if eps == "1e-05" else eps,
            "bias": None if node.input(2) else "False",
            "dtype": dtype_option(w, scale),
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
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _lrn,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_norm,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_norm,
}
