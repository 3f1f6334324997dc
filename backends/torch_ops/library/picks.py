"""Picking and placing elements."""

import torch


def gather(x, axis, index):
    """Slices of `x` along an axis; the index's shape stands in its place."""
    flat = torch.where(index < 0, index + x.shape[axis], index).reshape(-1)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def gather_nd(x, index, batch):
    """ONNX GatherND: the first `batch` axes are shared by both."""
    flat = x.flatten(0, batch - 1)
    rows = index.flatten(0, batch - 1)
    samples = torch.arange(flat.shape[0], device=x.device).reshape(-1, *[1] * (rows.ndim - 2))
    return flat[(samples, *rows.unbind(-1))].reshape(*index.shape[:-1], *x.shape[batch + index.shape[-1] :])


def scatter_nd(x, index, updates, reduction):
    """ONNX ScatterND where places met twice are combined: by "prod", "amax" or "amin"."""
    depth = index.shape[-1]
    place = torch.zeros_like(index[..., 0])
    for k in range(depth):
        place = place * x.shape[k] + index[..., k] % x.shape[k]
    flat = x.reshape(-1, *x.shape[depth:])
    place = place.reshape(-1, *[1] * (x.ndim - depth)).expand(-1, *x.shape[depth:])
    return flat.scatter_reduce(0, place, updates.reshape(place.shape), reduction).reshape(x.shape)


def one_hot(index, depth, values, axis):
    """`values[1]` at the index, `values[0]` elsewhere; nothing at an index out of range."""
    index = torch.where(index < 0, index + depth, index).long()
    hot = index.unsqueeze(-1) == torch.arange(depth, device=index.device)
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


def compress(x, condition, axis):
    """The slices along an axis where a condition, which may be shorter, holds; of all elements without an axis."""
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    return x.index_select(axis, condition.nonzero().flatten())


def top_k(x, count, axis, largest):
    """The largest (or smallest) elements along an axis, in order, and where they stood; the first of equals first."""
    values, index = x.sort(dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), index.narrow(axis, 0, count)


def unique(x, axis, ordered):
    """ONNX Unique: values, where each first stands, which one each element is, and how many there are."""
    if axis is None:
        x, axis = x.flatten(), 0
    values, inverse, counts = torch.unique(x, dim=axis, return_inverse=True, return_counts=True)
    place = torch.arange(inverse.numel(), device=x.device)
    first = place.new_full((counts.numel(),), inverse.numel()).scatter_reduce(0, inverse.flatten(), place, "amin")
    if not ordered:
        order = first.argsort()
        values, first, counts = values.index_select(axis, order), first[order], counts[order]
        inverse = order.argsort()[inverse]
    return values, first, inverse.flatten(), counts


def tensor_scatter(cache, update, start, axis, circular):
    """`update` written into a copy of `cache` along an axis, from `start[i]` on in sample i."""
    steps, size = update.shape[axis], cache.shape[axis]
    place = torch.arange(steps, device=cache.device)
    if start is not None:
        place = start.reshape(-1, 1) + place
        place = place % size if circular else place
        shape = [1] * cache.ndim
        shape[0], shape[axis] = cache.shape[0], steps
        place = place.reshape(shape)
    else:
        place = place.reshape([steps if k == axis % cache.ndim else 1 for k in range(cache.ndim)])
    return cache.scatter(axis, place.expand(update.shape), update)


def non_max_suppression(boxes, scores, most, overlap, least, centred):
    """ONNX NonMaxSuppression: rows of batch, class and box, `[n, 3]`, the best of each class first.

    Args:
        boxes: `[batch, boxes, 4]`: two corners, or centre and size if `centred`.
        scores: `[batch, classes, boxes]`.
    """
    if centred:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        low, high = middle - half, middle + half
    else:
        low, high = torch.minimum(boxes[..., :2], boxes[..., 2:]), torch.maximum(boxes[..., :2], boxes[..., 2:])
    area = (high - low).prod(-1)
    chosen = []
    for batch, of_classes in enumerate(scores):
        for number, score in enumerate(of_classes):
            kept = []
            for box in score.argsort(descending=True, stable=True).tolist():
                if len(kept) >= most or (least is not None and not score[box] > least):
                    break
                if kept:
                    corner = torch.maximum(low[batch, kept], low[batch, box])
                    common = (torch.minimum(high[batch, kept], high[batch, box]) - corner).clamp(min=0).prod(-1)
                    union = area[batch, kept] + area[batch, box] - common
                    if ((common > overlap * union) & (common > 0)).any():
                        continue
                kept.append(box)
            chosen += [[batch, number, box] for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)
