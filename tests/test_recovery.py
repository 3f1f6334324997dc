"""Recovery: what calibration measures, the order of units, least squares, front-to-back repair."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.backends.runtime import Session
from amcc.frontends.from_onnx import from_proto
from amcc.ir import Array, Graph
from amcc.passes.channels import Channels, Removal, analyze
from amcc.passes.recovery import Ranking, Statistics, calibrate, rank, reconstruct, repair
from amcc.passes.recovery.elimination import Quadratic, eliminate, regular_inverse
from amcc.passes.recovery.order import order_units
from amcc.passes.recovery.repair import Repairer
from amcc.passes.recovery.solve import least_squares
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer
from tests.onnx_models import drawn, model, node
from tests.random_graphs import random_network
from tests.tiny_models import onnx_model

ALL = 10_000


def channels_of(made: onnx.ModelProto) -> Channels:
    return analyze(infer(from_proto(made)))


def outputs(graph: Graph, inputs: dict[str, Array]) -> Array:
    found = Session(graph, threads=1).run(inputs)
    return np.concatenate([found[name].reshape(len(found[name]), -1) for name in graph.outputs], axis=1)


def error(graph: Graph, channels: Channels, inputs: dict[str, Array]) -> float:
    """Squared error of the outputs relative to their size."""
    wanted = outputs(channels.graph, inputs)
    return float(np.square(outputs(graph, inputs) - wanted).sum() / np.square(wanted).sum())


def learned(channels: Channels, inputs: dict[str, Array]) -> tuple[Statistics, tuple[Ranking, ...]]:
    statistics = calibrate(channels, inputs, positions=ALL, threads=1)
    return statistics, rank(channels, statistics, threads=1)


def pair(first: dict[str, Array], between: list[onnx.NodeProto], *, batch_norm: bool = False) -> onnx.ModelProto:
    """A convolution that makes 8 channels, and nodes from `h` to `y` that read them."""
    nodes = [node("Conv", ["x", "w1", *(["b1"] if "b1" in first else [])], "a"), node("Relu", ["a"], "h"), *between]
    return model(nodes, {"x": ["n", 3, 6, 6]}, ["y"], first)


def doubled(*shape: int) -> Array:
    """Weights whose second half of outputs is twice the first half."""
    half = drawn(shape[0] // 2, *shape[1:])
    return np.concatenate([half, 2 * half])


READERS: dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]] = {
    "conv": ([node("Conv", ["h", "w2", "b2"], "y")], {"w2": drawn(4, 8, 3, 3), "b2": drawn(4)}),
    "conv without bias": ([node("Conv", ["h", "w2"], "y")], {"w2": drawn(4, 8, 3, 3)}),
    "transposed": ([node("ConvTranspose", ["h", "w2"], "y", strides=[2, 2])], {"w2": drawn(8, 4, 3, 3)}),
    "gemm": (
        [node("GlobalAveragePool", ["h"], "p"), node("Flatten", ["p"], "f"), node("Gemm", ["f", "w2", "b2"], "y")],
        {"w2": drawn(8, 4), "b2": drawn(4)},
    ),
    "gemm behind flattened space": (
        [node("Flatten", ["h"], "f"), node("Gemm", ["f", "w2", "b2"], "y", transB=1)],
        {"w2": drawn(4, 128), "b2": drawn(4)},
    ),
    "matmul": (
        [node("Transpose", ["h"], "t", perm=[0, 2, 3, 1]), node("MatMul", ["t", "w2"], "y")],
        {"w2": drawn(8, 4)},
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_copies_go_first_and_cost_nothing(reader: str) -> None:
    """Half of the channels are multiples of the others: any of the two halves of a pair is enough."""
    between, params = READERS[reader]
    channels = channels_of(pair({"w1": doubled(8, 3, 3, 3), **params}, between))
    inputs = {"x": drawn(64, 3, 6, 6)}
    statistics, (ranking,) = learned(channels, inputs)
    assert sorted(i % 4 for i in ranking.order[:4]) == [0, 1, 2, 3]
    assert ranking.loss[4] < 0.2 * ranking.loss[5]
    removal = {0: np.sort(ranking.order[:4])}
    pure = shrink(channels, removal)
    assert error(pure, channels, inputs) > 0.05
    # the pull towards the old weights keeps it from being exact
    assert error(reconstruct(channels, removal, pure, statistics), channels, inputs) < 1e-4


def test_constant_channels_live_on_in_the_normalisation() -> None:
    """A channel that is always 3 goes into the BatchNorm's offset: the convolution has no bias."""
    w1, b1 = drawn(8, 3, 3, 3), np.zeros(8, np.float32)
    w1[2], b1[2] = 0, 3
    params = {"w1": w1, "b1": b1, "w2": drawn(4, 8, 3, 3)}
    params |= {"s": 1 + drawn(4) ** 2, "o": drawn(4, seed=1), "m": drawn(4, seed=2), "v": 1 + drawn(4, seed=3) ** 2}
    behind = [node("Conv", ["h", "w2"], "c"), node("BatchNormalization", ["c", "s", "o", "m", "v"], "y")]
    channels = channels_of(pair(params, behind))
    inputs = {"x": drawn(32, 3, 6, 6)}
    statistics, (ranking,) = learned(channels, inputs)
    assert ranking.order[0] == 2
    removal = {0: np.array([2])}
    pure = shrink(channels, removal)
    fitted = reconstruct(channels, removal, pure, statistics)
    assert set(fitted.params) == set(pure.params)
    assert error(pure, channels, inputs) > 1e-3
    assert error(fitted, channels, inputs) < 1e-8
    assert error(repair(channels, removal, pure, inputs, positions=ALL, threads=1), channels, inputs) < 1e-8


