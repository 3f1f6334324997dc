"""Sliding windows."""

import torch
from torch.nn import functional as F


def average_pool(x, kernel, strides, dilations, begin, end, counted):
    """The mean over windows of a padded tensor.

    Padding counts where it lies within `counted` (behind the end) or before the start; with None it
    never counts.
    """
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]

    def pad(tensor, before, after, value=0.0):
        return F.pad(tensor, [p for pair in zip(before[::-1], after[::-1]) for p in pair], value=value)

    def total(tensor):
        return convolve(tensor, x.new_ones(1, 1, *kernel), stride=strides, dilation=dilations)

    count = x.new_ones(1, 1, *x.shape[2:])
    none = (0,) * len(kernel)
    if counted is None:
        count = pad(count, begin, end)
    else:
        count = pad(pad(count, begin, counted, 1.0), none, tuple(e - c for e, c in zip(end, counted)))
    summed = total(pad(x, begin, end).flatten(0, 1).unsqueeze(1))
    return (summed / total(count)).reshape(*x.shape[:2], *summed.shape[2:])


def max_pool_indices(pool, x, kernel, strides, dilations, begin, end, columns):
    """The maxima over windows, and where they lie in all of `x`, by rows or by columns."""
    size = x.shape[2:]
    padded = F.pad(x, [p for pair in zip(begin[::-1], end[::-1]) for p in pair], value=float("-inf"))
    y, index = pool(padded, kernel, strides, dilation=dilations, return_indices=True)
    place, rest, step = torch.zeros_like(index), index, 1
    sizes = list(zip(size, padded.shape[2:], begin))
    steps = []
    for length, _, _ in sizes if columns else sizes[::-1]:
        steps.append(step)
        step *= length
    steps = steps if columns else steps[::-1]
    for (_, length, before), stride in zip(sizes[::-1], steps[::-1]):
        place = place + (rest % length - before) * stride
        rest = rest // length
    plane = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *[1] * len(size))
    return y, place + plane * step


def max_unpool(x, index, inferred, shape):
    """Elements put where `index` says in a tensor of the inferred shape, padded with zeros to another."""
    sizes = (*x.shape[:2], *inferred)
    numel = 1
    for size in sizes:
        numel *= size
    y = x.new_zeros(numel).scatter(0, index.flatten(), x.flatten()).reshape(sizes)
    if shape is None:
        return y
    more = [length - size for length, size in zip(shape, sizes)]
    return F.pad(y, [p for extra in more[::-1] for p in (0, extra)])


def col2im(x, size, kernel, strides, dilations, begin, end):
    """Windows `[N, C * kernel, positions]` summed into an image `[N, C, *size]`."""
    padded = [s + b + e for s, b, e in zip(size, begin, end)]
    place = torch.zeros((), dtype=torch.int64, device=x.device)
    for axis, length in enumerate(padded):  # axes of the kernel, then axes of the positions
        count = (length - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        taps = torch.arange(kernel[axis], device=x.device) * dilations[axis]
        at = taps.unsqueeze(1) + torch.arange(count, device=x.device) * strides[axis]
        shape = [1] * (2 * len(padded))
        shape[axis], shape[len(padded) + axis] = at.shape
        place = place * length + at.reshape(shape)
    windows = x.reshape(x.shape[0], -1, place.numel())
    numel = 1
    for length in padded:
        numel *= length
    image = x.new_zeros(*windows.shape[:2], numel).index_add(2, place.flatten(), windows)
    image = image.reshape(*windows.shape[:2], *padded)
    for axis, (before, length) in enumerate(zip(begin, size)):
        image = image.narrow(axis + 2, before, length)
    return image


def deform_conv(x, weight, offset, bias, mask, strides, dilations, pads, groups, offset_groups):
    """Deformable convolution over two axes: each tap reads where its offset moves it to.

    Args:
        offset: `[N, offset_groups * kH * kW * 2, oH, oW]`, rows first.
        mask: `[N, offset_groups * kH * kW, oH, oW]` or None.
        pads: before both axes; what is read outside is 0.
    """
    n, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    out_h, out_w = offset.shape[2:]
    shift = offset.double().reshape(n, offset_groups, rows, columns, 2, out_h, out_w)

    def at(count, taps, axis, shape):
        start = torch.arange(count, device=x.device) * strides[axis] - pads[axis]
        tap = torch.arange(taps, device=x.device) * dilations[axis]
        return start.reshape(shape[0]) + tap.reshape(shape[1])

    y = at(out_h, rows, 0, ((-1, 1), (-1, 1, 1, 1))) + shift[:, :, :, :, 0]
    z = at(out_w, columns, 1, ((1, -1), (1, -1, 1, 1))) + shift[:, :, :, :, 1]
    grid = torch.stack((2 * z + 1, 2 * y + 1), -1) / torch.tensor([width, height], device=x.device) - 1
    grid = grid.reshape(n * offset_groups, rows * columns * out_h, out_w, 2)
    parts = x.reshape(n * offset_groups, channels // offset_groups, height, width)
    taps = F.grid_sample(parts.double(), grid, align_corners=False).to(x.dtype)
    taps = taps.reshape(n, offset_groups, -1, rows, columns, out_h, out_w)
    if mask is not None:
        taps = taps * mask.reshape(n, offset_groups, 1, rows, columns, out_h, out_w)
    taps = taps.reshape(n, groups, channels // groups, rows, columns, out_h, out_w)
    kernel = weight.reshape(groups, -1, channels // groups, rows, columns)
    result = torch.einsum("ngcijyx,gocij->ngoyx", taps, kernel).reshape(n, -1, out_h, out_w)
    return result if bias is None else result + bias.reshape(-1, 1, 1)
