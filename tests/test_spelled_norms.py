"""Normalisations that exporters spell out: what they leave free, and that every cut is certified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.certificate import certify
from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.spelled_norms import BOTH, FORMS, FREE, INEXACT, LOCKED, SIDE, C
from tests.test_exactness import check, random_removal


def network(names: list[str], seed: int, batch: int | str = 2) -> onnx.ModelProto:
    """Forms one after another between two convolutions."""
    b = Builder(seed, batch=batch)
    x = b.op("Conv", "x", b.param(C, 3, 1, 1), b.param(C))
    for name in names:
        x = FORMS[name][0](b, x)
    b.put(b.op("Conv", x, b.param(4, C, 1, 1)), (2, 4, SIDE, SIDE))
    return b.model()


@pytest.mark.parametrize("name", FORMS)
def test_what_a_form_leaves_free(name: str, tmp_path: Path) -> None:
    model, path = network([name], 0), tmp_path / "model.onnx"
    onnx.save(model, path)
    graph = infer(from_onnx(path))
    weight = graph.producers[graph.consumers["x"][0].outputs[0]].inputs[1]
    marks = {g.inexact for g in analyze(graph).groups for s in g.slices if (s.param, s.axis) == (weight, 0)}
    assert marks == {FREE: {False}, INEXACT: {True}, BOTH: {False, True}, LOCKED: set()}[FORMS[name][1]]
    exact = [g for g in analyze(graph, exact=True).groups for s in g.slices if (s.param, s.axis) == (weight, 0)]
    assert bool(exact) == (FORMS[name][1] in (FREE, BOTH))
    assert not any(g.inexact for g in exact)
    check(model, path, 1)


@pytest.mark.parametrize("by", ["means", "BatchNormalization"])
def test_standardised_weights_become_constants_whatever_their_size(by: str, tmp_path: Path) -> None:
    b = Builder(0)
    weight, wide = b.param(130, 64, 3, 3), 64 * 9
    rows = b.op("Reshape", weight, b.ints(1, 130, -1))
    mean = b.op("ReduceMean", rows, axes=[0, 2])
    centred = b.op("Sub", rows, b.op("Reshape", mean, b.ints(1, 130, 1)))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes=[0, 2])
    if by == "means":
        deviation = b.op(
            "Sqrt", b.op("Add", b.op("Reshape", variance, b.ints(1, 130, 1)), b.constant(np.float32(1e-6)))
        )
        normal = b.op("Mul", b.op("Div", centred, deviation), b.constant(np.float32(wide**-0.5)))
    else:
        flat = [b.op("Reshape", x, b.ints(130)) for x in (mean, variance)]
        scale = b.constant(np.full(130, wide**-0.5, np.float32))
        normal = b.op("BatchNormalization", rows, scale, b.constant(np.zeros(130, np.float32)), *flat)
    x = b.op("Conv", "x", b.param(64, 3, 1, 1), b.param(64))
    x = b.op("Conv", x, b.op("Reshape", normal, b.ints(130, 64, 3, 3)), pads=[1] * 4)
    b.put(b.op("Conv", x, b.param(4, 130, 1, 1)), (2, 4, SIDE, SIDE))
    path = tmp_path / "model.onnx"
    onnx.save(b.model(), path)
    graph = infer(from_onnx(path))
    assert all(node.inputs[1] in graph.params for node in graph.nodes if node.op == "Conv")
    assert [(g.size, g.inexact) for g in analyze(graph).groups] == [(64, False), (130, False), (4, False)]
    check(b.model(), path, 0)


def test_weights_standardised_at_run_time(tmp_path: Path) -> None:
    """Normalised as a batch in training: statistics over input channels are inexact, output channels go exactly."""
    b, path = Builder(0), tmp_path / "model.onnx"
    rows = b.op("Reshape", b.param(6, C, 3, 3), b.ints(1, 6, -1))
    zeros, ones = (b.constant(np.full(6, value, np.float32)) for value in (0, 1))
    normal = b.op("BatchNormalization", rows, b.param(6, positive=True), zeros, zeros, ones, outputs=3, training_mode=1)
    x = b.op("Conv", "x", b.param(C, 3, 1, 1), b.param(C))
    x = b.op("Conv", x, b.op("Reshape", normal, b.ints(6, C, 3, 3)), pads=[1] * 4)
    b.put(b.op("Conv", x, b.param(4, 6, 1, 1)), (2, 4, SIDE, SIDE))
    onnx.save(b.model(), path)
    channels = analyze(infer(from_onnx(path), fold_params=False))
    assert {(g.size, g.inexact) for g in channels.groups} == {(C, True), (6, False), (4, False)}
    for seed in range(3):
        removal = random_removal(channels, np.random.default_rng(seed))
        assert certify(path, channels, removal, shrink(channels, removal)).passed


def test_heads_merged_with_a_batch_of_unknown_size(tmp_path: Path) -> None:
    model, path = network(["attention of merged heads"], 0, "batch"), tmp_path / "model.onnx"
    onnx.save(model, path)
    groups = {(g.size, g.inexact) for g in analyze(infer(from_onnx(path))).groups}
    assert groups >= {(2, False), (6, True), (6, False)}, "heads, the width of queries and keys, that of values"
    for seed in range(3):
        check(model, path, seed)


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.sampled_from(list(FORMS)), min_size=2, max_size=4), seed=st.integers(0, 999))
def test_forms_together(tmp_path_factory: pytest.TempPathFactory, names: list[str], seed: int) -> None:
    check(network(names, seed), tmp_path_factory.getbasetemp() / "norms.onnx", seed)
