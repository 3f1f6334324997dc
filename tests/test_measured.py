"""Lengths read at run time: numbers stay as they were, and whoever spells a shape with them spells its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from amcc.backends.runtime import Session
from amcc.certificate import certify
from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import Channels, analyze
from amcc.passes.rewrite import check_shapes, shrink
from amcc.passes.shapes import infer
from amcc.synthetic import synthetic
from tests.random_graphs import Builder, convolutional, measured
from tests.test_exactness import check

HEADS, WIDTH, C, T = 4, 6, 24, 5
Case = Callable[[Builder], onnx.ModelProto]


def finished(b: Builder, *outputs: str) -> onnx.ModelProto:
    """A network of sequences `[batch, 5, 24]`."""
    graph = helper.make_graph(
        b.nodes,
        "measured",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", T, C])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        b.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def heads(b: Builder) -> str:
    """`[batch, heads, tokens, width]` from weights of its own."""
    wide = b.op("Reshape", b.op("MatMul", "x", b.param(C, HEADS * WIDTH)), b.ints(0, 0, HEADS, WIDTH))
    return b.op("Transpose", wide, perm=[0, 2, 1, 3])


def joined(b: Builder, y: str) -> str:
    """A product over heads and width."""
    flat = b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), b.ints(0, 0, HEADS * WIDTH))
    return b.op("MatMul", flat, b.param(HEADS * WIDTH, 3))


def merged(b: Builder, y: str) -> str:
    """Heads merged with the batch, as older PyTorch spells it."""
    return b.op("Reshape", y, b.ints(-1, T, WIDTH))


def parted(b: Builder, y: str) -> str:
    """The inverse."""
    return b.op("Reshape", y, b.ints(-1, HEADS, T, WIDTH))


def ones_like_other_heads(b: Builder) -> onnx.ModelProto:
    """A product of ones, in the shape of heads that may go, with heads that then stay."""
    q, v = heads(b), heads(b)
    total = b.reduce("ReduceSum", q, 3)
    ones = b.op("ConstantOfShape", b.op("Shape", total), value=helper.make_tensor("one", 1, [1], [1.0]))
    return finished(b, joined(b, b.op("Mul", ones, v)), joined(b, q))


def merged_like_another(b: Builder) -> onnx.ModelProto:
    """A length that is a multiple of the batch, read off other heads."""
    one, other = merged(b, heads(b)), heads(b)
    same = b.op("Reshape", other, b.op("Shape", one))
    return finished(b, joined(b, parted(b, one)), joined(b, parted(b, same)))


def spread_over_merged_heads(b: Builder) -> onnx.ModelProto:
    """A sum over the width spread out to the shape of other heads."""
    one, other = merged(b, heads(b)), merged(b, heads(b))
    spread = b.op("Expand", b.reduce("ReduceSum", other, 2), b.op("Shape", one))
    return finished(b, joined(b, parted(b, one)), joined(b, parted(b, spread)))


def resized_as_merged(b: Builder) -> onnx.ModelProto:
    """Sizes of which one is a multiple of the batch, and shrinks with the heads."""
    one, other = (b.op("Unsqueeze", merged(b, heads(b)), b.ints(1)) for _ in range(2))
    largest = b.op("ReduceMax", other, axes=[2])
    same = b.op("Resize", largest, "", "", b.op("Shape", one), mode="nearest")
    return finished(b, *(joined(b, parted(b, b.op("Squeeze", y, b.ints(1)))) for y in (one, same)))


def scaled_by_its_width(b: Builder) -> onnx.ModelProto:
    """An attention whose scale is computed from the whole shape of its queries, which only run time knows."""
    q, k, v = heads(b), heads(b), heads(b)
    lengths = b.op("Cast", b.op("Shape", q), to=1)
    width = b.op("ReduceMax", b.op("Mul", lengths, b.constant(np.array([0, 0, 0, 1], np.float32))), keepdims=0)
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    weights = b.op("Softmax", b.op("Div", scores, b.op("Sqrt", width)))
    return finished(b, joined(b, b.op("MatMul", weights, v)))


def divided_by_its_size(b: Builder) -> onnx.ModelProto:
    """A mean as a sum and a count: of what there was."""
    q = heads(b)
    count = b.op("Cast", b.op("Size", q), to=1)
    return finished(b, joined(b, b.op("Div", q, b.op("Log", count))))


def its_shape_is_an_output(b: Builder) -> onnx.ModelProto:
    """The user asks for the lengths themselves."""
    q = heads(b)
    lengths = b.op("Cast", b.op("Shape", q), to=1)
    return finished(b, joined(b, q), lengths)


CASES = (
    ones_like_other_heads,
    merged_like_another,
    spread_over_merged_heads,
    resized_as_merged,
    scaled_by_its_width,
    divided_by_its_size,
    its_shape_is_an_output,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_random_cuts(case: Case, tmp_path: Path) -> None:
    shares = [check(case(Builder(seed)), tmp_path / "model.onnx", seed) for seed in range(6)]
    assert np.median(shares) > 0.1, "heads and widths can go"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_group_alone(case: Case, tmp_path: Path) -> None:
    """No length is right by chance, as it may be where all shrink alike."""
    path = tmp_path / "model.onnx"
    channels = analyzed(case, path)
    assert len(channels.groups) > 1
    for group in channels.groups:
        removal = {group.index: np.array([1])}
        shrunk = shrink(channels, removal)
        check_shapes(shrunk)
        assert certify(path, channels, removal, shrunk).error < 1e-5


def test_a_shape_given_to_the_user_is_that_of_the_original(tmp_path: Path) -> None:
    channels = analyzed(its_shape_is_an_output, tmp_path / "model.onnx")
    inputs = synthetic(channels.graph, 2, seed=0).inputs
    shrunk = shrink(channels, {group.index: np.array([0]) for group in channels.groups})
    before, after = (Session(graph).run(inputs) for graph in (channels.graph, shrunk))
    lengths = channels.graph.outputs[1]
    assert after[lengths].tolist() == before[lengths].tolist()
    assert after[lengths].tolist()[1::2] == [HEADS, WIDTH]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 6))
def test_random_spellings(tmp_path_factory: pytest.TempPathFactory, seed: int, length: int) -> None:
    b = Builder(seed, (17, 23, 11, 20, 12)[seed % 5], "batch")
    convolutional.conv(b, b.pool[0])
    for _ in range(length):
        family = (measured, measured, convolutional)[b.pick(0, 2)].GROWTHS
        with contextlib.suppress(LookupError):  # older operator sets lack some
            family[b.pick(0, len(family) - 1)](b, b.pool[1:][-b.pick(1, min(4, len(b.pool) - 1))])
    path = tmp_path_factory.getbasetemp() / "measured.onnx"
    check(b.model(), path, seed, exact=seed % 3 == 0, spelled=seed % 4 > 0)


def analyzed(case: Case, path: Path) -> Channels:
    onnx.save(case(Builder(0)), path)
    return analyze(infer(from_onnx(path)))
