"""Spectra."""

import torch
from torch.nn import functional as F


def dft(x, length, axis, inverse, onesided):
    """ONNX DFT of `[..., 1]` (real) or `[..., 2]` (complex) along an axis."""
    signal = torch.view_as_complex(x.double().contiguous()) if x.shape[-1] == 2 else x.double().squeeze(-1)
    if inverse and onesided:
        length = 2 * (signal.shape[axis] - 1) if length is None else length
        return torch.fft.irfft(signal, length, axis).unsqueeze(-1).to(x.dtype)
    y = torch.fft.ifft(signal, length, axis) if inverse else torch.fft.fft(signal, length, axis)
    return torch.view_as_real(y.narrow(axis, 0, y.shape[axis] // 2 + 1) if onesided else y).to(x.dtype)


def stft(x, step, window, length, onesided):
    """ONNX STFT: `[B, frames, bins, 2]` of `[B, T]`, `[B, T, 1]` or `[B, T, 2]`."""
    signal = torch.view_as_complex(x.contiguous()) if x.ndim == 3 and x.shape[-1] == 2 else x.reshape(x.shape[:2])
    length = window.shape[0] if length is None else length
    frames = signal.unfold(1, length, step)
    frames = frames if window is None else frames * F.pad(window, (0, length - window.shape[0]))
    y = torch.fft.fft(frames, length)
    return torch.view_as_real(y[..., : length // 2 + 1] if onesided else y)


def mel_weights(bins, length, rate, low, high, dtype):
    """ONNX MelWeightMatrix: triangles over frequencies, `[length // 2 + 1, bins]`."""
    mel = 2595 * torch.log10(1 + torch.tensor([low, high], dtype=torch.float64) / 700)
    edges = mel[0] + torch.arange(bins + 2, dtype=torch.float64) * ((mel[1] - mel[0]) / (bins + 2))
    edges = ((length + 1) * (700 * (10 ** (edges / 2595) - 1)) / rate).floor()
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    at = torch.arange(length // 2 + 1, dtype=torch.float64).unsqueeze(1)
    rising = torch.where(centre > left, (at - left) / (centre - left), (at == centre).double())
    falling = torch.where(right > centre, (right - at) / (right - centre), (at == centre).double())
    return torch.where(at < centre, rising, torch.where(at == centre, 1.0, falling)).clamp(min=0).to(dtype)
