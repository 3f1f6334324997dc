"""A transformer over scikit-learn's digits: random weights, and a classifier fitted by least squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from amcc.ir import Array
from tests.random_graphs import Builder

TOKENS, WIDTH, HEADS, HIDDEN, CLASSES = 16, 32, 2, 64, 10


def digits() -> tuple[Array, Array]:
    """Pictures `[1797, 1, 8, 8]` in [-1, 1], shuffled, and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    return (found.images[order, None] / 8 - 1).astype(np.float32), found.target[order].astype(np.int64)


def save(path: Path, *, layers: int = 2) -> Path:
    """Write the network, fitted to the first 1,000 digits: input `x` [batch, 1, 8, 8], logits [batch, 10]."""
    b = Builder(0, batch="batch")
    x = b.op("Conv", "x", b.param(WIDTH, 1, 2, 2), b.param(WIDTH), strides=[2, 2])
    x = b.op("Transpose", b.op("Reshape", x, b.ints(0, WIDTH, TOKENS)), perm=[0, 2, 1])
    x = b.op("Add", x, b.param(1, TOKENS, WIDTH))
    for _ in range(layers):
        x = b.op("Add", x, _attention(b, _norm(b, x)))
        hidden = b.op("Relu", b.op("Add", b.op("MatMul", _norm(b, x), b.param(WIDTH, HIDDEN)), b.param(HIDDEN)))
        x = b.op("Add", x, b.op("MatMul", hidden, b.param(HIDDEN, WIDTH)))
    features = b.op("Reshape", _norm(b, x), b.ints(0, TOKENS * WIDTH))
    pictures, labels = digits()
    rows = _run(b, features, pictures[:1000])
    rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
    wanted = np.eye(CLASSES, dtype=np.float32)[labels[:1000]]
    fit = np.linalg.solve(rows.T @ rows + 10 * np.eye(rows.shape[1], dtype=np.float32), rows.T @ wanted)
    logits = b.op("Gemm", features, b.constant(fit[:-1].astype(np.float32)), b.constant(fit[-1].astype(np.float32)))
    onnx.save(_model(b, logits), path)
    return path


def _norm(b: Builder, x: str) -> str:
    return b.op("LayerNormalization", x, b.param(WIDTH, positive=True), b.param(WIDTH))


def _attention(b: Builder, x: str) -> str:
    each = WIDTH // HEADS

    def heads(perm: list[int]) -> str:
        made = b.op("Add", b.op("MatMul", x, b.param(WIDTH, WIDTH)), b.param(WIDTH))
        return b.op("Transpose", b.op("Reshape", made, b.ints(0, TOKENS, HEADS, each)), perm=perm)

    q, k, v = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
    scores = b.op("Softmax", b.op("Mul", b.op("MatMul", q, k), b.constant(np.float32(each**-0.5))), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    return b.op("MatMul", b.op("Reshape", mixed, b.ints(0, TOKENS, WIDTH)), b.param(WIDTH, WIDTH))


def _model(b: Builder, output: str) -> onnx.ModelProto:
    graph = onnx.helper.make_graph(
        b.nodes,
        "digits",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)],
        b.constants,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", b.opset)], ir_version=9)


def _run(b: Builder, output: str, pictures: Array) -> Array:
    import onnxruntime

    model = _model(b, output).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"x": pictures})[0]
    return result
