from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from amcc.errors import ModelError
from amcc.frontends import onnx_file
from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.onnx_checks import check_numbers
from amcc.ir import Array, Opaque, verify
from amcc.passes.shapes import infer
from amcc.stages import capture
from tests.onnx_models import drawn, light_models, model, node, save

WEIGHT = drawn(4, 3, 3, 3)
CONV = node("Conv", ["x", "w"], "y", name="conv", pads=[1, 1, 1, 1])


def conv_model(**more: object) -> onnx.ModelProto:
    return model([CONV], {"x": ["batch", 3, 8, 8]}, ["y"], {"w": WEIGHT}, **more)  # type: ignore[arg-type]


@pytest.fixture(params=[False, True], ids=["read", "mapped"])
def mapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to get at the file: whole, and with its weights mapped."""
    if request.param:
        monkeypatch.setattr(onnx_file, "_MAPPED_FROM", 0)
    return bool(request.param)


def refuse(path: Path, *parts: str, **more: object) -> ModelError:
    with pytest.raises(ModelError) as caught:
        from_onnx(path, **more)  # type: ignore[arg-type]
    for part in (path.name, *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


# What is kept


def test_names_versions_and_notes_stay(tmp_path: Path) -> None:
    made = conv_model(opset=13, ir_version=7, domains={"my.ops": 2})
    helper.set_model_props(made, {"labels": "a,b"})
    graph = from_onnx(save(made, tmp_path))
    assert (graph.inputs, graph.outputs, graph.name) == (("x",), ("y",), "tested")
    assert graph.opsets == {"": 13, "my.ops": 2}
    assert graph.ir_version == 7
    assert graph.metadata == {"labels": "a,b"}
    assert graph.values["x"].shape == ("batch", 3, 8, 8)
    conv = graph.nodes[0]
    assert (conv.name, conv.op, conv.source, conv.attributes["pads"]) == ("conv", "Conv", "conv", (1, 1, 1, 1))
    np.testing.assert_array_equal(graph.params["w"], WEIGHT)
    assert not graph.params["w"].flags.writeable


def test_initializers_listed_as_inputs_are_parameters(tmp_path: Path) -> None:
    made = model([CONV], {"x": [1, 3, 8, 8], "w": [4, 3, 3, 3]}, ["y"], {"w": WEIGHT}, ir_version=3, opset=9)
    graph = from_onnx(save(made, tmp_path))
    assert graph.inputs == ("x",)
    assert list(graph.params) == ["w"]


def test_nodes_get_unique_stable_names(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "a"), node("Relu", ["a"], "b", name="same"), node("Relu", ["b"], "c", name="same")]
    nodes.append(node("Relu", ["c"], "y", name="Relu_0"))
    path = save(model(nodes, {"x": [1]}, ["y"]), tmp_path)
    names = [n.name for n in from_onnx(path).nodes]
    assert names == ["Relu_0_", "same", "same_2", "Relu_0"]
    assert names == [n.name for n in from_onnx(path).nodes]
    assert [n.source for n in from_onnx(path).nodes] == ["", "same", "same", "Relu_0"]


def test_nodes_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    nodes = [node("Neg", ["a"], "y"), node("Relu", ["x"], "a")]
    graph = from_onnx(save(model(nodes, {"x": [1]}, ["y"]), tmp_path))
    assert [n.op for n in graph.nodes] == ["Relu", "Neg"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([1.5, 2], np.float64))}, np.array([1.5, 2], np.float64)),
        ({"value_float": 2.5}, np.array(2.5, np.float32)),
        ({"value_floats": [1.0, 2.0]}, np.array([1, 2], np.float32)),
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_constant_nodes_become_parameters(tmp_path: Path, attributes: dict[str, object], expected: Array) -> None:
    made = model([node("Constant", [], "c", **attributes), node("Identity", ["c"], "y")], {"x": [1]}, ["y"])
    graph = from_onnx(save(made, tmp_path))
    assert graph.params["c"].dtype == expected.dtype
    np.testing.assert_array_equal(graph.params["c"], expected)
    assert [n.op for n in graph.nodes] == ["Identity"]


WIDE = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64".split(" ")
NARROW = "bfloat16 float8_e4m3fn float8_e5m2 int4 uint4 float4_e2m1fn".split(" ")


@pytest.mark.parametrize(("dtype", "raw"), [*((d, True) for d in WIDE + NARROW), *((d, False) for d in WIDE)])
def test_every_element_type_arrives_exactly(tmp_path: Path, dtype: str, raw: bool) -> None:
    assert ml_dtypes  # registers the narrow types with numpy
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    tensor = numpy_helper.from_array(array, "w")
    if not raw:
        tensor = helper.make_tensor("w", tensor.data_type, array.shape, array.reshape(-1).tolist())
    made = model([node("Identity", ["w"], "y")], {"x": [1]}, ["y"], dtype=tensor.data_type, ir_version=10, opset=23)
    made.graph.initializer.append(tensor)
    found = from_onnx(save(made, tmp_path)).params["w"]
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(found, array)


def test_sparse_initializers_become_dense(tmp_path: Path) -> None:
    dense = np.zeros((3, 4), np.float32)
    dense[0, 1], dense[2, 3] = 5, 7
    for indices in (np.array([1, 11]), np.array([[0, 1], [2, 3]])):
        made = model([node("MatMul", ["x", "w"], "y")], {"x": [1, 3]}, ["y"])
        values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
        made.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, numpy_helper.from_array(indices, "i"), [3, 4])
        )
        np.testing.assert_array_equal(from_onnx(save(made, tmp_path)).params["w"], dense)


def test_bodies_are_carried_whole_with_what_they_read(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [node("Add", ["a", "w"], "inner_y")], "inner", [], [helper.make_tensor_value_info("inner_y", 1, [2])]
    )
    nested = helper.make_graph(
        [node("Identity", ["flag"], "local"), node("If", ["local"], "then_y", then_branch=inner, else_branch=inner)],
        "then",
        [],
        [helper.make_tensor_value_info("then_y", 1, [2])],
    )
    passed = helper.make_graph([], "else", [], [helper.make_tensor_value_info("x", 1, [2])])
    made = model(
        [node("Relu", ["x"], "a"), node("If", ["flag"], "y", name="if", then_branch=nested, else_branch=passed)],
        {"x": [2]},
        {"y": [2]},
        {"w": np.ones(2, np.float32)},
    )
    made.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    graph = from_onnx(save(made, tmp_path))
    branch, other = (graph.nodes[1].attributes[name] for name in ("then_branch", "else_branch"))
    assert isinstance(branch, Opaque) and isinstance(other, Opaque)
    assert (branch.kind, set(branch.captures), other.captures) == ("GRAPH", {"flag", "a", "w"}, ("x",))
    assert onnx.AttributeProto.FromString(branch.data).g == nested
    assert "w" in infer(graph).params


def test_foreign_operators_are_carried(tmp_path: Path) -> None:
    mystery = node("Mystery", ["x"], "y", domain="my.ops", power=2, names=["a"])
    mystery.attribute.append(helper.make_attribute("empty", [], attr_type=onnx.AttributeProto.FLOATS))
    graph = infer(from_onnx(save(model([mystery], {"x": [2]}, {"y": [2]}, domains={"my.ops": 1}), tmp_path)))
    assert (graph.nodes[0].domain, graph.nodes[0].attributes["power"]) == ("my.ops", 2)
    assert graph.values["y"].shape == (2,)


def test_functions_are_inlined(tmp_path: Path) -> None:
    body = [node("Mul", ["v", "v"], "s"), node("Add", ["s", "v"], "r")]
    function = helper.make_function("my.fn", "Poly", ["v"], ["r"], body, [helper.make_opsetid("", 17)])
    calls = [node("Poly", ["x"], "a", domain="my.fn"), node("Poly", ["a"], "y", domain="my.fn")]
    graph = from_onnx(save(model(calls, {"x": [2]}, {"y": [2]}, domains={"my.fn": 1}, functions=[function]), tmp_path))
    assert [n.op for n in graph.nodes] == ["Mul", "Add", "Mul", "Add"]


@pytest.mark.parametrize("listed", [True, False])
def test_old_operator_sets_are_upgraded(tmp_path: Path, listed: bool) -> None:
    normalize = node("BatchNormalization", ["c", *"sbmv"], "n", is_test=1, epsilon=1e-3)
    params = {"w": WEIGHT} | {name: np.ones(4, np.float32) for name in "sbmv"}
    inputs = {"x": [1, 3, 8, 8]} | {name: list(array.shape) for name, array in params.items() if listed}
    conv = node("Conv", ["x", "w"], "c")
    made = model(
        [conv, normalize, node("Dropout", ["n"], "y", is_test=1)], inputs, ["y"], params, opset=6, ir_version=3
    )
    graph = from_onnx(save(made, tmp_path))
    assert graph.opset == 7
    assert [n.op for n in graph.nodes] == ["Conv", "BatchNormalization", "Dropout"]
    assert "is_test" not in graph.nodes[1].attributes


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 18, 21, onnx.defs.onnx_opset_version()])
def test_operator_sets_from_7_on_are_kept(tmp_path: Path, opset: int) -> None:
    assert from_onnx(save(conv_model(opset=opset), tmp_path)).opset == opset


@pytest.mark.parametrize("path", light_models(), ids=lambda p: p.stem)
def test_real_topologies(path: Path) -> None:
    graph = from_onnx(path)
    assert len(graph.inputs) == 1
    verify(infer(graph))


# External data


def external_model(folder: Path, **entries: str) -> Path:
    made = conv_model()
    tensor = made.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "w.bin", "offset": "64", "length": str(len(raw))} | entries).items():
        tensor.external_data.add(key=key, value=value)
    (folder / "w.bin").write_bytes(b"\0" * 64 + raw)
    return save(made, folder)


def test_external_data_is_mapped(tmp_path: Path) -> None:
    weight = from_onnx(external_model(tmp_path)).params["w"]
    np.testing.assert_array_equal(weight, WEIGHT)
    base: object = weight
    while not isinstance(base, np.memmap) and base is not None:
        base = getattr(base, "base", None)
    assert isinstance(base, np.memmap)


def test_external_data_missing(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    (tmp_path / "w.bin").unlink()
    refuse(path, "tensor 'w'", "'w.bin' is missing")


@pytest.mark.parametrize("location", ["../outside.bin", "link.bin", "folder/../../outside.bin", "/etc/hostname", ""])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(b"\0" * 4096)
    os.symlink(tmp_path / "outside.bin", folder / "link.bin")
    refuse(external_model(folder, location=location), "tensor 'w'", "outside the model's folder")


@pytest.mark.parametrize(
    "entries",
    [{"offset": "100000"}, {"length": "100000"}, {"offset": "-4"}, {"length": "8"}, {"offset": "many"}],
    ids=str,
)
def test_external_data_of_the_wrong_size(tmp_path: Path, entries: dict[str, str]) -> None:
    refuse(external_model(tmp_path, **entries), "tensor 'w'")


def test_weights_of_a_large_file_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = drawn(64, 32, 3, 3)
    constant = node("Constant", [], "c", value=numpy_helper.from_array(drawn(64, 100)))
    nodes = [node("Conv", ["x", "w"], "y"), constant, node("Identity", ["c"], "z"), node("Identity", ["s"], "t")]
    small = np.array([1, 2], np.int64)
    made = model(nodes, {"x": [1, 32, 8, 8]}, ["y", "z", "t"], {"w": large, "s": small})
    path = save(made, tmp_path)
    plain = from_onnx(path)
    monkeypatch.setattr(onnx_file, "_MAPPED_FROM", 0)
    graph = from_onnx(path)
    assert graph.nodes == plain.nodes
    for name in plain.params:
        np.testing.assert_array_equal(graph.params[name], plain.params[name])
    link = tmp_path / "elsewhere" / "linked.onnx"
    link.parent.mkdir()
    link.symlink_to(path)
    np.testing.assert_array_equal(from_onnx(link).params["w"], large)


# What is refused


def test_a_cycle_is_named(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "b"], "a", name="first"), node("Relu", ["a"], "b", name="second")]
    refuse(save(model(nodes, {"x": [1]}, ["b"]), tmp_path), "cycle", "Add 'first'", "Relu 'second'")


def test_a_dangling_input_is_named(tmp_path: Path) -> None:
    made = model([node("Add", ["x", "ghost"], "y", name="sum")], {"x": [1]}, ["y"])
    refuse(save(made, tmp_path), "Add 'sum'", "'ghost'")


def test_a_dangling_output_is_named(tmp_path: Path) -> None:
    refuse(save(model([CONV], {"x": [1, 3, 8, 8]}, ["y", "lost"], {"w": WEIGHT}), tmp_path), "'lost'")


def test_a_name_made_twice_is_named(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "y", name="first"), node("Neg", ["x"], "y", name="second")]
    refuse(save(model(nodes, {"x": [1]}, ["y"]), tmp_path), "Neg 'second'", "Relu 'first'")


def test_nan_in_a_parameter(tmp_path: Path, mapped: bool) -> None:
    weight = drawn(64, 3, 5, 5).copy()
    weight[3, 2, 1, 0] = np.nan
    path = save(model([CONV], {"x": [1, 3, 8, 8]}, ["y"], {"w": weight}), tmp_path)
    if not mapped:
        refuse(path, "'w'", "NaN", "Conv 'conv'")
        return
    graph = from_onnx(path)  # the file's pages are read once the numbers are needed
    with pytest.raises(ModelError, match=r"'w'.*Conv 'conv'.*NaN"):
        check_numbers(graph, mapped=True)
    with pytest.raises(ModelError, match="NaN"):
        capture(path, None, None)


def test_infinity_is_refused_in_weights_and_allowed_in_masks(tmp_path: Path) -> None:
    weight = WEIGHT.copy()
    weight[0, 0, 0, 0] = np.inf
    refuse(save(model([CONV], {"x": [1, 3, 8, 8]}, ["y"], {"w": weight}), tmp_path), "'w'", "infinity")
    mask = np.array([0, -np.inf], np.float32)
    graph = from_onnx(save(model([node("Add", ["x", "m"], "y")], {"x": [1, 2]}, ["y"], {"m": mask}), tmp_path))
    assert np.isinf(graph.params["m"][1])


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"", "empty.onnx", "empty"),
        (b"not a model at all", "text.onnx", "not an ONNX file"),
        (b"\x80\x04\x95abc", "model.onnx", "pickle"),
        (b"PK\x03\x04....", "model.pt", "zip"),
        (b"abc", "model.pth", "pickle"),
        (b"abc", "model.pkl", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer.onnx", "Git LFS"),
        (b"\x93NUMPY\x01", "array.onnx", "NumPy"),
        (b"\x08\x08", "hollow.onnx", "no graph"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_no_onnx_file(tmp_path: Path, mapped: bool, content: bytes, name: str, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refuse(path, says)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    refuse(tmp_path / "nothing.onnx", "no such file")
    refuse(tmp_path, "folder")


def test_newer_versions_than_known(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    refuse(save(conv_model(opset=newest + 1), tmp_path), f"{newest + 1}", "newer")
    refuse(save(conv_model(ir_version=onnx.IR_VERSION + 1), tmp_path), "IR version", "newer")


def test_every_cut_of_a_file_is_refused(tmp_path: Path, mapped: bool) -> None:
    content = conv_model().SerializeToString()
    path = tmp_path / "cut.onnx"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        refuse(path)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_a_damaged_file_never_gives_a_traceback(damage: list[tuple[int, int]], mapped: bool) -> None:
    import tempfile

    made = model([CONV, node("Relu", ["y"], "z")], {"x": ["batch", 3, 8, 8]}, ["z"], {"w": drawn(2, 3, 1, 1)})
    content = bytearray(made.SerializeToString())
    for position, byte in damage:
        content[position % len(content)] = byte
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "_MAPPED_FROM", 0 if mapped else 1 << 30)
        path = Path(folder) / "damaged.onnx"
        path.write_bytes(content)
        try:
            verify(infer(from_onnx(path)))
        except ModelError as error:
            assert "damaged.onnx" in str(error)


# Dynamic dimensions


def test_a_dynamic_size_must_be_given(tmp_path: Path) -> None:
    path = save(model([CONV], {"x": ["N", 3, "H", "W"]}, ["y"], {"w": WEIGHT}), tmp_path)
    refuse(path, "input 'x'", "[N, 3, H, W]", "--input-shape x=1x3xSIZExSIZE")
    graph = from_onnx(path, input_shapes={"x": (1, 3, 224, 160)})
    assert graph.values["x"].shape == ("N", 3, 224, 160)
    assert from_onnx(path, input_shapes={"x": (8, 3, 9, 9)}).values["x"].shape == (8, 3, 9, 9)
    assert from_onnx(path, input_shapes={"x": ("b", 3, "side", 9)}).values["x"].shape == ("b", 3, "side", 9)


def test_a_size_reaches_every_input_of_its_symbol(tmp_path: Path) -> None:
    made = model([node("Add", ["a", "b"], "y")], {"a": ["N", "L"], "b": ["N", "L"]}, {"y": ["N", "L"]})
    graph = from_onnx(save(made, tmp_path), input_shapes={"a": (1, 7)})
    assert graph.values["b"].shape == graph.values["y"].shape == ("N", 7)


@pytest.mark.parametrize(
    ("given_shapes", "says"),
    [
        ({"z": (1, 3, 8, 8)}, "no input 'z'"),
        ({"x": (1, 4, 8, 8)}, "contradicts"),
        ({"x": (1, 3, 8)}, "contradicts"),
        ({"x": (1, 3, 0, 8)}, "below 1"),
        ({"x": (1, 3, 8, 9)}, "cannot be both"),
    ],
    ids=str,
)
def test_shapes_that_contradict(tmp_path: Path, given_shapes: dict[str, tuple[int, ...]], says: str) -> None:
    path = save(model([CONV], {"x": ["N", 3, "S", "S"]}, ["y"], {"w": WEIGHT}), tmp_path)
    refuse(path, says, input_shapes=given_shapes)


def test_an_input_without_a_shape(tmp_path: Path) -> None:
    path = save(model([CONV], {"x": None}, ["y"], {"w": WEIGHT}), tmp_path)
    refuse(path, "no shape", "--input-shape x=")
    assert infer(from_onnx(path, input_shapes={"x": (1, 3, 8, 8)})).values["y"].shape == ("batch", 4, 8, 8)