def test_reconstruction_is_least_squares_on_the_patches() -> None:
    """Against torch's patches and numpy's solver, without the pull."""
    between, params = READERS["conv"]
    channels = channels_of(pair({"w1": drawn(8, 3, 3, 3), **params}, between))
    inputs = {"x": drawn(40, 3, 6, 6)}
    removal = {0: np.array([1, 4, 6])}
    hidden = Session(channels.graph, outputs=["h"], threads=1).run(inputs)["h"]
    kept = np.setdiff1d(np.arange(8), removal[0])
    patches = torch.nn.functional.unfold(torch.from_numpy(hidden), 3).numpy().transpose(0, 2, 1).reshape(-1, 72)
    wanted = patches @ params["w2"].reshape(4, -1).T + params["b2"]
    left = np.hstack([patches.reshape(-1, 8, 9)[:, kept].reshape(-1, 45), np.ones((len(patches), 1))])
    best = np.linalg.lstsq(left.astype(np.float64), wanted, rcond=None)[0]
    statistics = calibrate(channels, inputs, positions=ALL, threads=1)
    made = reconstruct(channels, removal, shrink(channels, removal), statistics)
    rows = np.hstack([made.params["w2"].reshape(4, -1), made.params["b2"][:, None]]).T
    residual = [float(np.square(left @ w - wanted).sum()) for w in (best, rows)]
    assert residual[0] <= residual[1] < 1.002 * residual[0]


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_elimination_costs_what_refitting_costs(seed: int, units: int, each: int) -> None:
    """Every step's loss is the error of the best weights for what is left; a step is the cheapest one."""
    random = np.random.default_rng(seed)
    size = units * each
    rows = random.standard_normal((4 * size, size)) @ random.standard_normal((size, size))
    moments, weights = rows.T @ rows / len(rows), random.standard_normal((3, size))
    columns = [np.arange(u * each, (u + 1) * each) for u in range(units)]

    def best(gone: list[int]) -> float:
        left = [c for u in range(units) if u not in gone for c in columns[u]]
        wanted = rows @ weights.T
        if not left:
            return float(np.square(wanted).sum() / len(rows))
        solved = np.linalg.lstsq(rows[:, left], wanted, rcond=None)[0]
        return float(np.square(rows[:, left] @ solved - wanted).sum() / len(rows))

    inverse = regular_inverse(moments[None], 1e-12)[0]
    order, loss = eliminate([Quadratic(inverse, weights, columns, None, scale=1.0)], units)
    assert sorted(order) == list(range(units))
    whole = best(list(range(units)))
    for step in range(units):
        gone = order[:step].tolist()
        assert loss[step] == pytest.approx(best(gone), rel=1e-3, abs=1e-5 * whole)
        options = [best([*gone, u]) for u in range(units) if u not in gone]
        assert best([*gone, int(order[step])]) <= min(options) * (1 + 1e-3) + 1e-5 * whole


