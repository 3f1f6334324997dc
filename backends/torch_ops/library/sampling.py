"""Reading between elements: Resize, RoiAlign."""

import torch


def resize(
    x, mode, axes, sizes, scales, *,
    coordinates, rounding, cubic, exclude, antialias=False, keep=None, roi=None, outside=None,
):  # fmt: skip
    """ONNX Resize, one axis after the other, each by its matrix of weights.

    Args:
        sizes: of the axes; None where scales are given.
        keep: "not_larger" or "not_smaller" than the sizes where the aspect ratio is kept.
        roi: starts of the axes, then ends, in shares of them.
        outside: what stands for elements outside the region; None for the nearest ones.
    """
    if keep is not None:
        ratios = [size / x.shape[axis] for size, axis in zip(sizes, axes)]
        scales = [min(ratios) if keep == "not_larger" else max(ratios)] * len(axes)
        sizes = [int(scale * x.shape[axis] + 0.5) for scale, axis in zip(scales, axes)]
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for i, axis in enumerate(axes):
        axis, old = axis % x.ndim, x.shape[axis]
        new = sizes[i] if sizes else int(old * scales[i])
        scale = scales[i] if scales else new / old
        region = None if roi is None else (roi[i], roi[len(axes) + i])
        if new == old and scale == 1 and region is None:
            continue
        at = resize_positions(old, new, scale, coordinates, region)
        weights = resize_weights(at, old, scale, mode, rounding, cubic, exclude, antialias).to(x)
        x = torch.tensordot(x, weights, dims=([axis], [1])).movedim(-1, axis)
        if outside is not None:
            within = ((at >= 0) & (at <= old - 1)).to(x.device)
            inside = inside & within.reshape([-1 if k == axis else 1 for k in range(x.ndim)])
    return x if outside is None else torch.where(inside, x, outside)


def resize_positions(old, new, scale, coordinates, region):
    """`[new]`: where in the old axis each new element lies."""
    at = torch.arange(new, dtype=torch.float32)
    if coordinates == "asymmetric":
        return at / scale
    if coordinates == "align_corners":
        return at * ((old - 1) / (new - 1)) if new > 1 else at * 0
    if coordinates == "tf_crop_and_resize":
        start, end = (float(bound) * (old - 1) for bound in region)
        return start + at * ((end - start) / (new - 1)) if new > 1 else at * 0 + (start + end) / 2
    if coordinates == "pytorch_half_pixel" and new == 1:
        return at * 0
    at = (at + 0.5) / scale - 0.5
    return at + old / 2 * (1 - new / (scale * old)) if coordinates == "half_pixel_symmetric" else at


def resize_weights(at, old, scale, mode, rounding, cubic, exclude, antialias):
    """`[new, old]`: how much each old position gives to each new one."""
    if mode == "nearest":
        rounds = {"floor": at.floor(), "ceil": at.ceil(), "round_prefer_ceil": (at + 0.5).floor()}
        position = rounds.get(rounding, (at - 0.5).ceil()).unsqueeze(1)
        weight = torch.ones_like(position)
    else:
        reach, narrow = 1 if mode == "linear" else 2, min(scale, 1.0) if antialias else 1.0
        first = int(-reach / narrow // 1) + 1
        position = at.ceil().unsqueeze(1) - 1 + torch.arange(first, 2 - first)
        far = (narrow * (position - at.unsqueeze(1))).abs()
        if mode == "linear":
            weight = (1 - far).clamp(min=0)
        else:
            near = ((cubic + 2) * far - (cubic + 3)) * far * far + 1
            weight = torch.where(far <= 1, near, ((cubic * far - 5 * cubic) * far + 8 * cubic) * far - 4 * cubic)
            weight = torch.where(far < 2, weight, 0.0)
        weight = weight / weight.sum(1, keepdim=True) if antialias else weight
    if exclude:
        weight = torch.where((position >= 0) & (position < old), weight, 0.0)
        weight = weight / weight.sum(1, keepdim=True)
    return torch.zeros(len(at), old).scatter_add(1, position.long().clamp(0, old - 1), weight)


def roi_align(x, rois, batch, size, ratio, scale, mode, centred):
    """ONNX RoiAlign: `[regions, C, *size]`; corners x, y, x, y of each region in `rois`.

    Args:
        ratio: samples a bin and axis; 0 for one a pixel.
        centred: whether pixels lie half a pixel from their corners.
    """
    shift = 0.5 if centred else 0.0
    results = []
    for roi, number in zip(rois.tolist(), batch.tolist()):
        corners = [corner * scale - shift for corner in roi]
        taps = []
        for bins, start, end, length in zip(size, corners[1::-1], corners[:1:-1], x.shape[2:]):
            extent = end - start if centred else max(end - start, 1.0)
            count = ratio if ratio > 0 else int(-(-extent // bins))
            at = start + (torch.arange(bins * count, dtype=x.dtype, device=x.device) + 0.5) * (extent / bins / count)
            inside = (at >= -1) & (at <= length)
            at = at.clamp(0, length - 1)
            low = at.floor().clamp(max=max(length - 2, 0))
            weights = torch.where(inside, torch.stack((1 - (at - low), at - low)), 0)
            taps.append((torch.stack((low, (low + 1).clamp(max=length - 1))).long(), weights, count))
        (rows, weight_y, count_y), (columns, weight_x, count_x) = taps
        corners = x[number][:, rows.reshape(2, 1, -1, 1), columns.reshape(1, 2, 1, -1)]
        corners = corners * weight_y.reshape(2, 1, -1, 1) * weight_x.reshape(1, 2, 1, -1)
        samples = corners.sum((1, 2)) if mode == "avg" else corners.amax((1, 2))
        samples = samples.reshape(-1, size[0], count_y, size[1], count_x)
        results.append(samples.mean((2, 4)) if mode == "avg" else samples.amax((2, 4)))
    return torch.stack(results) if results else x.new_zeros(0, x.shape[1], *size)
