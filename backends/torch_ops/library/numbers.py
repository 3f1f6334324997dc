"""Arithmetic."""

import torch


def prod(x, axes, keepdim):
    """The product over several axes."""
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def cumulative(x, axis, product, exclusive, reverse):
    """Sums, or products, of all elements up to each along an axis; without itself if `exclusive`."""
    x = x.flip(axis) if reverse else x
    if exclusive:
        first = x.narrow(axis, 0, 1)
        first = torch.ones_like(first) if product else torch.zeros_like(first)
        x = torch.cat((first, x.narrow(axis, 0, x.shape[axis] - 1)), axis)
    y = (x.cumprod(axis) if product else x.cumsum(axis)).to(x.dtype)
    return y.flip(axis) if reverse else y


def with_limit(x, axes, limit):
    """One element more along each of some axes."""
    for axis in axes:
        shape = [1 if k == axis % x.ndim else size for k, size in enumerate(x.shape)]
        x = torch.cat((x, x.new_full(shape, limit)), axis)
    return x
