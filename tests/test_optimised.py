"""Networks as tools leave them: after ONNX Runtime's own optimisation, and after quantisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

import amcc
import amcc.certificate
from amcc.certificate import certify
from amcc.frontends.from_onnx import from_onnx
from amcc.ir import Graph, Node
from amcc.passes.channels import Channels, analyze
from amcc.passes.cost import CostModel, node_macs, parameter_count, weight_bytes
from amcc.passes.evaluate import foldable
from amcc.passes.integers import is_weight, real
from amcc.passes.magnitude import magnitudes
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer
from tests.random_graphs import Builder, random_network
from tests.test_exactness import check, random_removal

SHAPE = (2, 3, 8, 8)


def optimised(model: onnx.ModelProto, path: Path, level: str) -> onnx.ModelProto:
    """What ONNX Runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def quantised(model: onnx.ModelProto, path: Path, **options: object) -> onnx.ModelProto:
    """The model after static quantisation on two noise pictures."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            random = np.random.default_rng(0)
            self.samples: Iterator[dict[str, np.ndarray]] = iter(
                [{"x": random.standard_normal(SHAPE).astype(np.float32)} for _ in range(2)]
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.samples, None)

    onnx.save(model, path)
    quantize_static(str(path), str(path), Noise(), **options)
    return onnx.load(path)


def plain() -> onnx.ModelProto:
    """Convolutions, grouped and not, with a shortcut and a head."""
    b = Builder(1)
    x = b.op("Relu", b.op("Conv", "x", b.param(8, 3, 3, 3), b.param(8), pads=[1] * 4))
    y = b.op("Relu", b.op("Conv", x, b.param(8, 1, 3, 3), b.param(8), pads=[1] * 4, group=8))
    y = b.op("Add", x, b.op("Conv", y, b.param(8, 8, 1, 1), b.param(8)))
    flat = b.op("Flatten", b.op("GlobalAveragePool", y))
    gate = b.op("Relu", b.op("Gemm", flat, b.param(6, 8), b.param(6), transB=1))
    return b.finish(b.op("Gemm", gate, b.param(5, 6), b.param(5), transB=1))


def block() -> onnx.ModelProto:
    """A convolution, attention of two heads and a multilayer perceptron, each added and normalised."""
    b = Builder(2)
    x = b.op("Reshape", b.op("Conv", "x", b.param(8, 3, 1, 1), b.param(8)), b.ints(2, 8, 64))
    x, one = b.op("Transpose", x, perm=[0, 2, 1]), b.constant(np.float32(1))

    def linear(x: str, n_in: int, n_out: int) -> str:
        return b.op("Add", b.op("MatMul", x, b.param(n_in, n_out)), b.param(n_out))

    def heads(x: str, order: list[int]) -> str:
        return b.op("Transpose", b.op("Reshape", linear(x, 8, 8), b.ints(2, 64, 2, 4)), perm=order)

    scores = b.op("MatMul", heads(x, [0, 2, 1, 3]), heads(x, [0, 2, 3, 1]))
    weights = b.op("Softmax", b.op("Div", scores, b.constant(np.float32(2))))
    mixed = b.op("Transpose", b.op("MatMul", weights, heads(x, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    added = b.op("Add", x, linear(b.op("Reshape", mixed, b.ints(2, 64, 8)), 8, 8))
    x = b.op("LayerNormalization", added, b.param(8), b.param(8))
    wide = linear(x, 8, 12)
    half = b.op("Mul", wide, b.op("Add", b.op("Erf", b.op("Div", wide, b.constant(np.float32(2**0.5)))), one))
    wide = b.op("Mul", half, b.constant(np.float32(0.5)))
    x = b.op("LayerNormalization", b.op("Add", x, linear(wide, 12, 8)), b.param(8), b.param(8))
    return b.finish(linear(b.op("ReduceMean", x, axes=[1], keepdims=0), 8, 5))


@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
@pytest.mark.parametrize("seed", range(4))
def test_a_network_that_the_runtime_has_optimised(level: str, seed: int, tmp_path: Path) -> None:
    model = optimised(random_network(seed, 6), tmp_path / "optimised.onnx", level)
    check(model, tmp_path / "model.onnx", seed)


@pytest.mark.parametrize("make", [plain, block])
def test_fusions_cost_neither_macs_nor_reach(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    model = optimised(make(), tmp_path / "optimised.onnx", "EXTENDED")
    assert {node.op_type for node in model.graph.node if node.domain == "com.microsoft"}
    assert reach(model, tmp_path / "model.onnx") == reach(make(), tmp_path / "model.onnx")
    for seed in range(3):
        check(model, tmp_path / "model.onnx", seed)


def reach(model: onnx.ModelProto, path: Path) -> tuple[int, int]:
    """MACs as they are, and with one unit of each group."""
    onnx.save(model, path)
    costs = CostModel(analyze(infer(from_onnx(path))))
    return costs.original.flops, costs.macs(np.ones_like(costs.full))


def test_blocked_channels_are_charged_to_their_layout(tmp_path: Path) -> None:
    """ONNX Runtime's own layout cannot be cut; the ledger says so, and what that costs."""
    path = tmp_path / "model.onnx"
    model = optimised(plain(), path, "ALL")
    if not any(node.domain == "com.microsoft.nchwc" for node in model.graph.node):
        pytest.skip("this machine's runtime has no blocked layout")
    graph = infer(from_onnx(path))
    locks = [lock for lock in analyze(graph).ledger if "blocks" in lock.reason]
    assert max(lock.macs for lock in locks) > sum(node_macs(graph).values()) // 10


