"""Spectra and windows."""

from __future__ import annotations

from amcc.backends.torch_ops.writer import Emitter, Table, Writer, call
from amcc.ir import Node


def _dft(w: Writer, node: Node) -> str:
    axis: str | None = str(w.integer(node, "axis", 1))
    if w.graph.opset >= 20:
        axis = w.size(node, 2) or "-2"
    if axis is not None and axis.lstrip("-").isdigit():
        axis = str(int(axis) % w.rank(node))
    flags = [str(w.flag(node, name, 0)) for name in ("inverse", "onesided")]
    return call(w.helper("dft"), w.tensor(node, 0), w.size(node, 1) or "None", axis or "1", *flags)


def _stft(w: Writer, node: Node) -> str:
    step, length = w.size(node, 1) or "1", w.size(node, 3) or "None"
    if length == "None" and not node.input(2):
        raise w.unsupported(node, "without a window and a length")
    window = w.optional(node, 2) or "None"
    return call(w.helper("stft"), w.tensor(node, 0), step, window, length, str(w.flag(node, "onesided", 1)))


def _mel(w: Writer, node: Node) -> str:
    numbers = [w.size(node, i) or "0" for i in range(3)] + [w.size(node, i, "float") or "0.0" for i in (3, 4)]
    return (
        f"{call(w.helper('mel_weights'), *numbers, w.asked_dtype(node, 'output_datatype', 'float32'))}.to({w.device()})"
    )


def _window(text: str) -> Emitter:
    def emit(w: Writer, node: Node) -> str:
        periodic = str(w.flag(node, "periodic", 1))
        made = text.format(size=w.size(node, 0), periodic=periodic, device=w.device())
        return f"{made}.to({w.asked_dtype(node, 'output_datatype', 'float32')})"

    return emit


_HOW = "periodic={periodic}, dtype=torch.float64, device={device}"

EMITTERS: Table = {
    "BlackmanWindow": _window(f"torch.blackman_window({{size}}, {_HOW})"),
    "DFT": _dft,
    "HammingWindow": _window(f"torch.hamming_window({{size}}, alpha=25 / 46, beta=21 / 46, {_HOW})"),
    "HannWindow": _window(f"torch.hann_window({{size}}, {_HOW})"),
    "MelWeightMatrix": _mel,
    "STFT": _stft,
}
