"""A network small enough to compile in a test: two convolutions, a shortcut, pooling, a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amcc.ir import Array, Graph, Node, Value, frozen

CHANNELS, CLASSES = 8, 4


def weights(seed: int = 0) -> dict[str, Array]:
    """Parameters by name: conv1 [8, 3, 3, 3], conv2 and conv3 [8, 8, 3, 3], fc [4, 8]."""
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> Array:
        fan_in = int(np.prod(shape[1:])) or 1
        return (random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32)

    c = CHANNELS
    return {
        "conv1.weight": drawn(c, 3, 3, 3),
        "conv1.bias": drawn(c),
        "conv2.weight": drawn(c, c, 3, 3),
        "conv2.bias": drawn(c),
        "conv3.weight": drawn(c, c, 3, 3),
        "conv3.bias": drawn(c),
        "fc.weight": drawn(CLASSES, c),
        "fc.bias": drawn(CLASSES),
    }


_NODES: list[tuple[str, list[str], str, dict[str, Any]]] = [
    ("Conv", ["input", "conv1.weight", "conv1.bias"], "a", {"pads": [1, 1, 1, 1]}),
    ("Relu", ["a"], "b", {}),
    ("Conv", ["b", "conv2.weight", "conv2.bias"], "c", {"pads": [1, 1, 1, 1]}),
    ("Relu", ["c"], "d", {}),
    ("Conv", ["d", "conv3.weight", "conv3.bias"], "e", {"pads": [1, 1, 1, 1]}),
    ("Add", ["b", "e"], "f", {}),
    ("GlobalAveragePool", ["f"], "g", {}),
    ("Flatten", ["g"], "h", {}),
    ("Gemm", ["h", "fc.weight", "fc.bias"], "logits", {"transB": 1}),
]


def onnx_model(
    batch: int | str = "batch", *, seed: int = 0, changed: dict[str, Array] | None = None
) -> onnx.ModelProto:
    """The network as ONNX: input [batch, 3, 8, 8], logits [batch, 4]."""
    arrays = {**weights(seed), **(changed or {})}
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [out], name=f"{op}_{out}", **attrs) for op, inputs, out, attrs in _NODES],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(path: Path, **options: Any) -> Path:
    """Write the network to a file."""
    onnx.save(onnx_model(**options), path)
    return path


def graph(batch: int | str = "batch") -> Graph:
    """The network as amcc's IR, without any frontend."""
    c = CHANNELS
    shapes: dict[str, tuple[int | str, ...]] = {"input": (batch, 3, 8, 8)}
    shapes |= {name: (batch, c, 8, 8) for name in "abcdef"}
    shapes |= {"g": (batch, c, 1, 1), "h": (batch, c), "logits": (batch, CLASSES)}
    params = {name: frozen(array) for name, array in weights().items()}
    values = {name: Value(name, "float32", shape) for name, shape in shapes.items()}
    values |= {name: Value(name, "float32", array.shape) for name, array in params.items()}
    nodes = [
        Node(
            f"{op}_{out}", op, tuple(inputs), (out,), {k: tuple(v) if isinstance(v, list) else v for k, v in a.items()}
        )
        for op, inputs, out, a in _NODES
    ]
    return Graph(tuple(nodes), ("input",), ("logits",), values, params, {"": 17}, "tiny", 8)


def samples(count: int = 60, *, seed: int = 1) -> dict[str, Array]:
    """Random `input` and the `label` that the network itself gives, so that its top-1 is 1."""
    import onnxruntime

    arrays = np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(onnx_model().SerializeToString(), providers=["CPUExecutionProvider"])
    return {"input": arrays, "label": session.run(None, {"input": arrays})[0].argmax(1)}
