"""Integers that stand for real numbers."""

import torch


def along(t, x, axis, block):
    """A scale or zero point made to broadcast against `x`: one in all, one an index of an axis, or one a block."""
    if block:
        return t.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return t.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)]) if t.numel() > 1 else t.reshape(())


def quantize(x, scale, zero, dtype, axis=1, block=0):
    """ONNX QuantizeLinear: ties to even, saturating."""
    y = (x / along(scale, x, axis, block)).round().float()
    y = y if zero is None else y + along(zero, x, axis, block).float()
    return y.clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)


def dequantize(x, scale, zero=None, axis=1, block=0):
    """ONNX DequantizeLinear."""
    y = x.to(torch.float32)
    y = y if zero is None else y - along(zero, x, axis, block).float()
    return (y * along(scale, x, axis, block)).to(scale.dtype)


def quantize_by_range(x):
    """ONNX DynamicQuantizeLinear: `x` in uint8, the scale, and the zero point."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = torch.where(high > low, high - low, 1.0) / 255
    zero = (-low / scale).clamp(0, 255).round()
    return ((x / scale).round() + zero).clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def centred(x, zero, axis=None):
    """Integers less their zero point, in float64, which holds their sums of products."""
    if zero is None:
        return x.double()
    shape = [-1 if k == axis % x.ndim else 1 for k in range(x.ndim)] if axis is not None and zero.numel() > 1 else ()
    return x.double() - zero.double().reshape(shape)


def requantize(total, factor, zero):
    """Sums of products as integers of the zero point's type."""
    y = (total.float() * factor.float() + zero.float()).round()
    return y.clamp(torch.iinfo(zero.dtype).min, torch.iinfo(zero.dtype).max).to(zero.dtype)
