"""Sizes that `--input-shape` fixes for the analysis stay free in what is written, with ONNX Runtime as oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto

from amcc import api
from amcc.certificate import difference
from amcc.errors import VerificationError
from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.load import load
from amcc.ir import Array, Shape
from amcc.masking import masked_file
from amcc.passes.channels import analyze
from amcc.passes.inputs import unbind_inputs
from amcc.passes.probing import probes
from amcc.planning import removal_of
from amcc.reopened import free_shapes, variants
from amcc.report import summary_lines
from tests.onnx_models import drawn, model, node, runtime, save

SMALL: Mapping[str, Shape] = {"x": (1, 3, 16, 16)}
TEXT: Mapping[str, Shape] = {"x": (1, 6, 8), "mask": (1, 6)}
WIDTH, HEADS, EACH = 8, 2, 8


def pictures(
    *after: NodeProto, extra: Mapping[str, Array] | None = None, **shapes: list[int | str | None]
) -> onnx.ModelProto:
    """Two convolutions over pictures of any size, and what comes after `b`."""
    conv, more = drawn(16, 3, 3, 3), drawn(8, 16, 3, 3, seed=1)
    nodes = [
        node("Conv", ["x", "conv", "bias"], "a", pads=[1] * 4),
        node("Relu", ["a"], "r"),
        node("Conv", ["r", "more"], "b", pads=[1] * 4, strides=[2, 2]),
        *after,
    ]
    params = {"conv": conv / 5, "bias": drawn(16), "more": more / 12, **(extra or {})}
    return model(nodes, {"x": ["n", 3, "h", "w"], **shapes}, ["y"], params)


def segmenter() -> onnx.ModelProto:
    """Resized to its input's size, which it reads at run time."""
    return pictures(
        node("Relu", ["b"], "c"),
        node("Conv", ["c", "last"], "d"),
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "spatial"], "hw"),
        node("Shape", ["d"], "t"),
        node("Gather", ["t", "front"], "nc"),
        node("Concat", ["nc", "hw"], "size", axis=0),
        node("Resize", ["d", "", "", "size"], "y", mode="nearest"),
        extra={
            "last": drawn(2, 8, 1, 1, seed=2),
            "spatial": np.array([2, 3], np.int64),
            "front": np.array([0, 1], np.int64),
        },
    )


def baked_in() -> onnx.ModelProto:
    """A classifier that says that pictures may have any size, and has weights for one."""
    return pictures(
        node("Flatten", ["b"], "f"),
        node("Gemm", ["f", "dense"], "y"),
        extra={"dense": drawn(8 * 8 * 8, 4, seed=3)},
    )


def half_baked_in() -> onnx.ModelProto:
    """Reads columns of one height, one after another, as text recognition does."""
    return pictures(
        node("Transpose", ["b"], "t", perm=[0, 3, 1, 2]),
        node("Reshape", ["t", "columns"], "c"),
        node("MatMul", ["c", "dense"], "y"),
        extra={"dense": drawn(8 * 8, 4, seed=3), "columns": np.array([0, 0, 8 * 8], np.int64)},
    )


def padded() -> onnx.ModelProto:
    """Pads its pictures to a multiple of four, as it finds at run time."""
    return pictures(
        node("Shape", ["b"], "s"),
        node("Gather", ["s", "spatial"], "hw"),
        node("Neg", ["hw"], "minus"),
        node("Mod", ["minus", "four"], "missing"),
        node("Concat", ["none", "missing"], "pads", axis=0),
        node("Pad", ["b", "pads"], "p"),
        node("Relu", ["p"], "c"),
        node("Conv", ["c", "last"], "y", strides=[4, 4]),
        extra={
            "last": drawn(2, 8, 4, 4, seed=2) / 9,
            "spatial": np.array([2, 3], np.int64),
            "four": np.array([4], np.int64),
            "none": np.zeros(6, np.int64),
        },
    )


def pyramid() -> onnx.ModelProto:
    """Adds what it halved twice and doubled again: runs at multiples of four."""
    return pictures(
        node("Conv", ["b", "down"], "d", pads=[1] * 4, strides=[2, 2]),
        node("Resize", ["d", "", "scales"], "u", mode="nearest"),
        node("Add", ["b", "u"], "s"),
        node("Conv", ["s", "last"], "y"),
        extra={
            "down": drawn(8, 8, 3, 3, seed=2) / 9,
            "last": drawn(2, 8, 1, 1, seed=3),
            "scales": np.array([1, 1, 2, 2], np.float32),
        },
    )


