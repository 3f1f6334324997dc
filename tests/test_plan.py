"""Plans: written and read, refused when they make no sense, found again in other networks."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.errors import PlanError
from amcc.ir import Array, Graph, Value, frozen
from amcc.passes.channels import Channels, analyze
from amcc.passes.rewrite import shrink
from amcc.plan import Plan, fingerprint
from amcc.planning import describe, removal_of
from amcc.schema import schema
from tests import tiny_models

CHANNELS = analyze(tiny_models.graph())


def plan_of(channels: Channels, removal: dict[int, Array]) -> Plan:
    shrunk = shrink(channels, removal)
    return describe(channels, removal, shrunk, model="tiny.onnx", budget="flops=0.5", policy="uniform", seed=0)


@st.composite
def removals(draw: st.DrawFn) -> dict[int, Array]:
    found = {}
    for group in CHANNELS.groups:
        gone = draw(st.sets(st.integers(0, group.size - 1), max_size=group.size - 1))
        if gone:
            found[group.index] = np.array(sorted(gone))
    return found


def assert_same(found: dict[int, Array], expected: dict[int, Array]) -> None:
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in expected.items()}


@settings(deadline=None)
@given(removals())
def test_a_plan_comes_back_from_its_file(removal: dict[int, Array]) -> None:
    plan = plan_of(CHANNELS, removal)
    jsonschema.validate(plan.model_dump(mode="json"), schema("plan"))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert_same(removal_of(plan, CHANNELS), removal)


def test_files_are_the_same_bytes(tmp_path: Path) -> None:
    plan = plan_of(CHANNELS, {0: np.array([1, 3])})
    plan.write(tmp_path / "a.json")
    plan.write(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert Plan.read(tmp_path / "a.json") == plan
    assert '"removed": [1, 3]' in (tmp_path / "a.json").read_text()


def test_sparsity_is_the_share_of_macs_that_goes() -> None:
    by_name = {g.name: g for g in CHANNELS.groups}
    inner = by_name["conv2.weight"]
    plan = plan_of(CHANNELS, {inner.index: np.arange(2)})
    found = {node.name: node for node in plan.nodes}
    assert found["Conv_c"].macs == 8 * 8 * 8 * 8 * 9
    assert found["Conv_c"].sparsity == found["Conv_e"].sparsity == 0.25
    assert found["Conv_a"].sparsity == 0 and found["Relu_d"].sparsity == 0.25
    assert len(plan.nodes) == len(CHANNELS.graph.nodes)


def renamed(graph: Graph, name: str) -> Graph:
    """A graph of another fingerprint whose parameters keep their names."""
    values = {**graph.values, name: Value(name, "float32", graph.shape(graph.outputs[0]))}
    last = graph.nodes[-1].replace(outputs=(name,))
    return graph.replace(nodes=(*graph.nodes[:-1], last), outputs=(name,), values=values)


@settings(deadline=None)
@given(removals())
def test_a_twin_is_found_by_its_parameters(removal: dict[int, Array]) -> None:
    twin = analyze(renamed(tiny_models.graph(), "scores"))
    assert fingerprint(twin.graph) != fingerprint(CHANNELS.graph)
    assert_same(removal_of(plan_of(CHANNELS, removal), twin), removal)


def test_other_weights_leave_the_fingerprint_other_shapes_change_it() -> None:
    graph = tiny_models.graph()
    retrained = graph.with_params(tiny_models.weights(7))
    assert fingerprint(retrained) == fingerprint(graph)
    assert fingerprint(tiny_models.graph(batch=2)) != fingerprint(graph)


def test_a_twin_with_other_names_is_refused() -> None:
    graph = tiny_models.graph()
    new = {name: f"net.{name}" for name in graph.params}
    other = graph.replace(
        nodes=tuple(n.replace(inputs=tuple(new.get(i, i) for i in n.inputs)) for n in graph.nodes),
        params={new[n]: frozen(a) for n, a in graph.params.items()},
        values={new.get(n, n): Value(new.get(n, n), v.dtype, v.shape) for n, v in graph.values.items()},
    )
    with pytest.raises(PlanError, match="plan of another model"):
        removal_of(plan_of(CHANNELS, {0: np.array([1])}), analyze(other))


def test_a_locked_twin_is_refused() -> None:
    locked = analyze(renamed(tiny_models.graph(), "scores"), locked=("conv2.weight",))
    group = next(g for g in CHANNELS.groups if g.name == "conv2.weight")
    with pytest.raises(PlanError, match=r"conv2\.weight"):
        removal_of(plan_of(CHANNELS, {group.index: np.array([1])}), locked)


EDITS = [
    (("groups", 0, "removed"), [1, 1], "ascending"),
    (("groups", 0, "removed"), [99], "there is no unit 99"),
    (("groups", 0, "removed"), [-1], "greater than or equal to 0"),
    (("groups", 0, "removed"), ["x"], r"groups\[0\]\.removed\[0\]"),
    (("groups", 0, "kept"), 0, "greater than or equal to 1"),
    (("groups", 0, "kept"), 3, "kept is 3"),
    (("groups", 0, "size"), 10**9, "kept is"),
    (("groups", 0, "extra"), 1, "not permitted"),
    (("groups", 1, "name"), "conv1.weight", "there twice"),
    (("version",), 2, "version"),
    (("groups",), None, "groups"),
    (("seed",), "zero", "seed"),
]


@pytest.mark.parametrize(("place", "value", "message"), EDITS)
def test_nonsense_is_refused_with_its_place(
    tmp_path: Path, place: tuple[str | int, ...], value: object, message: str
) -> None:
    content = plan_of(CHANNELS, {0: np.array([1, 3])}).model_dump(mode="json")
    target = content
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match=message) as caught:
        Plan.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": NaN}'])
def test_files_that_are_no_plans(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(PlanError):
        Plan.read(path)


def test_a_missing_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        Plan.read(tmp_path / "plan.json")


def edited(plan: Plan, **changes: object) -> Plan:
    group = plan.groups[0].model_copy(update=changes)
    return plan.model_copy(update={"groups": (group, *plan.groups[1:])})


def test_an_edit_by_hand_needs_its_slices_deleted() -> None:
    plan = plan_of(CHANNELS, {0: np.array([1, 3])})
    with pytest.raises(PlanError, match="delete the group's 'slices'"):
        removal_of(edited(plan, removed=(1, 4)), CHANNELS)
    assert_same(removal_of(edited(plan, removed=(1, 4), slices=None), CHANNELS), {0: np.array([1, 4])})
    with pytest.raises(PlanError, match="no such group"):
        removal_of(edited(plan, name="conv9.weight"), CHANNELS)
    with pytest.raises(PlanError, match="16 units in the plan and 8"):
        removal_of(edited(plan, size=16, kept=14), CHANNELS)


def test_slices_that_are_not_whole_units_of_a_twin() -> None:
    twin = analyze(renamed(tiny_models.graph(), "scores"))
    plan = plan_of(CHANNELS, {0: np.array([1, 3])})
    slices = {k: dict(v) for k, v in (plan.groups[0].slices or {}).items()}
    slices["conv2.weight"] = {1: (1, 2)}
    with pytest.raises(PlanError, match="whole units"):
        removal_of(edited(plan, slices=slices), twin)
    with pytest.raises(PlanError, match="slices' is missing"):
        removal_of(edited(plan, slices=None), twin)
