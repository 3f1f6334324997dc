"""Random weights under which a wrong cut shows.

A fresh network hides faults: norms that do nothing, zero biases, layer scales of 1e-6 and zero heads make whole
branches vanish, and running statistics that do not fit let the signal die. `randomise` gives every parameter that
is constant a random value of a sensible size, and running statistics that roughly fit the inputs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SEED = 0


def randomise(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], seed: int = SEED) -> None:
    """Changes the weights in place; the module is left in eval mode.

    Norms: weight U(0.5, 1.5), bias N(0, 0.1), running variance U(0.5, 1.5) and running mean N(0, 0.1), both in
    units of the layer's input on `inputs`. Elsewhere constant parameters (`_replacement`) and small kernels (`_scaled`)
    change.
    """
    import torch

    module.eval()
    generator = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    with torch.no_grad():
        for name, child in module.named_modules():
            norm = "Norm" in type(child).__name__ or isinstance(getattr(child, "running_var", None), torch.Tensor)
            tensors = [*child.named_parameters(recurse=False)]
            if norm:
                tensors += [(n, b) for n, b in child.named_buffers(recurse=False) if n in ("weight", "bias")]
            for own, tensor in tensors:
                if id(tensor) in seen or not tensor.is_floating_point() or not tensor.numel():
                    continue
                seen.add(id(tensor))
                if norm and tensor.ndim == 1 and own in ("weight", "bias", "gain"):
                    low, high = (-0.17, 0.17) if own == "bias" else (0.5, 1.5)
                    _put(tensor, _uniform(tensor, low, high, generator))
                elif bool((tensor == tensor.flatten()[0]).all()):
                    _put(tensor, _replacement(f"{name}.{own}", tensor, generator))
                elif own == "weight" and tensor.ndim > 1:
                    _put(tensor, _scaled(tensor, "Transpose" in type(child).__name__))
        _statistics(module, inputs, generator)


def _put(tensor: torch.Tensor, value: torch.Tensor) -> None:
    tensor.data.copy_(value)


def _uniform(like: torch.Tensor, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    import torch

    return torch.rand(like.shape, generator=generator) * (high - low) + low


def _replacement(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """For a constant parameter: biases and tables N(0, 0.1), kernels N(0, 1/fan_in), gains around their constant."""
    import torch

    constant = float(tensor.flatten()[0])
    normal = torch.randn(tensor.shape, generator=generator)
    own = name.rsplit(".", 1)[-1]
    if constant == 0:
        if own.endswith("bias") or own in ("beta", "b"):
            return 0.1 * normal
        if own == "weight" and tensor.ndim > 1:
            return normal / math.sqrt(tensor[0].numel())
        if sum(size > 1 for size in tensor.shape) > 1 or "embed" in name or "token" in name:
            return 0.1 * normal
        return _uniform(tensor, 0.2, 0.6, generator)
    if abs(constant) < 0.1:
        return _uniform(tensor, 0.2, 0.6, generator)
    return constant * _uniform(tensor, 0.5, 1.5, generator)


def _scaled(kernel: torch.Tensor, transposed: bool) -> torch.Tensor:
    """A kernel with variance 1/fan_in where its own is so small that it would leave attention uniform."""
    fan_in = kernel.numel() / kernel.shape[1 if transposed else 0]
    gain = float(kernel.std()) * math.sqrt(fan_in)
    return kernel / gain if 0 < gain < 0.7 else kernel


def _statistics(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], generator: torch.Generator) -> None:
    """Running statistics near those of `inputs`, layer after layer in one forward pass."""
    import torch

    handles: list[Any] = []

    def fit(norm: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if id(norm) in fitted:
            return
        fitted.add(id(norm))
        mean, variance = norm.running_mean, norm.running_var
        scale = max(float(arguments[0].float().var()), 1e-6) if arguments[0].numel() > 1 else 1.0
        scale = scale if math.isfinite(scale) else 1.0
        _put(variance, scale * _uniform(variance, 0.5, 1.5, generator))
        _put(mean, 0.1 * math.sqrt(scale) * torch.randn(mean.shape, generator=generator))

    fitted: set[int] = set()
    for child in module.modules():
        if isinstance(getattr(child, "running_var", None), torch.Tensor):
            handles.append(child.register_forward_pre_hook(fit))
    if handles:
        module(*inputs)
    for handle in handles:
        handle.remove()
