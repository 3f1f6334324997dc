"""Functions that a written `model.py` defines when it needs them: what PyTorch has no call for."""

from __future__ import annotations

HELPERS: dict[str, str] = {}

HELPERS["average_pool"] = '''
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
'''

HELPERS["depth_to_space"] = '''
def depth_to_space(x, block):
    """Channels to blocks of pixels; the block's position varies slowest among channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // block**2, h * block, w * block)
'''

HELPERS["gather"] = '''
def gather(x, axis, index):
    """Slices of `x` along an axis; the index's shape stands in its place."""
    flat = torch.where(index < 0, index + x.shape[axis], index).reshape(-1)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
'''

HELPERS["one_hot"] = '''
def one_hot(index, depth, values, axis):
    """`values[1]` at the index, `values[0]` elsewhere; nothing at an index out of range."""
    index = torch.where(index < 0, index + depth, index).long()
    hot = index.unsqueeze(-1) == torch.arange(depth, device=index.device)
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)
'''

HELPERS["pad_axis"] = '''
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
'''

HELPERS["resize"] = '''
def resize(x, mode, size=None, scale_factor=None, *, coordinates, rounding, cubic, exclude):
    """ONNX Resize over the spatial axes, one after the other, each by its matrix of weights."""
    factors = scale_factor if isinstance(scale_factor, tuple) else (scale_factor,) * (x.ndim - 2)
    for i, old in enumerate(x.shape[2:]):
        new = size[i] if size else int(old * factors[i])
        scale = new / old if size else factors[i]
        if new == old and scale == 1:
            continue
        weights = resize_weights(old, new, scale, mode, coordinates, rounding, cubic, exclude)
        weights = weights.to(x.dtype).to(x.device)
        x = torch.tensordot(x, weights, dims=([i + 2], [1])).movedim(-1, i + 2)
    return x


def resize_weights(old, new, scale, mode, coordinates, rounding, cubic, exclude):
    """`[new, old]`: how much each old position gives to each new one."""
    at = torch.arange(new, dtype=torch.float32)
    if coordinates == "asymmetric":
        at = at / scale
    elif coordinates == "align_corners":
        at = at * ((old - 1) / (new - 1)) if new > 1 else at * 0
    elif coordinates == "pytorch_half_pixel" and new == 1:
        at = at * 0
    else:
        at = (at + 0.5) / scale - 0.5
        if coordinates == "half_pixel_symmetric":
            at = at + old / 2 * (1 - new / (scale * old))
    if mode == "nearest":
        rounds = {"floor": at.floor(), "ceil": at.ceil(), "round_prefer_ceil": (at + 0.5).floor()}
        taps = [(rounds.get(rounding, (at - 0.5).ceil()), torch.ones(new))]
    elif mode == "linear":
        low = at.floor()
        taps = [(low, 1 - (at - low)), (low + 1, at - low)]
    else:
        low, a = at.floor(), cubic
        part = at - low
        far, near = part + 1, 1 - part
        taps = [
            (low - 1, ((a * far - 5 * a) * far + 8 * a) * far - 4 * a),
            (low, ((a + 2) * part - (a + 3)) * part * part + 1),
            (low + 1, ((a + 2) * near - (a + 3)) * near * near + 1),
            (low + 2, ((a * (near + 1) - 5 * a) * (near + 1) + 8 * a) * (near + 1) - 4 * a),
        ]
    weights = torch.zeros(new, old)
    for position, weight in taps:
        if exclude:
            weight = torch.where((position >= 0) & (position < old), weight, 0.0)
        weights[torch.arange(new), position.long().clamp(0, old - 1)] += weight
    return weights / weights.sum(1, keepdim=True) if exclude else weights
'''

HELPERS["slice_axes"] = '''
def slice_axes(x, starts, ends, axes, steps):
    """ONNX Slice with bounds known only now."""
    axes = axes or range(len(starts))
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts)):
        index = torch.tensor(range(x.shape[axis])[start:end:step], dtype=torch.int64, device=x.device)
        x = x.index_select(axis, index)
    return x
'''

HELPERS["space_to_depth"] = '''
def space_to_depth(x, block):
    """Blocks of pixels to channels; the block's position varies slowest among channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * block**2, h // block, w // block)
'''

HELPERS["take"] = '''
def take(x, axis, start, end, step):
    """`x[start:end:step]` along an axis, backwards too."""
    index = torch.tensor(range(x.shape[axis])[start:end:step], dtype=torch.int64, device=x.device)
    return x.index_select(axis, index)
'''
