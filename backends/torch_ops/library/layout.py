"""Moving, cutting and padding, with sizes known only at run time."""

import torch
from torch.nn import functional as F


def depth_to_space(x, block):
    """Channels to blocks of pixels; the block's position varies slowest among channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(x, block):
    """Blocks of pixels to channels; the block's position varies slowest among channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * block**2, h // block, w // block)


def pad_axis(x, axis, before, after, mode):
    """One axis padded with its own elements, or cut where the padding is negative."""
    size = x.shape[axis]
    index = torch.arange(-before, size + after, device=x.device)
    if mode == "replicate":
        index = index.clamp(0, size - 1)
    elif mode == "circular":
        index = index % size
    elif size > 1:
        index = index % (2 * size - 2)
        index = torch.minimum(index, 2 * size - 2 - index)
    else:
        index = index * 0
    return x.index_select(axis, index)


def pad(x, pads, axes=None, mode="constant", value=0):
    """ONNX Pad: `pads` holds what goes before each axis, then what goes behind."""
    pads = pads.tolist()
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :]):
        if mode != "constant":
            x = pad_axis(x, axis, before, after, mode)
        else:
            x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after], value=value)
    return x


def reshape(x, shape):
    """ONNX Reshape: 0 keeps a size."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def unsqueeze(x, axes):
    """New axes of size 1, counted in the result."""
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def take(x, axis, start, end, step):
    """`x[start:end:step]` along an axis, backwards too."""
    index = torch.tensor(range(x.shape[axis])[start:end:step], dtype=torch.int64, device=x.device)
    return x.index_select(axis, index)


def slice_axes(x, starts, ends, axes, steps):
    """ONNX Slice with bounds known only now."""
    axes = axes or range(len(starts))
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts)):
        size = x.shape[axis]
        if step < 0:  # to the beginning is further than Python's slices say
            start, end = start + size if start < 0 else start, end + size if end < 0 else end
            index = torch.tensor(range(min(start, size - 1), max(end, -1), step), dtype=torch.int64, device=x.device)
        else:
            index = torch.tensor(range(size)[start:end:step], dtype=torch.int64, device=x.device)
        x = x.index_select(axis, index)
    return x


def center_crop_pad(x, sizes, axes):
    """Each axis cut to, or padded with zeros to, its size about the centre."""
    for axis, size in zip(axes, sizes):
        axis, more = axis % x.ndim, size - x.shape[axis]
        if more < 0:
            x = x.narrow(axis, -more // 2, size)
        else:
            x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [more // 2, more - more // 2])
    return x


def reverse_sequence(x, lengths, batch, time):
    """The first `lengths[i]` steps of sample i backwards, the rest as it is."""
    step = torch.arange(x.shape[time], device=x.device)
    index = torch.where(step < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - step, step)
    index = index if batch < time else index.T
    shape = [1] * x.ndim
    shape[batch], shape[time] = x.shape[batch], x.shape[time]
    return x.gather(time, index.reshape(shape).expand(x.shape))


def eye_like(x, diagonal, dtype):
    """Ones on a diagonal of a matrix of the shape of `x`."""
    rows, columns = (torch.arange(size, device=x.device) for size in x.shape)
    return (columns == rows.unsqueeze(1) + diagonal).to(dtype)
