"""Channel shuffles spelled as Gathers: the same numbers, and every channel a choice of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from amcc.backends.runtime import Session
from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.load import load
from amcc.passes.channels import analyze
from amcc.passes.rewrite import check_shapes
from amcc.passes.shapes import infer
from amcc.passes.shuffles import shuffles_as_gathers
from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row
from tests.test_exactness import check
from tests.test_rules import build


def _five(b: Builder, x: str) -> str:
    """torchvision's and timm's."""
    split = b.op("Reshape", x, b.ints(0, 2, C // 2, SIDE, SIDE))
    return b.op("Reshape", b.op("Transpose", split, perm=[0, 2, 1, 3, 4]), b.ints(0, -1, SIDE, SIDE))


def _flat(b: Builder, x: str) -> str:
    """With space in one axis, and a copy in between."""
    split = b.op("Reshape", x, b.ints(0, 4, C // 4, SIDE * SIDE))
    turned = b.op("Identity", b.op("Transpose", split, perm=[0, 2, 1, 3]))
    return b.op("Reshape", turned, b.ints(0, C, SIDE, SIDE))


def _three(b: Builder, x: str) -> str:
    """Three factors turned round."""
    split = b.op("Reshape", x, b.ints(0, 2, 2, C // 4, SIDE, SIDE))
    return b.op("Reshape", b.op("Transpose", split, perm=[0, 3, 2, 1, 4, 5]), b.ints(0, C, SIDE, SIDE))


@pytest.mark.parametrize("place", [_five, _flat, _three])
def test_shuffles_become_gathers(place: object, tmp_path: Path) -> None:
    model, _ = build(Row(place, batch="batch"))  # type: ignore[arg-type]
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    before = infer(from_onnx(path))
    after = shuffles_as_gathers(before)
    check_shapes(after)
    assert [node.op for node in after.nodes[:3]] == ["Conv", "Gather", "Conv"]
    x = np.random.default_rng(0).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    for name, array in zip(before.outputs, expected, strict=True):
        np.testing.assert_allclose(Session(after).run({"x": x})[name], array, rtol=1e-5, atol=1e-5)
    assert analyze(after).groups[0].size == C
    assert all(group.size < C for group in analyze(before).groups)
    for seed in range(3):
        check(model, path, seed)


def _space(b: Builder, x: str) -> str:
    """Patches, not channels."""
    split = b.op("Reshape", x, b.ints(0, C, SIDE // 2, 2, SIDE // 2, 2))
    turned = b.op("Transpose", split, perm=[0, 3, 5, 1, 2, 4])
    return b.op("Reshape", turned, b.ints(0, 4 * C, SIDE // 2, SIDE // 2))


def _nothing(b: Builder, x: str) -> str:
    """There and back."""
    return b.op("Reshape", b.op("Reshape", x, b.ints(0, 2, C // 2, SIDE, SIDE)), b.ints(0, C, SIDE, SIDE))


def _across(b: Builder, x: str) -> str:
    """Channels and columns change places."""
    split = b.op("Reshape", x, b.ints(0, C, SIDE, SIDE))
    return b.op("Transpose", split, perm=[0, 3, 2, 1])


def _read_on(b: Builder, x: str) -> str:
    """The rectangular tensor is read by another node, too."""
    split = b.op("Reshape", x, b.ints(0, 2, C // 2, SIDE, SIDE))
    back = b.op("Reshape", b.op("Transpose", split, perm=[0, 2, 1, 3, 4]), b.ints(0, C, SIDE, SIDE))
    return b.op("Add", back, b.op("Reshape", b.op("Relu", split), b.ints(0, C, SIDE, SIDE)))


@pytest.mark.parametrize("place", [_space, _nothing, _across, _read_on])
def test_other_moves_stay(place: object, tmp_path: Path) -> None:
    after = (4 * C, SIDE // 2, SIDE // 2) if place is _space else (C, SIDE, SIDE)
    model, _ = build(Row(place, after, batch="batch"))  # type: ignore[arg-type]
    onnx.save(model, tmp_path / "model.onnx")
    graph = infer(from_onnx(tmp_path / "model.onnx"))
    assert shuffles_as_gathers(graph) is graph


def test_channels_behind_many_shuffles_stay_free(tmp_path: Path) -> None:
    """ShuffleNetV2's blocks: half of the channels go by, half through a branch, all are shuffled.

    The way of each channel is its own; the first two share theirs with no other, and one of each kind stays.
    """
    b = Builder(0, 17)
    x = b.op("Conv", "x", b.param(C, 3, 1, 1))
    for _ in range(5):
        left = b.op("Split", x, b.ints(C // 2, C // 2), outputs=2, axis=1)
        hidden = b.op("Relu", b.op("Conv", left[:-1] + "1", b.param(6, C // 2, 1, 1)))
        x = _five(b, b.op("Concat", left, b.op("Conv", hidden, b.param(C // 2, 6, 1, 1)), axis=1))
    b.put(b.op("Conv", x, b.param(4, C, 1, 1)), (2, 4, SIDE, SIDE))
    model = b.model()
    onnx.save(model, tmp_path / "model.onnx")
    channels = analyze(load(tmp_path / "model.onnx"))
    free = {int(i) for g in channels.groups for s in g.slices if s.param == "w0" and s.axis == 0 for i in s.flat}
    assert free == set(range(2, C))
    assert [lock.reason for lock in channels.ledger if lock.value == "w0"] == [
        "alone of its kind, and one of each stays"
    ]
    for seed in range(3):
        check(model, tmp_path / "model.onnx", seed)
