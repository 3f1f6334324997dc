"""Normalisations that give their statistics too."""

import torch
from torch.nn import functional as F


def batch_norm_training(x, scale, bias, mean, variance, momentum, eps):
    """BatchNorm by the batch's own statistics, and the running ones after it."""
    axes = [0, *range(2, x.ndim)]
    y = F.batch_norm(x, None, None, scale, bias, True, eps=eps)
    own = x.mean(axes), x.var(axes, correction=0)
    return y, *(old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), own))


def layer_norm(x, scale, bias, axis, eps):
    """LayerNorm from an axis on, the means, and one over the standard deviations."""
    axes = list(range(axis % x.ndim, x.ndim))
    mean = x.float().mean(axes, keepdim=True)
    deviation = torch.rsqrt(x.float().var(axes, correction=0, keepdim=True) + eps)
    y = ((x - mean) * deviation).to(x.dtype) * scale
    return y if bias is None else y + bias, mean, deviation