def test_lazy_elimination_of_many_units_is_nearly_greedy() -> None:
    random = np.random.default_rng(0)
    units = 160
    rows = random.standard_normal((1000, units)) @ (np.eye(units) + 0.1 * random.standard_normal((units, units)))
    inverse = regular_inverse(rows.T @ rows[None] / len(rows), 1e-3)[0]
    weights = random.standard_normal((5, units)) * np.linspace(0.1, 1, units)

    def run() -> tuple[Array, Array]:
        return eliminate([Quadratic(inverse, weights, [np.array([u]) for u in range(units)], None, scale=1.0)], units)

    lazy = run()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amcc.passes.recovery.elimination._EXACT", units)
        exact = run()[1]
    assert np.all(lazy[units // 4 :] < 1.05 * exact[units // 4 :])


def test_least_squares_of_nothing_stays_at_the_current_weights() -> None:
    current = drawn(2, 4, 3).astype(np.float64)
    zero = np.zeros((2, 4, 4))
    for free in (False, True):
        found = least_squares(zero, np.zeros_like(current), current, 1e-2, free=free)
        assert np.isfinite(found).all()
        rows = slice(None, -1) if free else slice(None)
        np.testing.assert_allclose(found[:, rows], current[:, rows], rtol=1e-6)


def residual_network() -> Channels:
    return channels_of(onnx_model())


def half(channels: Channels, rankings: tuple[Ranking, ...]) -> Removal:
    return channels.removal([g.size // 2 for g in channels.groups], [r.order for r in rankings])


def test_each_step_of_recovery_helps_on_other_samples() -> None:
    channels = residual_network()
    inputs, others = {"input": drawn(200, 3, 8, 8)}, {"input": drawn(200, 3, 8, 8, seed=1)}
    statistics, rankings = learned(channels, inputs)
    removal = half(channels, rankings)
    pure = shrink(channels, removal)
    fitted = reconstruct(channels, removal, pure, statistics)
    repaired = repair(channels, removal, fitted, inputs, positions=ALL, threads=1)
    quick = Repairer(channels, inputs, positions=ALL, threads=1, quick=True).repair(removal, fitted)
    errors = [error(graph, channels, others) for graph in (pure, fitted, quick, repaired)]
    assert errors[1] < 0.5 * errors[0]
    assert max(errors[2:]) < errors[1]
    for graph in (fitted, quick, repaired):
        assert {n: a.shape for n, a in graph.params.items()} == {n: a.shape for n, a in pure.params.items()}


def test_the_error_of_a_shortcut_is_folded_in() -> None:
    """The shortcut has an error that the branch can express: the sum is met, the branch's own output is not."""
    nodes = [
        node("Conv", ["x", "w1"], "h"),
        node("Relu", ["h"], "r"),
        node("Conv", ["r", "wa"], "a"),
        node("Conv", ["x", "w0"], "s"),
        node("Add", ["a", "s"], "t"),
        node("Relu", ["t"], "y"),
    ]
    params = {"w1": doubled(8, 3, 1, 1), "wa": drawn(4, 8, 1, 1), "w0": drawn(4, 3, 1, 1)}
    channels = channels_of(model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], params))
    inputs = {"x": np.abs(drawn(64, 3, 4, 4))}
    (site,) = [s for s in Repairer(channels, inputs, threads=1)._sites if s.other]
    assert (site.linear.weight, site.target, site.other, site.limits) == ("wa", "t", "s", (0.0, np.inf))


def test_repair_of_an_uncut_network_changes_nothing() -> None:
    channels = residual_network()
    inputs = {"input": drawn(64, 3, 8, 8)}
    same = repair(channels, {}, channels.graph, inputs, threads=1)
    assert error(same, channels, inputs) < 1e-8


@pytest.mark.parametrize("batch", [1, 5])
def test_fixed_batch(batch: int) -> None:
    channels = channels_of(onnx_model(batch=batch))
    inputs = {"input": drawn(23, 3, 8, 8)}
    statistics, rankings = learned(channels, inputs)
    assert statistics.samples == 23 // batch * batch
    removal = half(channels, rankings)
    pure = shrink(channels, removal)
    fitted = reconstruct(channels, removal, pure, statistics)
    repaired = repair(channels, removal, fitted, inputs, positions=ALL, threads=1)
    assert error(repaired, channels, inputs) < error(pure, channels, inputs)


def test_same_seed_same_bytes() -> None:
    channels = residual_network()
    inputs = {"input": drawn(40, 3, 8, 8)}

    def run() -> tuple[list[list[int]], list[bytes]]:
        statistics = calibrate(channels, inputs, seed=3, positions=5, threads=1)
        rankings = rank(channels, statistics, threads=1)
        removal = half(channels, rankings)
        fitted = reconstruct(channels, removal, shrink(channels, removal), statistics)
        repaired = repair(channels, removal, fitted, inputs, seed=3, positions=5, threads=1)
        return [r.order.tolist() for r in rankings], [a.tobytes() for a in repaired.params.values()]

    assert run() == run()


def test_reconstructing_again_uses_what_is_known() -> None:
    channels = residual_network()
    statistics, rankings = learned(channels, {"input": drawn(40, 3, 8, 8)})
    removal = half(channels, rankings)
    pure = shrink(channels, removal)
    first = reconstruct(channels, removal, pure, statistics)
    known = {key: id(value) for key, value in statistics.solutions.items()}
    again = reconstruct(channels, removal, pure, statistics)
    assert {key: id(value) for key, value in statistics.solutions.items()} == known
    assert all(np.array_equal(first.params[name], again.params[name]) for name in first.params)


def test_dead_inputs_and_too_few_samples() -> None:
    """All zero inputs, and one sample: nothing is known, nothing breaks."""
    channels = residual_network()
    for inputs in ({"input": np.zeros((4, 3, 8, 8), np.float32)}, {"input": drawn(1, 3, 8, 8)}):
        statistics, rankings = learned(channels, inputs)
        for ranking, group in zip(rankings, channels.groups, strict=True):
            assert sorted(ranking.order.tolist()) == list(range(group.size))
            assert np.isfinite(ranking.loss).all() and (np.diff(ranking.loss) >= 0).all()
        removal = half(channels, rankings)
        fitted = reconstruct(channels, removal, shrink(channels, removal), statistics)
        repaired = repair(channels, removal, fitted, inputs, threads=1)
        assert all(np.isfinite(array).all() for array in repaired.params.values() if array.dtype.kind == "f")


def test_groups_without_statistics_go_by_magnitude() -> None:
    between, params = READERS["conv"]
    w1 = drawn(8, 3, 3, 3)
    w1[5] *= 1e-3
    params = {**params, "w2": np.ones_like(params["w2"])}
    channels = channels_of(pair({"w1": w1, **params}, between))
    (ranking,) = order_units(channels, Statistics({}, 0, {}))
    assert not ranking.measured
    assert ranking.order[0] == 5 == np.argmin(ranking.magnitude)


@pytest.mark.parametrize("seed", range(25))
def test_random_networks(seed: int) -> None:
    """Any topology: the chain runs, keeps every shape, and does not do worse than pure slices."""
    channels = channels_of(random_network(seed, 7))
    if not channels.groups:
        pytest.skip("nothing to remove")
    random = np.random.default_rng(seed)
    inputs = {"x": drawn(32, 3, 8, 8, seed=seed)}
    statistics, rankings = learned(channels, inputs)
    keep = [int(random.integers(max(1, g.size // 2), g.size + 1)) for g in channels.groups]
    removal = channels.removal(keep, [r.order for r in rankings])
    pure = shrink(channels, removal)
    fitted = reconstruct(channels, removal, pure, statistics)
    quick = Repairer(channels, inputs, threads=1, quick=True).repair(removal, fitted)
    repaired = repair(channels, removal, fitted, inputs, threads=1)
    errors = [error(graph, channels, inputs) for graph in (pure, fitted, quick, repaired)]
    assert all(after <= 1.05 * errors[0] + 1e-6 for after in errors[1:])
    for before, after in itertools.pairwise((pure, fitted, quick, repaired)):
        assert {n: (a.shape, a.dtype) for n, a in before.params.items()} == {
            n: (a.shape, a.dtype) for n, a in after.params.items()
        }
