"""Picks moved in front of reshapes: the same numbers, and separate choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from amcc.backends.runtime import Session
from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.picks import picks_first
from amcc.passes.rewrite import check_shapes
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row
from tests.test_exactness import check
from tests.test_rules import build

TOKENS = 64


def _tokens(b: Builder, x: str, width: int) -> str:
    tokens = b.op("Transpose", b.op("Reshape", x, b.ints(0, C, TOKENS)), perm=[0, 2, 1])
    return b.op("Add", b.op("MatMul", tokens, b.param(C, width)), b.param(width))


def _attend(b: Builder, q: str, k: str, v: str) -> str:
    """`[B, heads, N, 3]` each, heads broadcast."""
    weights = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    mixed = b.op("Reshape", b.op("Transpose", b.op("MatMul", weights, v), perm=[0, 2, 1, 3]), b.ints(0, TOKENS, 6))
    return b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1]), b.ints(0, 6, SIDE, SIDE))


def _gathered(b: Builder, x: str) -> str:
    """timm's: three in front, each taken by its number."""
    five = b.op("Reshape", _tokens(b, x, 18), b.ints(0, TOKENS, 3, 2, 3))
    turned = b.op("Transpose", five, perm=[2, 0, 3, 1, 4])
    return _attend(b, *(b.op("Gather", turned, b.constant(np.int64(i)), axis=0) for i in (0, -2, 2)))


def _split(b: Builder, x: str) -> str:
    """GPT-NeoX's: three within each head, split, squeezed."""
    five = b.op("Identity", b.op("Reshape", _tokens(b, x, 18), b.ints(0, -1, 2, 3, 3)))
    turned = b.op("Transpose", b.op("Unsqueeze", five, b.ints(0)), perm=[0, 1, 3, 4, 2, 5])
    parts = b.op("Split", b.op("Squeeze", turned, b.ints(0)), outputs=3, axis=2, num_outputs=3)
    return _attend(b, *(b.op("Squeeze", parts[:-1] + str(i), b.ints(2)) for i in range(3)))


def _sliced(b: Builder, x: str) -> str:
    """Falcon's: the queries, one key and one value as rows of one axis."""
    four = b.op("Transpose", b.op("Reshape", _tokens(b, x, 12), b.ints(0, TOKENS, 4, 3)), perm=[0, 2, 1, 3])
    q = b.op("Slice", four, b.ints(0), b.ints(-2), b.ints(1))
    k, v = (b.op("Gather", four, b.ints(i), axis=1) for i in (-2, -1))
    return _attend(b, q, k, v)


def _merged(b: Builder, x: str) -> str:
    """SAM's: heads merged with the batch before the three are told apart."""
    five = b.op("Reshape", _tokens(b, x, 18), b.ints(0, TOKENS, 3, 2, 3))
    turned = b.op("Reshape", b.op("Transpose", five, perm=[2, 0, 3, 1, 4]), b.ints(3, -1, TOKENS, 3))
    parts = [b.op("Gather", turned, b.constant(np.int64(i)), axis=0) for i in range(3)]
    return _attend(b, *(b.op("Reshape", part, b.ints(-1, 2, TOKENS, 3)) for part in parts))


CASES = {
    "merged": (_merged, "2 3 3"),
    "gathered": (_gathered, "2 3 3"),
    "split": (_split, "2 3 3"),
    "sliced": (_sliced, "2 3 3"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_picked_is_cut_apart(name: str, tmp_path: Path) -> None:
    place, inside = CASES[name]
    model, _ = build(Row(place, (6, SIDE, SIDE), batch="batch", opset=18))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    before = infer(from_onnx(path))
    after = picks_first(before)
    check_shapes(after)
    assert picks_first(after) is after
    x = np.random.default_rng(0).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    for name, array in zip(before.outputs, expected, strict=True):
        np.testing.assert_allclose(Session(after).run({"x": x})[name], array, rtol=1e-5, atol=1e-5)
    groups = [[str(g.size) for g in analyze(graph).groups if g.size < C - 1] for graph in (before, after)]
    assert set(inside.split()) <= set(groups[1]) and len(groups[1]) > len(groups[0])
    for seed in range(3):
        check(model, path, seed)


def _also_whole(b: Builder, x: str) -> str:
    four = b.op("Reshape", _tokens(b, x, 6), b.ints(0, TOKENS, 2, 3))
    parts = [b.op("Gather", four, b.ints(i), axis=2) for i in (1, 0)]
    both = b.op("Add", four, b.op("Concat", *parts, axis=2))
    flat = b.op("Transpose", b.op("Reshape", both, b.ints(0, TOKENS, 6)), perm=[0, 2, 1])
    return b.op("Reshape", flat, b.ints(0, 6, SIDE, SIDE))


def _one(b: Builder, x: str) -> str:
    five = b.op("Reshape", _tokens(b, x, 12), b.ints(0, TOKENS, 2, 6))
    last = b.op("Transpose", b.op("Gather", five, b.constant(np.int64(1)), axis=2), perm=[0, 2, 1])
    return b.op("Reshape", last, b.ints(0, 6, SIDE, SIDE))


@pytest.mark.parametrize("place", [_also_whole, _one])
def test_what_is_also_read_whole_stays(place: Callable[[Builder, str], str], tmp_path: Path) -> None:
    model, _ = build(Row(place, (6, SIDE, SIDE), batch="batch", opset=18))
    onnx.save(model, tmp_path / "model.onnx")
    graph = infer(from_onnx(tmp_path / "model.onnx"))
    assert picks_first(graph) is graph
