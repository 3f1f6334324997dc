"""A copy of the user's own module with the weights, and the widths in its attributes, of a shrunk graph.

Weights are found by their keys in the state dict. The layers of `torch.nn` spell their widths in attributes that
follow from their weights. Attributes of the user's own classes (`num_heads`, `head_dim`, `hidden`) are
matched by what they equal: the sizes that the graph has, in the nodes that the submodule makes, before and after.
Where one number stands for several sizes the attribute is left as a choice, to be settled by running the copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.backends.torch_notes import tied
from amcc.frontends.torch_parametrised import Computed, as_tensor, computed_tensors, duplicate
from amcc.ir import Array, Graph, Node

if TYPE_CHECKING:
    import torch
    from torch import nn

# Attributes that are no widths, whatever they equal.
_GEOMETRY = frozenset(
    "kernel_size stride padding dilation output_padding window_size patch_size img_size image_size grid_size "
    "shift_size num_layers depth num_classes scale_factor upscale_factor downscale_factor output_size "
    "padding_idx".split()
)
# Integers in a constant up to which it may spell a shape.
_SPELLED = 16
_SAME = 1e-6


@dataclass
class Choice:
    """An attribute that may have to change.

    Attributes:
        path: of the submodule `part`.
        values: what the attribute may be, the likeliest first; the old value is among them.
    """

    path: str
    part: nn.Module
    name: str
    values: tuple[Any, ...]

    def take(self, value: Any) -> None:
        """Set the attribute."""
        setattr(self.part, self.name, value)


@dataclass
class Cut:
    """A shrunk copy of a module.

    Attributes:
        choices: attributes that may need another value; each has its likeliest.
        notes: what became of weights that the module computes.
    """

    module: nn.Module
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def cut_module(module: nn.Module, before: Graph, after: Graph) -> Cut:
    """Copy a module and give the copy the weights and widths of a shrunk graph.

    Args:
        before: the capture of the module.
        after: the same without some units (`passes.rewrite.shrink`), with any weights.

    Raises:
        ModelError: the module cannot be copied.
    """
    cut = Cut(duplicate(module))
    _write_computed(cut, after)
    _write_weights(cut.module, after)
    for path, part in cut.module.named_modules():
        known = dict(_of_layer(part, path, before, after))
        for name, value in known.items():
            setattr(part, name, value)
        cut.choices += _choices(part, path, before, after, known)
    for choice in cut.choices:
        choice.take(choice.values[0])
    return cut


def _write_computed(cut: Cut, after: Graph) -> None:
    """Weights that the module computes: computed on where that gives the new ones, else in plain."""
    changed: list[Computed] = []
    for computed in list(computed_tensors(cut.module)):
        array = after.params.get(computed.key)
        old = getattr(computed.part, computed.name).detach()
        if array is not None and not _equal(old, array):
            computed.plain()
            setattr(computed.part, computed.name, _like(getattr(computed.part, computed.name), as_tensor(array)))
            changed.append(computed)
    for computed in changed:
        if not computed.keep(_close):
            cut.notes.append(f"{computed.key} is a plain parameter now: {computed.kind} cannot compute the new weights")


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    scale = float(b.abs().max()) if b.numel() else 0.0
    return bool(((a - b).abs() <= _SAME * max(scale, _SAME)).all())


def _equal(tensor: torch.Tensor, array: Array) -> bool:
    return tuple(tensor.shape) == array.shape and bool((tensor.detach().cpu() == as_tensor(array)).all())


def _write_weights(module: nn.Module, after: Graph) -> None:
    """Every parameter and buffer that the graph holds; those that are one tensor stay one."""
    names, others = _names(module), tied(after)
    made: dict[str, torch.Tensor] = {}
    for part in module.modules():
        for name, tensor in [*part._parameters.items(), *part._buffers.items()]:
            keys = (others.get(key, key) for key in names[id(tensor)]) if tensor is not None else ()
            key = next((key for key in keys if key in after.params), None)
            if tensor is None or key is None:
                continue
            if key not in made:
                array = after.params[key]
                made[key] = tensor if _equal(tensor, array) else _like(tensor, as_tensor(array))
            if made[key] is not tensor:
                setattr(part, name, made[key])


def _names(module: nn.Module) -> dict[int, list[str]]:
    """The keys of each tensor."""
    found: dict[int, list[str]] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        for name, tensor in [*part._parameters.items(), *part._buffers.items()]:
            if tensor is not None:
                found.setdefault(id(tensor), []).append(f"{path}.{name}" if path else name)
    return found


def _like(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    import torch

    new = new.to(old.device, old.dtype)
    return torch.nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, torch.nn.Parameter) else new


def _of_layer(part: nn.Module, path: str, before: Graph, after: Graph) -> Iterator[tuple[str, Any]]:
    """What the widths of a layer of `torch.nn`, or of a class derived from one, are now."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd

    weight = getattr(part, "weight", None)
    shape = tuple(weight.shape) if weight is not None and hasattr(weight, "shape") else ()
    if isinstance(part, nn.Linear):
        yield from zip(("out_features", "in_features"), shape, strict=True)
    elif isinstance(part, nn.Bilinear):
        yield from zip(("out_features", "in1_features", "in2_features"), shape, strict=True)
    elif isinstance(part, _ConvNd):
        reader = _reader(after, path)
        groups = int(str(reader.attributes.get("group", 1))) if reader is not None else part.groups
        ends = (shape[0], shape[1] * groups)
        yield "groups", groups
        yield from zip(("in_channels", "out_channels") if part.transposed else ("out_channels", "in_channels"), ends)  # noqa: B905
    elif isinstance(part, _NormBase):
        mean = part.running_mean
        yield (
            "num_features",
            shape[0] if shape else len(mean) if mean is not None else _turned(part.num_features, path, before, after),
        )
    elif isinstance(part, nn.LayerNorm | nn.RMSNorm):
        yield "normalized_shape", shape or tuple(_turned(n, path, before, after) for n in part.normalized_shape)
    elif isinstance(part, nn.GroupNorm):
        names = {n.name for n in before.nodes if n.source == path and "num_groups" in n.attributes}
        reader = next((n for n in after.nodes if n.name in names and "num_groups" in n.attributes), None)
        yield "num_channels", shape[0] if shape else _turned(part.num_channels, path, before, after)
        if reader is not None:
            yield "num_groups", int(str(reader.attributes["num_groups"]))
    elif isinstance(part, nn.PReLU):
        yield "num_parameters", shape[0]
    elif isinstance(part, nn.Embedding | nn.EmbeddingBag):
        yield from zip(("num_embeddings", "embedding_dim"), shape, strict=True)
    elif isinstance(part, nn.RNNBase | nn.RNNCellBase):
        yield from _of_recurrence(part)


