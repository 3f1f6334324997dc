"""Fine-grained sparsity: masks, patterns, the choice, refits, repair, budgets in exact integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.budget import Budget
from amcc.errors import PlanError, UsageError
from amcc.granularity import Granularity
from amcc.ir import Array, Graph, Value, frozen, verify
from amcc.passes.channels import analyze
from amcc.passes.cost import CostModel, node_macs, parameter_count
from amcc.passes.recovery import reconstruct_blocks, repair
from amcc.passes.recovery.masked import masked_least_squares
from amcc.passes.sparsity import (
    Layers,
    SparseCosts,
    by_magnitude,
    choose,
    gather,
    layers_of,
    masks,
    refit,
    sizes,
    zeroed,
)
from amcc.passes.sparsity.elimination import eliminate
from amcc.plan import packed, unpacked
from amcc.planning import describe_weights, weights_of

from . import tiny_models

GRANULARITIES = ("weight", "2:4", "1:4", "3:8", "block", "block=1x4", "block=4x4", "block=2x1")


def grain(text: str) -> Granularity:
    found = Granularity.parse(text)
    assert found is not None
    return found


def made(text: str, graph: Graph | None = None) -> Layers:
    return layers_of(graph or tiny_models.graph(), grain(text))


def halves(layers: Layers, orders: list[Array], keep: float = 0.5) -> dict[int, Array]:
    return layers.removal([max(1, round(layer.levels * keep)) for layer in layers.layers], orders)


def drawn(layers: Layers, seed: int = 0) -> list[Array]:
    """Orders by chance; of a pattern what goes first follows it."""
    random = np.random.default_rng(seed)
    how = layers.granularity
    if not how.regular:
        return [random.permutation(layer.units) for layer in layers.layers]
    orders = []
    for layer in layers.layers:
        rank = random.random((layer.units // how.of, how.of)).argsort(axis=1).reshape(-1)
        orders.append(np.argsort(rank >= how.of - how.stay, kind="stable"))
    return orders


def test_masks_are_read_off_the_zeros() -> None:
    graph = tiny_models.graph()
    assert masks(graph) == {}
    random = np.random.default_rng(0)
    chosen = {name: random.random(graph.params[name].shape) < 0.4 for name in ("conv2.weight", "fc.weight")}
    sparse = zeroed(graph, chosen)
    found = masks(sparse)
    assert found.keys() == chosen.keys()
    for name, mask in chosen.items():
        assert np.array_equal(found[name], mask)
        assert np.array_equal(sparse.params[name][mask], graph.params[name][mask])
        assert not sparse.params[name][~mask].any()


def test_what_a_user_may_write() -> None:
    assert Granularity.parse("channel") is None
    assert (grain("2:4").stay, grain("2:4").of) == (2, 4)
    assert (grain("block").rows, grain("block").columns) == (4, 1)
    assert (grain("block=1x4").rows, grain("block=1x4").columns) == (1, 4)
    for wrong in ("4:2", "0:4", "4:4", "block=1x1", "block=0x4", "weights", "2x4", ""):
        with pytest.raises(UsageError, match="--granularity"):
            Granularity.parse(wrong)


def test_layers_whose_channels_do_not_come_out_even_stay_whole() -> None:
    layers = made("2:4")
    assert [layer.name for layer in layers.layers] == ["conv2.weight", "conv3.weight", "fc.weight"]
    assert "2:4" in layers.whole["Conv_a"]
    locked = layers_of(tiny_models.graph(), grain("weight"), locked=["conv2.weight", "Gemm_logits"])
    assert [layer.name for layer in locked.layers] == ["conv1.weight", "conv3.weight"]
    assert set(locked.whole) == {"Conv_c", "Gemm_logits"}


@pytest.mark.parametrize("text", GRANULARITIES)
@given(seed=st.integers(0, 10**6), keep=st.floats(0.05, 0.95))
@settings(max_examples=15, deadline=None)
def test_masks_have_the_granularity_and_costs_are_what_they_leave(text: str, seed: int, keep: float) -> None:
    layers = made(text)
    graph, how = layers.graph, layers.granularity
    levels = [max(1, round(layer.levels * keep)) for layer in layers.layers]
    removal = layers.removal(levels, drawn(layers, seed))
    found = layers.masks(removal)
    for name, mask in found.items():
        by_input = np.moveaxis(mask, 1, -1)  # input channels last, at each offset of the kernel
        if how.regular:
            assert (by_input.reshape(-1, how.of).sum(axis=1) == how.stay).all()
        rows, columns = how.rows, how.columns
        blocks = by_input.reshape(mask.shape[0] // rows, rows, -1, mask.shape[1] // columns, columns)
        assert (blocks.any(axis=(1, 4)) == blocks.all(axis=(1, 4))).all(), name
    assert {i: gone.tolist() for i, gone in layers.of_masks(found).items()} == {
        i: gone.tolist() for i, gone in removal.items() if len(gone)
    }
    costs, sparse = SparseCosts(layers), zeroed(graph, found)
    zeros = {name: int((~mask).sum()) for name, mask in found.items()}
    reached = costs.costs(levels)
    assert reached == costs.of_removal(removal)
    assert reached.params == parameter_count(graph) - sum(zeros.values())
    macs = node_macs(graph)
    saved = sum(macs[layer.linear.node.name] // layer.weights * zeros.get(layer.name, 0) for layer in layers.layers)
    assert reached.flops == sum(macs.values()) - saved
    assert sizes(sparse, layers).nonzeros == reached.params
    assert unpacked(packed(found), {n: m.shape for n, m in found.items()}).keys() == found.keys()
    for name, mask in unpacked(packed(found), {n: m.shape for n, m in found.items()}).items():
        assert np.array_equal(mask, found[name])


def test_the_whole_costs_what_the_network_costs() -> None:
    layers = made("weight")
    assert SparseCosts(layers).original == CostModel(analyze(layers.graph)).original
    limits = Budget.parse("params=0.4,size=0.6").resolve(SparseCosts(layers).original)
    assert limits.params == parameter_count(layers.graph) * 2 // 5


def test_a_mask_of_another_granularity_is_refused() -> None:
    layers = made("2:4")
    mask = np.ones((4, 8), bool)
    mask[0, 0] = False
    with pytest.raises(ValueError, match="2:4"):
        layers.of_masks({"fc.weight": mask})
    with pytest.raises(PlanError, match="size"):
        unpacked(packed({"fc.weight": mask}), {"fc.weight": (4, 9)})


def test_a_plan_fits_a_twin_that_stores_a_matrix_the_other_way() -> None:
    layers = made("weight")
    removal = halves(layers, drawn(layers), 0.5)
    plan = describe_weights(layers, removal, model="tiny", budget="params=0.5", policy="uniform", seed=0)
    graph = layers.graph
    turned = frozen(np.ascontiguousarray(graph.params["fc.weight"].T))
    nodes = tuple(node.replace(attributes={}) if node.op == "Gemm" else node for node in graph.nodes)
    values = {**graph.values, "fc.weight": Value("fc.weight", "float32", turned.shape)}
    twin = graph.replace(nodes=nodes, values=values, params={**graph.params, "fc.weight": turned})
    verify(twin)
    found = made("weight", twin)
    masks_there = found.masks(weights_of(plan, found))
    assert np.array_equal(masks_there["fc.weight"], plan.masks["fc.weight"].T)
    assert np.array_equal(masks_there["conv2.weight"], plan.masks["conv2.weight"])


def test_a_plan_fits_an_export_that_calls_a_weight_otherwise() -> None:
    layers = made("weight")
    plan = describe_weights(
        layers, halves(layers, drawn(layers), 0.5), model="tiny", budget="params=0.5", policy="uniform", seed=0
    )
    graph, name = layers.graph, "onnx::MatMul_12"
    turned = frozen(np.ascontiguousarray(graph.params["fc.weight"].T))
    nodes = tuple(
        node.replace(attributes={}, inputs=("h", name, "fc.bias"), source="/fc/Gemm") if node.op == "Gemm" else node
        for node in graph.nodes
    )
    values = {n: v for n, v in graph.values.items() if n != "fc.weight"} | {name: Value(name, "float32", turned.shape)}
    params = {n: a for n, a in graph.params.items() if n != "fc.weight"} | {name: turned}
    twin = graph.replace(nodes=nodes, values=values, params=params)
    verify(twin)
    found = made("weight", twin)
    assert np.array_equal(found.masks(weights_of(plan, found))[name], plan.masks["fc.weight"].T)


def moments(random: np.random.Generator, size: int) -> Array:
    x = random.standard_normal((3 * size, size)) @ random.standard_normal((size, size))
    return np.asarray(x.T @ x / len(x) + 0.01 * np.eye(size))


@given(seed=st.integers(0, 10**6), size=st.sampled_from([4, 12, 40]), rows=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_elimination_costs_exactly_what_refitted_rows_lose(seed: int, size: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    matrix, weights = moments(random, size), random.standard_normal((rows, size))
    order, cost = eliminate(np.linalg.inv(matrix), weights, 1)
    assert sorted(order.tolist()) == list(range(size))
    gone = order[: size // 2]
    stay = np.sort(order[size // 2 :])
    schur = matrix[np.ix_(gone, gone)] - matrix[np.ix_(gone, stay)] @ np.linalg.solve(
        matrix[np.ix_(stay, stay)], matrix[np.ix_(stay, gone)]
    )
    lost = float((weights[:, gone] @ schur * weights[:, gone]).sum())
    steps = np.cumsum(cost)
    part = max(1, size // 16)
    if part == 1:
        assert steps[size // 2 - 1] == pytest.approx(lost, rel=1e-6)
    assert steps[-1] == pytest.approx(float((weights @ matrix * weights).sum()), rel=1e-6)


@given(seed=st.integers(0, 10**6), pattern=st.sampled_from([(2, 1), (4, 2), (4, 3), (8, 5)]))
@settings(max_examples=25, deadline=None)
def test_elimination_keeps_to_a_pattern(seed: int, pattern: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    size, most = pattern
    order, _ = eliminate(np.linalg.inv(moments(random, 40)), random.standard_normal((1, 40)), 1, quota=pattern)
    assert (np.bincount(order // size, minlength=40 // size) == most).all()
    assert len(set(order.tolist())) == len(order)


@given(seed=st.integers(0, 10**6), free=st.booleans())
@settings(max_examples=25, deadline=None)
def test_masked_least_squares_solves_each_output_by_itself(seed: int, free: bool) -> None:
    random = np.random.default_rng(seed)
    groups, inputs, outputs, ridge = 2, 9, 4, 0.02
    x = random.standard_normal((groups, 60, inputs)) + 1.0
    rows = np.concatenate([x, np.ones((groups, 60, 1))], axis=2) if free else x
    gram, wanted = rows.transpose(0, 2, 1) @ rows / 60, random.standard_normal((groups, rows.shape[2], outputs))
    mask = random.random((groups, inputs, outputs)) < 0.5
    current = np.where(mask, random.standard_normal(mask.shape), 0.0)
    if free:
        current = np.concatenate([current, np.zeros((groups, 1, outputs))], axis=1)
    found = masked_least_squares(gram, gram @ wanted, current, ridge, free=free, mask=mask)
    assert not found[:, :inputs][~mask].any()
    for g in range(groups):
        spread = np.square(x[g]).mean(axis=0) - (x[g].mean(axis=0) ** 2 if free else 0.0)
        for o in range(outputs):
            stay = np.append(np.flatnonzero(mask[g, :, o]), [inputs] if free else []).astype(int)
            pull = np.where(stay < inputs, ridge * spread.mean(), 0.0)
            system = gram[g][np.ix_(stay, stay)] + np.diag(pull)
            exact = np.linalg.solve(system, (gram[g] @ wanted[g, :, o])[stay] + pull * current[g, stay, o])
            assert np.allclose(found[g, stay, o], exact, atol=2e-3 * max(1.0, float(np.abs(exact).max())))


def lost(layers: Layers, sparse: Graph, consumers: dict[str, Array]) -> float:
    """The squared error of all layers' outputs on calibration inputs, by their Gram matrices."""
    total = 0.0
    for layer in layers.layers:
        linear = layer.linear
        before, after = (
            np.concatenate([linear.matrix(g), linear.offset(g)[..., None]], axis=2)  # type: ignore[index]
            for g in (layers.graph, sparse)
        )
        total += float(((after - before) @ consumers[linear.node.name] * (after - before)).sum())
    return total


