"""Sequences of tensors are spelled without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from amcc.backends.runtime import Session
from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.test_exactness import check


def _chunked(b: Builder, x: str, opset: int) -> str:
    """The halves of the channels, swapped, as `torch.chunk` is exported."""
    halves = b.op("SplitToSequence", x, b.constant(np.int64(4)), axis=1)
    parts = [b.op("SequenceAt", halves, b.constant(np.int64(i))) for i in (1, -2)]
    return b.op("Concat", *parts, axis=1)


def _unbound(b: Builder, x: str, opset: int) -> str:
    """All samples one by one, put together again on a new axis."""
    single = b.op("SplitToSequence", x, axis=0, keepdims=0)
    listed = b.op("SequenceInsert", single, b.op("SequenceAt", single, b.constant(np.int64(0))))
    return b.op("ConcatFromSequence", b.op("SequenceErase", listed, b.constant(np.int64(0))), axis=0, new_axis=1)


def _listed(b: Builder, x: str, opset: int) -> str:
    """Uneven parts, one of them changed."""
    parts = b.op("SplitToSequence", x, b.ints(3, 4, 1), axis=-3)
    first, last = (b.op("SequenceAt", parts, b.constant(np.int64(i))) for i in (0, 2))
    joined = b.op("SequenceConstruct", b.op("Relu", last), first)
    return b.op("ConcatFromSequence", joined, axis=1)


@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("make", [_chunked, _unbound, _listed])
def test_known_sequences_are_spelled_as_tensors(make: object, opset: int, tmp_path: Path) -> None:
    b = Builder(1, opset)
    y = make(b, b.op("Conv", "x", b.param(8, 3, 1, 1)), opset)  # type: ignore[operator]
    channels = 4 if make is _listed else 8
    b.put(b.op("Conv", y, b.param(4, channels, 1, 1)), (2, 4, 8, 8))
    model, path = b.model(), tmp_path / "model.onnx"
    onnx.save(model, path)
    graph = infer(from_onnx(path))
    assert not [node.op for node in graph.nodes if "Sequence" in node.op]
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    for found, wanted in zip(Session(graph).run({"x": x}).values(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert any(piece.param == "w0" for group in analyze(graph).groups for piece in group.slices)
    for seed in range(2):
        check(model, path, seed)


def test_a_sequence_read_at_run_time_stays(tmp_path: Path) -> None:
    b = Builder(2)
    x = b.op("Conv", "x", b.param(8, 3, 1, 1))
    which = b.op("Cast", b.op("ReduceMax", b.op("Sign", b.op("Abs", x)), keepdims=0), to=7)
    part = b.op("SequenceAt", b.op("SplitToSequence", x, b.constant(np.int64(4)), axis=1), which)
    b.put(b.op("Conv", part, b.param(4, 4, 1, 1)), (2, 4, 8, 8))
    model, path = b.model(), tmp_path / "model.onnx"
    onnx.save(model, path)
    channels = analyze(infer(from_onnx(path)))
    assert any(lock.reason == "handles a sequence of tensors" for lock in channels.ledger)
    check(model, path, 0)
