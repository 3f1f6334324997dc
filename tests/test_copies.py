"""Constants that repeat one number do not tie their readers together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from amcc.certificate import certify
from amcc.frontends.load import load
from amcc.ir import Graph
from amcc.masking import masked_file
from amcc.passes.channels import analyze
from amcc.passes.copies import own_constants
from amcc.passes.rewrite import shrink
from tests.random_graphs import Builder
from tests.test_exactness import random_removal


def two_norms(path: Path, scales: np.ndarray) -> Path:
    """Two group normalisations of unlike tensors that share their scales and offsets."""
    b = Builder(0)
    ones, zeros = b.constant(scales.astype(np.float32)), b.constant(np.zeros(4, np.float32))
    x = "x"
    for before, width in ((3, 8), (8, 12)):
        x = b.op("Conv", x, b.param(width, before, 1, 1), b.param(width))
        normal = b.op("InstanceNormalization", b.op("Reshape", x, b.ints(0, 4, -1)), ones, zeros)
        x = b.op("Reshape", normal, b.ints(2, width, 8, 8))
    b.put(b.op("Conv", x, b.param(5, 12, 1, 1)), (2, 5, 8, 8))
    onnx.save(b.model(), path)
    return path


def groups(graph: Graph) -> list[tuple[int, bool]]:
    return sorted((group.size, group.inexact) for group in analyze(graph).groups)


def test_readers_of_a_repeated_number_are_cut_apart(tmp_path: Path) -> None:
    path = two_norms(tmp_path / "m.onnx", np.ones(4))
    graph = load(path)
    norms = [node for node in graph.nodes if node.op == "InstanceNormalization"]
    assert set(norms[0].inputs[1:]).isdisjoint(norms[1].inputs[1:])
    assert groups(graph) == [(2, True), (3, True), (4, False), (4, False), (5, False)]
    assert own_constants(graph) is graph
    channels = analyze(graph)
    for seed in range(3):
        removal = random_removal(channels, np.random.default_rng(seed))
        assert masked_file(path, channels, removal) is not None, "the file's own constant stands for the copy"
        assert certify(path, channels, removal, shrink(channels, removal)).passed


def test_what_is_learnt_stays_tied(tmp_path: Path) -> None:
    graph = load(two_norms(tmp_path / "m.onnx", np.arange(1, 5)))
    assert groups(graph) == [(2, True), (3, True), (4, False), (5, False)]


def test_a_first_state_of_run_time_s_size_is_copied_too(tmp_path: Path) -> None:
    """Zeros of any batch, to which two unlike tensors are added."""
    b = Builder(0, batch="batch")
    sizes = b.op("Concat", b.op("Shape", "x", end=1), b.ints(8, 8, 8), axis=0)
    zeros, x = b.op("ConstantOfShape", sizes), "x"
    for before in (3, 8):
        x = b.op("Relu", b.op("Add", b.op("Conv", x, b.param(8, before, 1, 1)), zeros))
    b.put(b.op("Conv", x, b.param(5, 8, 1, 1)), (2, 5, 8, 8))
    path = tmp_path / "m.onnx"
    onnx.save(b.model(), path)
    graph = load(path)
    assert [size for size, _ in groups(graph) if size == 8] == [8, 8]
    channels = analyze(graph)
    removal = random_removal(channels, np.random.default_rng(1))
    assert certify(path, channels, removal, shrink(channels, removal)).passed
