"""Operators that compute over channels, in the forms that rows of `tests.test_rules` leave out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.test_exactness import check

C, SIDE = 8, 8
Form = Callable[[Builder, str], str]
FREE, INEXACT, LOCKED = {False}, {True}, set[bool]()


def _all(b: Builder, x: str) -> str:
    return b.op("Mul", x, b.op("ReduceSum", b.op("Mul", x, b.constant(np.float32(0.05)))))


def _top(b: Builder, x: str) -> str:
    values = b.op("TopK", x, b.ints(C), outputs=2, axis=1)
    return b.op("Add", values, b.op("Cast", values[:-1] + "1", to=1))


def _pooled_indices(b: Builder, x: str) -> str:
    pooled = b.op("MaxPool", x, outputs=2, kernel_shape=[1, 1])
    return b.op("Add", pooled, b.op("Cast", pooled[:-1] + "1", to=1))


def _circular(b: Builder, x: str) -> str:
    """Efficient channel attention over a ring of channels (CECA)."""
    line = b.op("Reshape", b.op("GlobalAveragePool", x), b.ints(0, 1, C))
    ring = b.op("Pad", line, b.ints(0, 0, 2, 0, 0, 2), mode="wrap")
    gate = b.op("Reshape", b.op("Conv", ring, b.param(1, 1, 5)), b.ints(2, C, 1, 1))
    return b.op("Mul", x, b.op("Sigmoid", gate))


def _cumulative(op: str) -> Form:
    return lambda b, x: b.op(op, x, b.constant(np.int64(-3)), reverse=1, exclusive=1)


FORMS: dict[str, tuple[int, Form, set[bool]]] = {
    "a flattening softmax": (11, lambda b, x: b.op("Softmax", x, axis=1), INEXACT),
    "a flattening softmax over space": (12, lambda b, x: b.op("LogSoftmax", x, axis=2), FREE),
    "a softmax over space": (13, lambda b, x: b.op("Softmax", x, axis=2), FREE),
    "an absolute norm": (17, lambda b, x: b.op("LpNormalization", x, axis=1, p=1), FREE),
    "a running sum from behind": (17, _cumulative("CumSum"), FREE),
    "a sum over everything": (17, _all, FREE),
    "a norm over channels and space": (
        17,
        lambda b, x: b.op("LayerNormalization", x, b.param(C, 1, SIDE), b.param(1, 1, SIDE), axis=1),
        INEXACT,
    ),
    "statistics of each channel": (17, lambda b, x: b.op("MeanVarianceNormalization", x), FREE),
    "the largest, sorted": (17, _top, LOCKED),
    "the largest channel's number": (
        17,
        lambda b, x: b.op("Add", x, b.op("Cast", b.op("ArgMax", x, axis=1), to=1)),
        LOCKED,
    ),
    "a window on a ring of channels": (19, _circular, INEXACT),
    "indices into the whole tensor": (17, _pooled_indices, LOCKED),
}


@pytest.mark.parametrize("name", FORMS)
def test_form(name: str, tmp_path: Path) -> None:
    opset, place, marks = FORMS[name]
    b, path = Builder(0, opset=opset), tmp_path / "model.onnx"
    x = place(b, b.op("Conv", "x", b.param(C, 3, 1, 1), b.param(C)))
    b.put(b.op("Conv", x, b.param(4, C, 1, 1)), (2, 4, SIDE, SIDE))
    onnx.save(b.model(), path)
    groups = analyze(infer(from_onnx(path))).groups
    assert {g.inexact for g in groups for s in g.slices if (s.param, s.axis) == ("w0", 0)} == marks
    for seed in range(3):
        check(b.model(), path, seed)