@pytest.mark.parametrize("text", GRANULARITIES)
def test_second_order_loses_less_than_magnitude(text: str) -> None:
    layers = made(text)
    statistics = gather(layers, {"input": tiny_models.samples(40)["input"]}, seed=0)
    grams = {name: consumer.gram for name, consumer in statistics.consumers.items()}
    plain, second = by_magnitude(layers), choose(layers, statistics)
    for keep in (0.5,) if layers.granularity.regular else (0.7, 0.4):
        by_size = halves(layers, [choice.order for choice in plain], keep)
        removal = halves(layers, [choice.order for choice in second], keep)
        assert [len(gone) for gone in by_size.values()] == [len(gone) for gone in removal.values()]
        magnitude = zeroed(layers.graph, layers.masks(by_size))
        pure = zeroed(layers.graph, layers.masks(removal))
        fitted = refit(layers, removal, pure, statistics)
        assert masks(fitted).keys() == masks(pure).keys()
        assert lost(layers, fitted, grams) < lost(layers, pure, grams)
        assert lost(layers, fitted, grams) < lost(layers, magnitude, grams)
    for choice, layer in zip(second, layers.layers, strict=True):
        assert (np.diff(choice.loss) >= -1e-12).all() and len(choice.loss) == layer.levels + 1
        assert len(choice.magnitude) == layer.levels


def test_zeros_stay_zeros_through_repair_and_blocks() -> None:
    layers = made("weight")
    graph, channels = layers.graph, analyze(layers.graph)
    inputs = {"input": tiny_models.samples(64)["input"]}
    removal = halves(layers, [choice.order for choice in by_magnitude(layers)], 0.3)
    chosen = layers.masks(removal)
    pure = zeroed(graph, chosen)
    repaired = repair(channels, {}, pure, inputs, masks=chosen)
    fitted = reconstruct_blocks(channels, {}, repaired, inputs, epochs=3, masks=chosen)
    for found in (repaired, fitted):
        assert any(not np.array_equal(found.params[name], pure.params[name]) for name in chosen)
        for name, mask in chosen.items():
            assert not found.params[name][~mask].any()
    outputs = [run(g, inputs) for g in (graph, pure, repaired, fitted)]
    errors = [float(np.square(found - outputs[0]).mean()) for found in outputs]
    assert errors[2] < errors[1]
    assert errors[3] <= errors[2] * 1.05


def run(graph: Graph, inputs: dict[str, Array]) -> Array:
    from amcc.backends.runtime import Session

    return np.asarray(Session(graph, threads=1).run(inputs)["logits"])
