"""Batch normalisation over the whole batch of several processes, on any device.

PyTorch's own `SyncBatchNorm` needs GPUs. The mean and the mean square of each channel are averaged over the
processes, with gradients; their shares of the batch are equal.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def synced(module: nn.Module) -> nn.Module:
    """The module, its batch normalisations in place of their own forward given one over all processes."""
    import torch.distributed as dist
    from torch.nn.modules.batchnorm import _BatchNorm

    group = dist.new_group()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.forward = MethodType(_forward(type(part).forward, group), part)  # type: ignore[method-assign]
    return module


def _forward(plain: Any, group: Any) -> Any:
    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training:
            return plain(self, x)  # type: ignore[no-any-return]
        import torch
        import torch.distributed as dist
        from torch.distributed.nn.functional import all_reduce

        size = dist.get_world_size(group)
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        wide = x.float()
        moments = torch.stack([wide.mean(axes), wide.square().mean(axes)])
        moments = all_reduce(moments, group=group) / size  # type: ignore[no-untyped-call]
        mean, variance = moments[0], (moments[1] - moments[0].square()).clamp(min=0)
        if self.track_running_stats:
            count = size * x.numel() / x.shape[1]
            with torch.no_grad():
                pace = self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), pace)
                unbiased = variance * (count / max(count - 1, 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), pace)
                self.num_batches_tracked.add_(1)
        normed = (wide - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        result: Tensor = normed.to(x.dtype)
        return result

    return forward