# -- quantisation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_quantised_network_shrinks_exactly(form: str, per_channel: bool, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantFormat

    path = tmp_path / "model.onnx"
    model = quantised(plain(), path, quant_format=QuantFormat[form], per_channel=per_channel)
    assert reach(model, path) == reach(plain(), tmp_path / "plain.onnx")
    for seed in range(3):
        graph, channels, removal = _cut(path, seed)
        assert any(graph.params[s.param].dtype == np.int8 for g in channels.groups for s in g.slices)
        certificate = certify(path, channels, removal, shrink(channels, removal), seed=seed)
        assert certificate.error == 0, "integers are summed exactly"
        check(model, path, seed)


def _cut(path: Path, seed: int) -> tuple[Graph, Channels, dict[int, np.ndarray]]:
    graph = infer(from_onnx(path))
    channels = analyze(graph)
    return graph, channels, random_removal(channels, np.random.default_rng(seed))


def test_a_dynamically_quantised_network_is_inexact(tmp_path: Path) -> None:
    """The range of what is left is another one."""
    from onnxruntime.quantization import quantize_dynamic

    path = tmp_path / "model.onnx"
    onnx.save(plain(), path)
    quantize_dynamic(str(path), str(path))
    channels = analyze(infer(from_onnx(path)))
    assert channels.groups and all(group.inexact for group in channels.groups)
    assert not analyze(infer(from_onnx(path)), exact=True).groups
    for seed in range(2):
        check(onnx.load(path), path, seed)


def test_integer_weights_count_and_weigh_as_what_they_stand_for(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(plain(), path)
    floats = infer(from_onnx(path))
    expected = magnitudes(analyze(floats))
    quantised(plain(), path, per_channel=True)
    graph = infer(from_onnx(path))
    weights = {name: a for name, a in graph.params.items() if a.dtype == np.int8 and a.ndim > 1}
    assert sum(a.size for a in weights.values()) == sum(a.size for a in floats.params.values() if a.ndim > 1)
    assert parameter_count(graph) > parameter_count(floats)  # scales and zero points
    assert weight_bytes(graph) < weight_bytes(floats)
    for name, array in weights.items():
        original = floats.params[name.removesuffix("_quantized")]
        assert is_weight(graph, name)
        found = real(graph, name)
        assert found is not None and np.abs(found - original).max() <= np.abs(original).max() / 100
        assert array.dtype == np.int8
    found = magnitudes(analyze(graph))
    for ours in expected:
        assert any(len(ours) == len(other) and np.allclose(ours, other, rtol=0.05) for other in found)


def test_two_numbers_of_four_bits_take_a_byte(tmp_path: Path) -> None:
    b = Builder(0, opset=21)
    numbers = b.constant(np.arange(15, dtype=np.int8).reshape(3, 5).astype(ml_dtypes.int4))
    weight = b.op("DequantizeLinear", numbers, b.constant(np.float32(1)))
    flat = b.op("Flatten", b.op("GlobalAveragePool", "x"))
    path = tmp_path / "model.onnx"
    onnx.save(b.finish(b.op("MatMul", flat, weight)), path)
    graph = infer(from_onnx(path))
    assert (parameter_count(graph), weight_bytes(graph)) == (16, 8 + 4)


def test_quantisation_is_never_folded() -> None:
    for op in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "MatMulInteger"):
        assert not foldable(Node(op, op, ("x",), ("y",)))


def test_a_rounding_the_other_way_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step with one input is chance, the same with every input is a fault; whoever does not round has one try."""
    found = iter([1e-2, 2e-2, 1e-6, 1e-2, 3e-1])
    monkeypatch.setattr(amcc.certificate, "_errors", lambda *_: {"y": next(found)})
    path = tmp_path / "model.onnx"
    quantised(plain(), path)
    _, channels, removal = _cut(path, 0)
    shrunk = shrink(channels, removal)
    assert certify(path, channels, removal, shrunk).error == 1e-6
    onnx.save(plain(), path)
    _, channels, removal = _cut(path, 0)
    certificate = certify(path, channels, removal, shrink(channels, removal))
    assert (certificate.error, certificate.passed) == (1e-2, False)
    assert next(found) == 3e-1


def test_tokens_merged_with_a_fixed_batch_are_repaired(tmp_path: Path) -> None:
    """The runtime writes products as Gemm, on `[batch * tokens, width]`."""
    path = tmp_path / "model.onnx"
    model = optimised(block(), path, "BASIC")
    assert any(node.op_type == "Gemm" for node in model.graph.node)
    noise = np.random.default_rng(0).standard_normal((64, *SHAPE[1:])).astype(np.float32)
    result = amcc.compile(path, budget="flops=0.5", data={"x": noise}, search="uniform", threads=1)
    assert result.summary.certificate.passed
    measured = result.summary.metric.search
    assert measured is not None and measured.pure is not None and measured.after > measured.pure