def transformer() -> onnx.ModelProto:
    """A block of attention over a sequence whose length is read at run time."""
    inner = HEADS * EACH
    matrices = {
        "wq": drawn(WIDTH, inner, seed=1),
        "wk": drawn(WIDTH, inner, seed=2),
        "wv": drawn(WIDTH, inner, seed=3),
        "wo": drawn(inner, WIDTH, seed=4),
        "up": drawn(WIDTH, 32, seed=5),
        "down": drawn(32, WIDTH, seed=6),
    }
    params: dict[str, Array] = {name: array / 4 for name, array in matrices.items()}
    params |= {name: np.array([i], np.int64) for name, i in (("zero", 0), ("one", 1), ("heads", HEADS), ("each", EACH))}
    params |= {"width": np.array([inner], np.int64), "two": np.array([1, 2], np.int64)}
    nodes = [
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "zero"], "n"),
        node("Gather", ["s", "one"], "length"),
        node("Concat", ["n", "length", "heads", "each"], "split", axis=0),
        node("Concat", ["n", "length", "width"], "joined", axis=0),
    ]
    for key, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", ["x", f"w{key}"], f"{key}0"),
            node("Reshape", [f"{key}0", "split"], f"{key}1"),
            node("Transpose", [f"{key}1"], key, perm=perm),
        ]
    nodes += [
        node("MatMul", ["q", "k"], "scores"),
        node("Unsqueeze", ["mask", "two"], "bias"),
        node("Add", ["scores", "bias"], "masked"),
        node("Softmax", ["masked"], "shares", axis=-1),
        node("MatMul", ["shares", "v"], "mixed"),
        node("Transpose", ["mixed"], "back", perm=[0, 2, 1, 3]),
        node("Reshape", ["back", "joined"], "flat"),
        node("MatMul", ["flat", "wo"], "out"),
        node("Add", ["x", "out"], "z"),
        node("MatMul", ["z", "up"], "wide"),
        node("Relu", ["wide"], "hidden"),
        node("MatMul", ["hidden", "down"], "narrow"),
        node("Add", ["z", "narrow"], "y"),
    ]
    return model(nodes, {"x": ["n", "length", WIDTH], "mask": ["n", "length"]}, ["y"], params)


def compiled(path: Path, shapes: Mapping[str, Shape], recover: str = "none") -> api.Result:
    return api.compile(
        path,
        budget="flops=0.5",
        search="uniform",
        recover=recover,
        input_shapes=shapes,
        out=path.parent / "out",
        threads=1,
        calib_samples=40,
        eval_samples=20,
    )


