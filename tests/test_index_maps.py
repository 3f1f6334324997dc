"""Index maps that one row for an operator does not show: steps, repeats, sizes and batches known at run time."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row
from tests.test_exactness import check
from tests.test_rules import build


def _slice(b: Builder, x: str, axes: list[int], *bounds: list[int]) -> str:
    starts, ends, steps = (b.ints(*column) for column in bounds)
    return b.op("Slice", x, starts, ends, b.ints(*axes), steps)


def _batch(b: Builder, x: str) -> str:
    return b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1))


def _sized(b: Builder, x: str, *sizes: int) -> str:
    """A shape with a batch that run time knows in front."""
    return b.op("Concat", _batch(b, x), b.ints(*sizes), axis=0)


def _repeated_heads(b: Builder, x: str) -> str:
    """Every half of the channels three times, as grouped queries repeat their keys."""
    halves = b.op("Unsqueeze", b.op("Reshape", x, _sized(b, x, 2, 4, 64)), b.ints(2))
    return b.op("Reshape", b.op("Expand", halves, _sized(b, x, 2, 3, 4, 64)), _sized(b, x, 24, SIDE, SIDE))


def _merged_batch(b: Builder, x: str) -> str:
    """Two heads merged with the batch for a product, behind the tokens."""
    rows = b.op("Transpose", b.op("Reshape", x, _sized(b, x, C, 64)), perm=[2, 0, 1])
    heads = b.op("Transpose", b.op("Reshape", rows, b.ints(64, -1, 4)), perm=[1, 0, 2])
    scores = b.op("Softmax", b.op("MatMul", heads, b.op("Transpose", heads, perm=[0, 2, 1])), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, heads), perm=[1, 0, 2])
    last = b.op("Transpose", b.op("Reshape", mixed, b.ints(64, -1, C)), perm=[1, 2, 0])
    return b.op("Reshape", last, _sized(b, x, C, SIDE, SIDE))


def _two_unknown(b: Builder, x: str) -> str:
    """A Reshape of which run time knows two lengths."""
    wide = b.op("Concat", x, x, axis=0)
    pair = b.op("Reshape", wide, b.op("Concat", b.ints(2), _batch(b, x), b.ints(2, 4, SIDE, SIDE), axis=0))
    whole = b.op("Slice", b.op("Shape", wide), b.ints(0), b.ints(1))
    flat = b.op("Reshape", pair, b.op("Concat", whole, b.ints(C, SIDE, SIDE), axis=0))
    return b.op("Slice", flat, b.ints(0), _batch(b, x), b.ints(0))


def _filled(b: Builder, x: str) -> str:
    shape = b.op("Concat", _batch(b, x), b.ints(C, 1, 1), axis=0)
    return b.op("Mul", x, b.op("Add", b.op("ConstantOfShape", shape), b.op("GlobalMaxPool", x)))


def _cached(b: Builder, x: str) -> str:
    """Attention on four axes behind a cache of three tokens; what is cached is read again."""
    tokens = b.op("Transpose", b.op("Reshape", x, b.ints(2, C, 64)), perm=[0, 2, 1])
    q, k, v = (
        b.op(
            "Transpose",
            b.op("Reshape", b.op("MatMul", tokens, b.param(C, n * d)), b.ints(0, 64, n, d)),
            perm=[0, 2, 1, 3],
        )
        for n, d in ((4, 2), (2, 2), (2, 3))
    )
    y = b.op("Attention", q, k, v, "", b.param(2, 2, 3, 2), b.param(2, 2, 3, 3), outputs=3)
    keys, values = (b.op("Slice", y[:-1] + i, b.ints(3), b.ints(67), b.ints(2)) for i in "12")
    known = b.op("Add", values, b.op("MatMul", keys, b.param(2, 3)))
    whole = b.op("Concat", y, known, axis=1)
    return b.op("Reshape", b.op("Transpose", whole, perm=[0, 1, 3, 2]), b.ints(2, 18, SIDE, SIDE))


def _tiled(b: Builder, x: str) -> str:
    repeats = b.op("Concat", _batch(b, x), b.ints(1, SIDE, SIDE), axis=0)
    return b.op("Add", x, b.op("Tile", b.param(1, C, 1, 1), repeats))


CASES = {
    "backwards": Row(lambda b, x: _slice(b, x, [1], [-1], [-1000], [-1])),
    "every second": Row(lambda b, x: _slice(b, x, [1], [1], [100], [2]), (4, SIDE, SIDE)),
    "every third from the back, two axes": Row(
        lambda b, x: _slice(b, x, [1, 2], [7, 0], [0, 100], [-3, 2]), (3, 4, SIDE)
    ),
    "even and odd swapped": Row(
        lambda b, x: b.op("Concat", *(_slice(b, x, [1], [k], [8], [2]) for k in (1, 0)), axis=1), batch="batch"
    ),
    "hundreds of parts": Row(lambda b, x: b.op("Concat", *[x] * 300, axis=1), (300 * C, SIDE, SIDE)),
    "uneven parts": Row(
        lambda b, x: b.op("Split", x, b.ints(5, 1, 2), outputs=3, axis=1), (5, SIDE, SIDE), batch="batch"
    ),
    "tiled both ways": Row(lambda b, x: b.op("Tile", x, b.ints(1, 2, 1, 3)), (2 * C, SIDE, 3 * SIDE)),
    "tiled over a batch": Row(_tiled, batch="batch"),
    "repeated heads": Row(_repeated_heads, (24, SIDE, SIDE), batch="batch"),
    "heads merged with the batch": Row(_merged_batch, batch="batch", macs=2 * 2 * 64 * 64 * C),
    "two lengths at run time": Row(_two_unknown, batch="batch"),
    "cached keys and values": Row(_cached, (18, SIDE, SIDE), opset=23),
    "filled at run time": Row(_filled, batch="batch"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_index_map(name: str, tmp_path: Path) -> None:
    model, _ = build(CASES[name])
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    free = {s.param for group in analyze(infer(from_onnx(path))).groups for s in group.slices if s.axis == 0}
    assert "w0" in free
    for seed in range(4):
        check(model, path, seed)