def _of_recurrence(part: Any) -> Iterator[tuple[str, Any]]:
    cell = "" if hasattr(part, "weight_ih") else "_l0"
    given, state = getattr(part, f"weight_ih{cell}"), getattr(part, f"weight_hh{cell}")
    gates = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}.get(getattr(part, "mode", type(part).__name__), 1)
    yield "input_size", given.shape[1]
    yield "hidden_size", state.shape[0] // gates
    if getattr(part, "proj_size", 0):
        yield "proj_size", state.shape[1]


def _reader(graph: Graph, path: str) -> Node | None:
    """The node that reads a submodule's weight."""
    return next(iter(graph.consumers.get(f"{path}.weight" if path else "weight", ())), None)


def _turned(size: int, path: str, before: Graph, after: Graph) -> int:
    """What a size became in the nodes of a submodule."""
    found = _sizes(path, before, after).get(size)
    return found.most_common(1)[0][0] if found else size


def _choices(part: nn.Module, path: str, before: Graph, after: Graph, known: Mapping[str, Any]) -> Iterator[Choice]:
    """The integers among a submodule's attributes that equal a size of its nodes which changed."""
    from torch import nn

    if type(part).__module__.startswith("torch.nn.") and not isinstance(
        part, nn.MultiheadAttention | nn.Unflatten | nn.ChannelShuffle
    ):
        return
    passed_over = {*vars(nn.Module()), *known, *_GEOMETRY}
    own = _sizes(path, before, after)
    inner: Mapping[int, Counter[int]] | None = None
    for name, value in vars(part).items():
        if name in passed_over or not _is_sizes(value):
            continue
        numbers = (value,) if isinstance(value, int) else tuple(value)
        if not all(n in own for n in numbers if n > 1):
            inner = _sizes(path, before, after, inside=True) if inner is None else inner
        became = []
        for number in numbers:
            met = own.get(number) or (inner or {}).get(number) or Counter({number: 1})
            became.append(sorted(met, key=lambda new: (new == number, -met[new])))
        if all(new == [number] for new, number in zip(became, numbers, strict=True)):
            continue
        if isinstance(value, int):
            yield Choice(path, part, name, (*became[0], *(() if value in became[0] else (value,))))
        else:
            made = [new[0] for new in became]
            yield Choice(path, part, name, (type(value)(made), value))


def _is_sizes(value: object) -> bool:
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return bool(value) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value)
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _sizes(path: str, before: Graph, after: Graph, *, inside: bool = False) -> Mapping[int, Counter[int]]:
    """For every size of the nodes of a submodule what it became, and how often.

    Args:
        inside: of the nodes of its submodules too.
    """
    found: dict[int, Counter[int]] = {}
    shrunk = after.findings.setdefault("torch_class", {node.name: node for node in after.nodes})
    for node in before.nodes:
        if node.source != path and not (inside and (not path or node.source.startswith(f"{path}."))):
            continue
        new = shrunk.get(node.name)
        for old_size, size in () if new is None else _pairs(before, after, node, new):
            found.setdefault(old_size, Counter())[size] += 1
    return found


def _pairs(before: Graph, after: Graph, node: Node, new: Node) -> Iterator[tuple[int, int]]:
    """Sizes before and after: in the shapes of what a node reads and makes, and spelled in its constants."""
    for name in {*node.inputs, *node.outputs} - {""}:
        old_shape, shape = before.values[name].shape, after.values[name].shape if name in after.values else None
        if old_shape is not None and shape is not None and len(old_shape) == len(shape):
            yield from _both(old_shape, shape)
    for old_name, name in zip(node.inputs, new.inputs, strict=False):
        old, array = before.params.get(old_name), after.params.get(name)
        if old is None or array is None or old.dtype.kind != "i" or old.shape != array.shape or old.size > _SPELLED:
            continue
        yield from _both(np.abs(old).ravel().tolist(), np.abs(array).ravel().tolist())


def _both(old: Any, new: Any) -> Iterator[tuple[int, int]]:
    return ((a, b) for a, b in zip(old, new, strict=True) if isinstance(a, int) and isinstance(b, int) and a > 1)
