"""Large networks whose weights take no disk: sparse external data, all zeros, never read by the analysis.

`LARGE` names them; each builder writes `model.onnx` and `weights.bin` into a folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
BATCH = "batch"


class Writer:
    """Collects the nodes and parameters of one graph.

    Args:
        dtype: element type of weights and activations, an `onnx.TensorProto` number.
    """

    def __init__(self, dtype: int = TensorProto.FLOAT) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.params: list[onnx.TensorProto] = []
        self._known: dict[tuple[int, ...], str] = {}
        self._offset = 0

    def add(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> str:
        """A node; the name of its first output, which the others extend by `.1`, `.2`."""
        name = f"{op}_{len(self.nodes)}"
        outputs = [name, *(f"{name}.{i}" for i in range(1, count))]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=f"n/{name}", **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """A parameter whose bytes lie in the sparse file."""
        name = f"w{len(self.params)}"
        size = math.prod(shape) * helper.tensor_dtype_to_np_dtype(self.dtype).itemsize
        tensor = TensorProto(name=name, data_type=self.dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "weights.bin"), ("offset", self._offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        self._offset += -(-size // 4096) * 4096
        self.params.append(tensor)
        return name

    def ints(self, *values: int) -> str:
        """A constant list of integers."""
        if values not in self._known:
            self._known[values] = self._constant(np.array(values, np.int64))
        return self._known[values]

    def floats(self, array: float | np.ndarray) -> str:
        """A constant of the network's element type, kept in the file itself."""
        return self._constant(np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(self.dtype)))

    def _constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.params)}"
        self.params.append(numpy_helper.from_array(array, name))
        return name

    def save(self, folder: Path, inputs: dict[str, tuple[int, tuple[int | str, ...]]], output: str) -> Path:
        """Write the graph and the file of holes."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "weights.bin").open("wb") as file:
            file.truncate(self._offset)
        graph = helper.make_graph(
            self.nodes,
            "large",
            [helper.make_tensor_value_info(name, *described) for name, described in inputs.items()],
            [helper.make_tensor_value_info(output, self.dtype, None)],
            self.params,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        return folder / "model.onnx"


# -- a transformer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Llama:
    """Sizes of a decoder with grouped-query attention, as exporters write it: operators spelled out."""

    layers: int = 32
    hidden: int = 4096
    heads: int = 32
    kv_heads: int = 8
    ffn: int = 14336
    vocabulary: int = 128256
    tokens: int = 64
    dtype: int = TensorProto.FLOAT16

    def write(self, folder: Path) -> Path:
        """The whole prefill graph, no cache: token numbers in, logits out."""
        w = Writer(self.dtype)
        width, tokens = self.hidden // self.heads, self.tokens
        angles = np.outer(np.arange(tokens), 500000.0 ** (-np.arange(0, width, 2) / width))
        cos, sin = (w.floats(f(np.concatenate([angles, angles], 1))[None, None]) for f in (np.cos, np.sin))
        mask = w.floats(np.triu(np.full((tokens, tokens), -1e4), 1)[None, None])
        x = w.add("Gather", w.weight(self.vocabulary, self.hidden), "tokens", axis=0)
        for _ in range(self.layers):
            y = self._norm(w, x)
            x = w.add("Add", x, self._attention(w, y, cos, sin, mask))
            y = self._norm(w, x)
            gate = w.add("MatMul", y, w.weight(self.hidden, self.ffn))
            up = w.add("MatMul", y, w.weight(self.hidden, self.ffn))
            gate = w.add("Mul", gate, w.add("Sigmoid", gate))
            x = w.add("Add", x, w.add("MatMul", w.add("Mul", gate, up), w.weight(self.ffn, self.hidden)))
        logits = w.add("MatMul", self._norm(w, x), w.weight(self.hidden, self.vocabulary))
        return w.save(folder, {"tokens": (TensorProto.INT64, (BATCH, tokens))}, logits)

    def _norm(self, w: Writer, x: str) -> str:
        y = w.add("Cast", x, to=TensorProto.FLOAT)
        square = w.add("Pow", y, _float32(w, 2.0))
        mean = w.add("ReduceMean", square, w.ints(-1), keepdims=1)
        scale = w.add("Reciprocal", w.add("Sqrt", w.add("Add", mean, _float32(w, 1e-5))))
        y = w.add("Cast", w.add("Mul", y, scale), to=self.dtype)
        return w.add("Mul", w.weight(self.hidden), y)

    def _attention(self, w: Writer, x: str, cos: str, sin: str, mask: str) -> str:
        width, tokens, share = self.hidden // self.heads, self.tokens, self.heads // self.kv_heads

        def heads(count: int) -> str:
            y = w.add("MatMul", x, w.weight(self.hidden, count * width))
            return w.add("Transpose", w.add("Reshape", y, w.ints(0, tokens, -1, width)), perm=[0, 2, 1, 3])

        def rotated(y: str) -> str:
            half = width // 2
            low = w.add("Slice", y, w.ints(0), w.ints(half), w.ints(3), w.ints(1))
            high = w.add("Slice", y, w.ints(half), w.ints(np.iinfo(np.int64).max), w.ints(3), w.ints(1))
            turned = w.add("Concat", w.add("Neg", high), low, axis=-1)
            return w.add("Add", w.add("Mul", y, cos), w.add("Mul", turned, sin))

        def repeated(y: str) -> str:
            y = w.add("Unsqueeze", y, w.ints(2))
            y = w.add("Expand", y, w.ints(1, self.kv_heads, share, tokens, width))
            return w.add("Reshape", y, w.ints(0, self.heads, tokens, width))

        q, k, v = rotated(heads(self.heads)), repeated(rotated(heads(self.kv_heads))), repeated(heads(self.kv_heads))
        scores = w.add("MatMul", q, w.add("Transpose", k, perm=[0, 1, 3, 2]))
        scores = w.add("Add", w.add("Mul", scores, w.floats(width**-0.5)), mask)
        y = w.add("MatMul", w.add("Softmax", scores, axis=-1), v)
        y = w.add("Reshape", w.add("Transpose", y, perm=[0, 2, 1, 3]), w.ints(0, tokens, self.hidden))
        return w.add("MatMul", y, w.weight(self.hidden, self.hidden))


def _float32(w: Writer, value: float) -> str:
    return w._constant(np.asarray(value, np.float32))


# -- convolutional networks --------------------------------------------------------------------------


def _conv(w: Writer, x: str, inner: int, outer: int, kernel: int = 1, group: int = 1) -> str:
    weight = w.weight(outer, inner // group, kernel, kernel)
    return w.add("Conv", x, weight, pads=[kernel // 2] * 4, kernel_shape=[kernel, kernel], group=group)


def _unit(w: Writer, x: str, inner: int, outer: int, kernel: int = 3) -> str:
    """Conv, BatchNormalization, Relu."""
    x = _conv(w, x, inner, outer, kernel)
    return w.add("Relu", w.add("BatchNormalization", x, *(w.weight(outer) for _ in range(4))))


def _finish(w: Writer, x: str, width: int, folder: Path, size: int = 8) -> Path:
    x = w.add("Flatten", w.add("GlobalAveragePool", x), axis=1)
    x = w.add("Gemm", x, w.weight(10, width), w.weight(10), transB=1)
    return w.save(folder, {"image": (w.dtype, (BATCH, 3, size, size))}, x)


def residual(folder: Path, nodes: int = 5000, width: int = 64) -> Path:
    """Residual blocks of two convolutions and a squeeze-and-excite gate."""
    w = Writer()
    x = _unit(w, "image", 3, width)
    while len(w.nodes) < nodes:
        y = _unit(w, _unit(w, x, width, width), width, width)
        gate = _conv(w, w.add("GlobalAveragePool", y), width, width // 4)
        gate = w.add("Sigmoid", _conv(w, w.add("Relu", gate), width // 4, width))
        x = w.add("Relu", w.add("Add", x, w.add("Mul", y, gate)))
    return _finish(w, x, width, folder)


def dense(folder: Path, nodes: int = 5000, growth: int = 16, block: int = 32) -> Path:
    """Dense blocks: every layer reads the concatenation of all before it."""
    w = Writer()
    x, width = _unit(w, "image", 3, 32), 32
    while len(w.nodes) < nodes:
        for _ in range(block):
            y = w.add("Relu", w.add("BatchNormalization", x, *(w.weight(width) for _ in range(4))))
            y = _unit(w, y, width, 4 * growth, 1)
            x, width = w.add("Concat", x, _conv(w, y, 4 * growth, growth, 3), axis=1), width + growth
        x, width = _unit(w, x, width, 32, 1), 32
    return _finish(w, x, width, folder)


def wide(folder: Path, channels: int = 100_000, layers: int = 20) -> Path:
    """As many channels in all, in a chain of equal 1x1 convolutions with shortcuts across two."""
    w = Writer()
    width = channels // layers
    x = _unit(w, "image", 3, width, 1)
    for _ in range((layers - 1) // 2):
        x = w.add("Add", x, _unit(w, _unit(w, x, width, width, 1), width, width, 1))
    return _finish(w, x, width, folder)


def one_layer(folder: Path, channels: int = 100_000) -> Path:
    """As many channels in one depthwise layer."""
    w = Writer()
    x = _unit(w, "image", 3, channels, 1)
    x = w.add("Relu", _conv(w, x, channels, channels, 3, group=channels))
    return _finish(w, _unit(w, x, channels, 64, 1), 64, folder)


def shuffled(folder: Path, channels: int = 100_000, layers: int = 10, groups: int = 4) -> Path:
    """As many channels in all, in grouped convolutions with a channel shuffle behind each."""
    w = Writer()
    width = channels // layers // groups * groups
    x = _unit(w, "image", 3, width, 1)
    for _ in range(layers - 1):
        x = w.add("Relu", _conv(w, x, width, width, 1, group=groups))
        x = w.add("Reshape", x, w.ints(0, groups, width // groups, 8, 8))
        x = w.add("Reshape", w.add("Transpose", x, perm=[0, 2, 1, 3, 4]), w.ints(0, width, 8, 8))
    return _finish(w, x, width, folder)


LARGE: dict[str, Callable[[Path], Path]] = {
    "llama-8b": Llama().write,
    "5000-nodes-transformer": Llama(85, 128, 8, 2, 352, 1000, 16, TensorProto.FLOAT).write,
    "5000-nodes-residual": residual,
    "5000-nodes-dense": dense,
    "100k-channels": wide,
    "100k-channels-one-layer": one_layer,
    "100k-channels-shuffled": shuffled,
}
