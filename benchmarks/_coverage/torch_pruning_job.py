"""What Torch-Pruning makes of one module: graph build and group collection, half the channels, and its reach.

It gets what it cannot find out by itself: the layers that make the outputs, and in one of its two configurations the
head counts of every attention layer. The better of the two counts. Its success is that a forward pass runs and gives
outputs of the shapes they had; nothing compares values.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from _coverage.jobs import Reporter, memory

if TYPE_CHECKING:
    import torch

RATIO = 0.5
DEEPEST = (0.95, 0.9, 0.8, 0.65)
_LEAST = 0.99  # of the MACs: above it nothing was found
_ATTENTION = ("qkv", "q_proj", "k_proj", "v_proj", "query", "key", "value", "q", "k", "v", "to_q", "to_kv", "kv")
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads", "n_head")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads")

Module = Any
Inputs = tuple[Any, ...]


def run(name: str, report: Reporter) -> None:
    """Measure one network of the zoo."""
    report(stage="import")
    import torch

    torch.set_num_threads(1)
    try:
        import torch_pruning  # noqa: F401
        from zoo import load

        report(stage="load")
        model, inputs = load(name)
        model.requires_grad_(True)
        report(base=memory("VmRSS"), load_peak=memory(), macs=macs(model, inputs))
        _measure(name, model, inputs, report)
    except Exception as error:
        report.crashed(error)


def _measure(name: str, model: Module, inputs: Inputs, report: Reporter) -> None:
    import torch

    report(stage="analyse")
    two = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.Conv2d(4, 4, 1))
    _groups(two, (torch.ones(1, 4, 8, 8),), [])  # so that imports are not measured
    last = output_layers(model, inputs)
    begin = time.process_time()
    groups = _groups(model, inputs, last)
    report(analysis=round(time.process_time() - begin, 4), groups=len(groups), analysis_peak=memory())
    del groups
    best, reach, causes = 1.0, 1.0, []
    for heads in (False, True):
        report(stage=f"half the channels, head counts {'given' if heads else 'not given'}")
        try:
            left = _pruned(name, RATIO, heads=heads)
        except Exception as error:
            causes.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            continue
        best = min(best, left)
        report(status="ok" if best < _LEAST else "nothing", ratio=round(best, 6), reach=round(min(reach, best), 6))
        for ratio in DEEPEST:
            try:
                reach = min(reach, _pruned(name, ratio, heads=heads))
                report(reach=round(min(reach, best), 6))
                break
            except Exception:
                continue
        if not _head_counts(model):
            break
    if "status" not in report.found:
        report(status="broken", cause="; ".join(dict.fromkeys(causes)))


def _groups(model: Module, inputs: Inputs, ignored: list[Module]) -> list[Any]:
    """The dependency graph and every group of it."""
    import torch_pruning

    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=inputs)
    return list(graph.get_all_groups(ignored_layers=ignored))


def _pruned(name: str, ratio: float, *, heads: bool) -> float:
    """MACs left, as a share, with every group cut by this ratio; whatever is raised means failure."""
    import torch
    import torch_pruning
    from zoo import load

    cut, inputs = load(name)
    cut.requires_grad_(True)
    before, shapes = macs(cut, inputs), _shapes(cut, inputs)
    pruner = torch_pruning.pruner.MagnitudePruner(
        cut,
        inputs,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=output_layers(cut, inputs),
        num_heads=_head_counts(cut) if heads else {},
        in_channel_groups={},
        out_channel_groups={},
    )
    pruner.step()
    with torch.no_grad():
        if _shapes(cut, inputs) != shapes:
            raise ValueError("the outputs have other shapes than before")
    return macs(cut, inputs) / max(before, 1)


def macs(model: Module, inputs: Inputs) -> int:
    """MACs of convolutions and matrix products in one forward pass, products of activations included."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        flops = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if function._overloadpacket in flop_registry:
                self.flops += flop_registry[function._overloadpacket](*args, **(kwargs or {}), out_val=result)
            return result

    with torch.no_grad(), Counter() as counter:
        model(*inputs)
    return counter.flops // 2


def _shapes(model: Module, inputs: Inputs) -> list[tuple[int, ...]]:
    import torch

    with torch.no_grad():
        return [tuple(tensor.shape) for tensor in _tensors(model(*inputs))]


def _tensors(outputs: Any) -> list[torch.Tensor]:
    import torch
    from torch.utils import _pytree

    if hasattr(outputs, "to_tuple"):
        outputs = outputs.to_tuple()
    return [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def output_layers(model: Module, inputs: Inputs) -> list[Module]:
    """The layers with weights that are last before an output, found by following gradients back."""
    owners = {id(p): m for m in model.modules() for p in m.parameters(recurse=False) if p.ndim > 1}
    pending = [t.grad_fn for t in _tensors(model(*inputs)) if t.grad_fn is not None]
    seen, found = set(pending), dict[int, Module]()
    while pending:
        function = pending.pop()
        parents = [parent for parent, _ in function.next_functions if parent is not None]
        held = _weights(parents)
        made_by = [owners[id(weight)] for weight in held if id(weight) in owners]
        if made_by and any(word in type(function).__name__ for word in ("Convolution", "Addmm", "Mm", "Bmm")):
            found.update((id(layer), layer) for layer in made_by)
            continue
        fresh = [parent for parent in parents if parent not in seen]
        seen.update(fresh)
        pending += fresh
    return list(found.values())


def _weights(functions: list[Any]) -> list[Any]:
    """Parameters that reach an operator directly, or through a transposition or an expansion."""
    found = []
    for function in functions:
        for _ in range(3):
            if hasattr(function, "variable"):
                found.append(function.variable)
                break
            after = [parent for parent, _ in function.next_functions if parent is not None]
            if len(after) != 1:
                break
            function = after[0]
    return found


def _head_counts(model: Module) -> dict[Module, int]:
    """For every projection of an attention layer its number of heads, as the layer or its configuration says."""
    import torch

    found: dict[Module, int] = {}
    for layer in model.modules():
        heads = _stated(layer, _HEADS)
        if not heads:
            continue
        if isinstance(layer, torch.nn.MultiheadAttention):
            found[layer] = heads
        shared = _stated(layer, _KV_HEADS) or heads
        for name, child in layer.named_children():
            if isinstance(child, torch.nn.Linear | torch.nn.Conv2d) and name in _ATTENTION:
                found[child] = shared if name.startswith(("k", "v")) and name != "kv" else heads
    return found


def _stated(layer: Module, names: tuple[str, ...]) -> int:
    """A whole number that the layer, or its configuration, holds under one of these names."""
    for holder in (layer, getattr(layer, "config", None)):
        for name in names:
            if isinstance(value := getattr(holder, name, None), int) and value > 0:
                return value
    return 0