def declared(path: Path) -> list[list[int | str]]:
    inputs = onnx.load(path).graph.input
    return [[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in inputs]


def outputs(source: Path | onnx.ModelProto, feeds: Mapping[str, Array]) -> Array:
    session = runtime(source if isinstance(source, Path) else source.SerializeToString())
    return np.asarray(session.run(["y"], dict(feeds))[0])


def masked(path: Path, result: api.Result) -> onnx.ModelProto:
    """The user's file with the removed units masked."""
    channels = analyze(result.original)
    made = masked_file(path, channels, removal_of(result.plan, channels))
    assert made is not None
    return made


def test_a_convolutional_network_keeps_height_and_width_free(tmp_path: Path) -> None:
    path = save(segmenter(), tmp_path)
    result = compiled(path, SMALL)
    written = tmp_path / "out" / "model.onnx"
    assert declared(written) == [["n", 3, "h", "w"]]
    assert not [w for w in result.summary.warnings if "model.onnx" in w]
    (line,) = result.summary.free
    assert (line.input, line.shape) == ("x", ("n", 3, "h", "w"))
    assert line.checked == ((1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 19, 19))
    assert any("[n, 3, h, w\\]" in t or "[n, 3, h, w]" in t for t in summary_lines(result.summary))
    expected = masked(path, result)
    for shape in ((1, 3, 16, 16), (3, 3, 24, 40), (2, 3, 9, 7)):
        feeds = {"x": drawn(*shape)}
        assert difference(outputs(written, feeds), outputs(expected, feeds)) < 1e-5
        assert outputs(written, feeds).shape == outputs(path, feeds).shape


def test_the_result_in_memory_is_what_is_written(tmp_path: Path) -> None:
    result = compiled(save(segmenter(), tmp_path), SMALL)
    assert result.reopened is not None
    feeds = {"x": drawn(2, 3, 10, 12)}
    assert np.array_equal(outputs(result.onnx(), feeds), outputs(tmp_path / "out" / "model.onnx", feeds))
    assert result.graph.shape("x") == ("n", 3, 16, 16)


def test_a_sequence_keeps_its_length_free_in_all_inputs(tmp_path: Path) -> None:
    path = save(transformer(), tmp_path)
    result = compiled(path, TEXT)
    written = tmp_path / "out" / "model.onnx"
    assert declared(written) == [["n", "length", WIDTH], ["n", "length"]]
    assert [line.checked[1] for line in result.summary.free] == [(1, 12, 8), (1, 12)]
    assert result.summary.totals.params.ratio < 0.8
    expected = masked(path, result)
    for n, length in ((1, 6), (2, 11), (3, 1)):
        feeds = {"x": drawn(n, length, WIDTH), "mask": drawn(n, length)}
        assert difference(outputs(written, feeds), outputs(expected, feeds)) < 1e-5


@pytest.mark.parametrize(("build", "shapes"), [(segmenter, SMALL), (transformer, TEXT)])
def test_recovered_weights_are_those_of_the_fixed_network(
    build: object, shapes: Mapping[str, Shape], tmp_path: Path
) -> None:
    assert callable(build)
    path = save(build(), tmp_path)
    result = compiled(path, shapes, recover="full")
    pure = masked(path, result)
    feeds = {name: drawn(2, *(int(d) for d in shape[1:])) for name, shape in shapes.items()}
    found = outputs(tmp_path / "out" / "model.onnx", feeds)
    from amcc.backends.runtime import Session

    assert difference(found, Session(result.graph, threads=1).run(feeds)["y"]) < 1e-5
    assert difference(found, outputs(pure, feeds)) > 1e-3
    assert result.summary.free
    checks = api.verify(path, tmp_path / "out", input_shapes=shapes).checks
    assert any("recovery or training changed" in check for check in checks)


def test_a_size_that_is_baked_in_stays_fixed_and_says_why(tmp_path: Path) -> None:
    path = save(baked_in(), tmp_path)
    result = compiled(path, SMALL)
    assert declared(tmp_path / "out" / "model.onnx") == [["n", 3, 16, 16]]
    assert not result.summary.free and result.reopened is None
    (why,) = (w for w in result.summary.warnings if "model.onnx" in w)
    assert "x [n, 3, 16, 16] only" in why and "more" in why
    assert "free" not in json.loads((tmp_path / "out" / "summary.json").read_text())
    assert api.verify(path, tmp_path / "out", input_shapes=SMALL).certificate.passed


def test_of_two_sizes_the_one_that_can_stays_free(tmp_path: Path) -> None:
    path = save(half_baked_in(), tmp_path)
    result = compiled(path, SMALL)
    written = tmp_path / "out" / "model.onnx"
    assert declared(written) == [["n", 3, 16, "w"]]
    assert any("x [n, 3, 16, w] only" in w for w in result.summary.warnings)
    feeds = {"x": drawn(2, 3, 16, 50)}
    assert difference(outputs(written, feeds), outputs(masked(path, result), feeds)) < 1e-5
    assert len(api.verify(path, tmp_path / "out", input_shapes=SMALL).checks) == 5


def test_what_pads_to_a_multiple_does_so_at_every_size(tmp_path: Path) -> None:
    path = save(padded(), tmp_path)
    result = compiled(path, SMALL)
    written = tmp_path / "out" / "model.onnx"
    assert declared(written) == [["n", 3, "h", "w"]]
    expected = masked(path, result)
    for shape in ((1, 3, 16, 16), (2, 3, 17, 21), (1, 3, 23, 18)):
        feeds = {"x": drawn(*shape)}
        assert difference(outputs(written, feeds), outputs(expected, feeds)) < 1e-5


def test_a_network_for_multiples_of_its_stride_stays_free(tmp_path: Path) -> None:
    path = save(pyramid(), tmp_path)
    result = compiled(path, SMALL)
    written = tmp_path / "out" / "model.onnx"
    assert result.summary.free[0].shape == ("n", 3, "h", "w")
    with pytest.raises(Exception, match="dimension"):
        outputs(path, {"x": drawn(1, 3, 17, 17)})
    assert len(analyze(load(path, input_shapes={"x": ("n", 3, "h", "w")})).groups) == len(result.plan.groups)
    feeds = {"x": drawn(2, 3, 8, 40)}
    assert difference(outputs(written, feeds), outputs(masked(path, result), feeds)) < 1e-5


def test_a_network_that_was_read_wrongly_stays_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(padded(), tmp_path)
    divisible = ({"n": 1680, "h": 3120, "w": 4560}, {"n": 2640, "h": 4080, "w": 5520})
    monkeypatch.setattr("amcc.passes.shapes.probes", lambda graph: divisible)
    result = compiled(path, SMALL)
    assert declared(tmp_path / "out" / "model.onnx") == [["n", 3, 16, 16]]
    assert any("another network at x [1, 3, 19, 19]" in w for w in result.summary.warnings)


def test_verify_compares_weights_and_both_sizes(tmp_path: Path) -> None:
    path = save(segmenter(), tmp_path)
    compiled(path, SMALL)
    found = api.verify(path, tmp_path / "out", input_shapes=SMALL)
    assert found.certificate.passed and "weights are slices of the original's" in found.checks
    assert "x [1, 3, 32, 32]" in found.checks[-2] and "x [1, 3, 19, 19]" in found.checks[-1]


def test_verify_finds_other_weights_in_a_free_network(tmp_path: Path) -> None:
    path, other = save(segmenter(), tmp_path), segmenter()
    compiled(path, SMALL)
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(drawn(16, 3, 3, 3, seed=9), "conv"))
    with pytest.raises(VerificationError, match=r"'conv' is not a slice"):
        api.verify(save(other, tmp_path, "other.onnx"), tmp_path / "out", input_shapes=SMALL)


def test_names_keep_sizes_free_as_before_and_numbers_the_file_has_fix_nothing(tmp_path: Path) -> None:
    path = save(segmenter(), tmp_path)
    assert not free_shapes(path, {"x": (1, 3, "h", "w")})
    assert not free_shapes(path, {"x": ("n", 3, "rows", "w")})
    fixed = save(pictures(node("Relu", ["b"], "y"), x=["n", 3, 16, 16]), tmp_path, "fixed.onnx")
    assert not free_shapes(fixed, SMALL)


def test_shapes_that_keep_what_numbers_fix() -> None:
    file: dict[str, Shape | None] = {"x": ("?", 3, "?", "?"), "y": ("?", "s"), "z": None, "k": ()}
    given: dict[str, Shape] = {"x": (1, 3, 8, "w"), "z": (4, 5)}
    assert unbind_inputs(file, given) == {"x": (1, 3, "x_2", "w"), "y": (1, "s"), "z": ("z_0", "z_1")}
    assert unbind_inputs({"x": ("n", "s"), "y": ("s", 2)}, {"x": (1, 7)}) == {"x": ("n", "s"), "y": ("s", 2)}
    assert unbind_inputs({"x": ("n", "s"), "y": ("n",)}, {"x": ("batch", 7)}) == {"x": ("batch", "s"), "y": ("batch",)}
    assert unbind_inputs({"x:0": (2, "?"), "y": ("x_0_1",)}, {"x:0": (2, 7)})["x:0"] == (2, "x_0_1'")
    assert unbind_inputs({"x": ("n", 3)}, {"x": (1, 3)}) == {}
    free = {"x": ("n", 3, "h", "w"), "y": ("n", "h")}
    assert list(variants({"x": (1, 3, 8, 9)}, free)) == [
        free,
        {"x": ("n", 3, "h", 9), "y": ("n", "h")},
        {"x": ("n", 3, 8, "w"), "y": ("n", 8)},
    ]


def test_probes_of_a_size_agree_on_the_rest_by_no_stride_and_a_batch_divides(tmp_path: Path) -> None:
    cases: list[tuple[int | str, ...]] = [("n", "h", "w"), (2, "h", "w"), (2, "h", 8), ("batch", 8, "w")]
    for n, h, w in cases:
        path = save(pictures(node("Relu", ["b"], "y"), x=[n, 3, h, w]), tmp_path)
        graph = from_onnx(path, input_shapes={"x": (n, 3, h, w)})
        first, second = probes(graph)
        for size in {"h", "w"}.intersection(first):
            assert all(first[size] % stride != second[size] % stride for stride in range(2, 65))
            assert first[size] % 64 == 0
        assert not any(probe.get("n", 0) % 48 for probe in (first, second))
        assert np.gcd.reduce([second[symbol] for symbol in second]) == 1 or len(second) == 1
