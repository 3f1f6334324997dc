"""Fine-grained sparsity through the whole chain: compile, plan, apply, verify, guarantees, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file
from typer.testing import CliRunner

import amcc
from amcc.cli import app
from amcc.errors import BudgetError, PlanError, UsageError, VerificationError
from amcc.frontends.load import load
from amcc.ir import Array
from amcc.passes.sparsity import masks
from amcc.plan import Plan
from amcc.schema import schema
from amcc.shipping import Result
from amcc.summary import Summary
from tests import tiny_models
from tests.test_free_sizes import SMALL, save, segmenter
from tests.test_guarantee import CHANGED, DATA

QUICK: dict[str, Any] = {"search": "lagrange", "threads": 1, "calib_samples": 48, "eval_samples": 60}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny") / "model.onnx", changed=CHANGED)


@pytest.fixture(scope="module")
def data() -> dict[str, Array]:
    return {name: array[:200] for name, array in DATA.items()}


@pytest.fixture(scope="module")
def sparse(model: Path, data: dict[str, Array]) -> Result:
    out = model.parent / "sparse.amcc"
    return amcc.compile(str(model), budget="params=0.4", granularity="weight", data=data, out=out, **QUICK)


def zeros(file: Path) -> dict[str, Array]:
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}
    return {name: array == 0 for name, array in arrays.items() if (array == 0).any()}


def test_the_budget_is_met_in_weights_that_stay(sparse: Result, model: Path) -> None:
    summary = sparse.summary
    before = sum(array.size for array in tiny_models.weights().values())
    (line,) = summary.budget
    assert line.original == before
    assert 0.98 * line.limit < line.reached <= line.limit == before * 2 // 5
    assert (
        summary.totals.params.after
        == line.reached
        == sum(int(np.count_nonzero(array)) for array in sparse.graph.params.values())
    )
    assert summary.sparsity is not None
    assert summary.sparsity.nonzeros.after == line.reached
    assert summary.sparsity.zlib.after < summary.sparsity.zlib.before
    assert summary.totals.macs.after < summary.totals.macs.before
    assert [(g.name, g.size) for g in summary.groups] == [
        (name, array.size) for name, array in tiny_models.weights().items() if array.ndim > 1
    ]
    assert summary.certificate.passed
    original = load(model)
    assert [n.op for n in sparse.graph.nodes] == [n.op for n in original.nodes]
    assert {n: a.shape for n, a in sparse.graph.params.items()} == {n: a.shape for n, a in original.params.items()}


def test_zeros_are_in_both_files_and_the_plan_has_them(sparse: Result) -> None:
    folder = sparse.folder
    assert folder is not None
    found = zeros(folder / "model.onnx")
    assert found.keys() == masks(sparse.graph).keys() == sparse.plan.masks.keys()
    weights = load_file(folder / "model.safetensors")
    for name, mask in Plan.read(folder).masks.items():
        assert np.array_equal(found[name], ~mask)
        assert np.array_equal(weights[name] == 0, ~mask)
    written = json.loads((folder / "plan.json").read_text())
    jsonschema.validate(written, schema("plan"))
    jsonschema.validate(json.loads((folder / "summary.json").read_text()), schema("summary"))
    kept = {layer["param"]: layer["kept"] for layer in written["sparsity"]["layers"]}
    assert kept == {group.name: group.kept for group in sparse.summary.groups}
    assert "Sparsity by layer" in (folder / "report.html").read_text()


def test_verify_and_apply_give_the_same_network_again(sparse: Result, model: Path, tmp_path: Path) -> None:
    folder = sparse.folder
    assert folder is not None
    assert any("zeros are where the plan says" in check for check in amcc.verify(str(model), folder).checks)
    again = amcc.apply(folder, str(model), out=tmp_path / "again.amcc", threads=1)
    assert again.summary.recover == "none"
    original = load(model)
    for name, mask in sparse.plan.masks.items():
        assert np.array_equal(again.graph.params[name], np.where(mask, original.params[name], 0))
    checks = amcc.verify(str(model), tmp_path / "again.amcc").checks
    assert any("slices of the original" in check for check in checks)


def test_a_file_with_other_zeros_is_found_out(sparse: Result, model: Path, tmp_path: Path) -> None:
    folder, (name, mask) = tmp_path / "bad.amcc", next(iter(sparse.plan.masks.items()))
    amcc.apply(sparse.plan, str(model), out=folder, threads=1)
    written = onnx.load(folder / "model.onnx")
    tensor = next(t for t in written.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[~mask] = 1.0
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(written, folder / "model.onnx")
    summary = Summary.read(folder)
    from amcc.artifacts import hashes

    summary.model_copy(update={"files": hashes(folder), "recover": "full"}).write(folder / "summary.json")
    with pytest.raises(VerificationError, match="not zero where the plan says so"):
        amcc.verify(str(model), folder)


def test_plan_and_masks_belong_together(sparse: Result, model: Path, tmp_path: Path) -> None:
    sparse.plan.write(tmp_path / "one.json")
    assert Plan.read(tmp_path / "one.json").masks.keys() == sparse.plan.masks.keys()
    beside = tmp_path / "one.masks.safetensors"
    content = beside.read_bytes()
    beside.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PlanError, match="not the file of masks"):
        Plan.read(tmp_path / "one.json")
    beside.unlink()
    with pytest.raises(PlanError, match="masks cannot be read"):
        amcc.apply(tmp_path / "one.json", str(model))


@pytest.mark.parametrize("granularity", ["2:4", "block=4x1"])
def test_patterns_and_blocks_meet_budgets(
    granularity: str, model: Path, data: dict[str, Array], tmp_path: Path
) -> None:
    budget = "flops=0.7,size=0.9"
    result = amcc.compile(str(model), budget=budget, granularity=granularity, data=data, out=tmp_path / "out", **QUICK)
    assert all(line.reached <= line.limit for line in result.summary.budget)
    assert result.summary.totals.bytes.after == next(
        line.reached for line in result.summary.budget if line.resource == "size"
    )
    for mask in masks(result.graph).values():
        by_input = np.moveaxis(mask, 1, -1)
        if granularity == "2:4":
            assert (by_input.reshape(-1, 4).sum(axis=1) == 2).all()
        else:
            blocks = mask.reshape(mask.shape[0] // 4, 4, -1)
            assert (blocks.any(axis=1) == blocks.all(axis=1)).all()
    assert amcc.verify(str(model), tmp_path / "out").certificate.passed


def test_the_same_bytes_again(sparse: Result, model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    assert sparse.folder is not None
    amcc.compile(str(model), budget="params=0.4", granularity="weight", data=data, out=tmp_path / "out", **QUICK)
    for name in ("model.onnx", "model.safetensors", "plan.json", "masks.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (sparse.folder / name).read_bytes()


def test_a_guarantee_for_the_fewest_weights(model: Path, tmp_path: Path) -> None:
    result = amcc.compile(
        str(model),
        max_drop=0.05,
        minimise="params",
        granularity="weight",
        data=dict(DATA),
        search="uniform",
        recover="none",
        threads=1,
        calib_samples=100,
        eval_samples=200,
    )
    line = result.summary.guarantee
    assert line is not None and line.minimised == "params"
    assert line.bound <= 0.05
    (budget,) = result.summary.budget
    assert budget.reached < budget.original
    assert budget.reached == sum(int(np.count_nonzero(a)) for a in result.graph.params.values())


def test_sizes_stay_free(tmp_path: Path) -> None:
    path = save(segmenter(), tmp_path)
    result = amcc.compile(
        path, budget="params=0.5", granularity="weight", input_shapes=SMALL, out=tmp_path / "out", **QUICK
    )
    (line,) = result.summary.free
    assert line.shape == ("n", 3, "h", "w")
    found = zeros(tmp_path / "out" / "model.onnx")
    for name, mask in result.plan.masks.items():
        assert np.array_equal(found[name], ~mask)
    assert amcc.verify(path, tmp_path / "out", input_shapes=SMALL).certificate.passed


@pytest.mark.parametrize("steps", [1, 2])
def test_training_keeps_the_zeros(steps: int, model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    out, tuning = tmp_path / "tuned.amcc", amcc.Tuning(epochs=1, batch=32, threads=1)
    given: dict[str, Any] = {"budget": "params=0.3", "granularity": "weight", "recover": "none", "data": data}
    result = amcc.compile(
        str(model), out=out, search="uniform", tune=tuning, train=data, steps=steps, threads=1, **given
    )
    found, (line,) = zeros(out / "model.onnx"), result.summary.budget
    for name, mask in result.plan.masks.items():
        assert found[name][~mask].all(), name
    assert sum(int(mask.sum()) for mask in result.plan.masks.values()) <= line.reached <= line.limit
    assert amcc.verify(str(model), out).certificate.passed
    again = amcc.tune(out, data, teacher=str(model), tuning=tuning, out=tmp_path / "again.amcc")
    assert again.folder is not None
    assert (again.folder / "masks.safetensors").read_bytes() == (out / "masks.safetensors").read_bytes()
    assert again.summary.totals.params == result.summary.totals.params
    assert again.summary.sparsity is not None and result.summary.sparsity is not None
    assert again.summary.sparsity.nonzeros == result.summary.sparsity.nonzeros
    assert amcc.verify(str(model), again.folder).certificate.passed


def test_a_module_by_a_sparse_plan_is_of_its_own_class() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.ReLU(), torch.nn.Linear(12, 4)).eval()
    example = torch.zeros(1, 8)
    options: dict[str, Any] = {"search": "uniform", "recover": "none", "threads": 1}
    plan = amcc.plan(module, example, budget="params=0.5", granularity="weight", **options)
    sparse = amcc.apply(plan, module)
    assert isinstance(sparse, torch.nn.Sequential)
    assert plan.masks.keys() == {"0.weight", "2.weight"}
    for name, mask in plan.masks.items():
        before, after = (part.state_dict()[name].numpy() for part in (module, sparse))
        assert np.array_equal(after, np.where(mask, before, 0))


def test_what_zeros_cannot_give_is_refused(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    given: dict[str, Any] = {"granularity": "weight", "data": data}
    with pytest.raises(UsageError, match="zeros do not make"):
        amcc.compile(str(model), budget="latency=0.5", **given)
    with pytest.raises(UsageError, match="--round"):
        amcc.compile(str(model), budget="params=0.5", round=8, **given)
    with pytest.raises(BudgetError, match="out of reach"):
        amcc.compile(str(model), budget="memory=0.5", **given)
    with pytest.raises(BudgetError, match="no multiples"):
        amcc.compile(str(model), budget="params=0.1", granularity="2:4", data=data)
    with pytest.raises(BudgetError, match="nothing in this network"):
        amcc.compile(str(model), budget="params=0.5", granularity="block=7x1", data=data)


def test_the_command_line(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", **data)
    given = ["--data", str(tmp_path / "val.npz"), "--granularity", "weight", "--recover", "none", "--search", "uniform"]
    budget = ["--budget", "params=0.5", "-q"]
    runner = CliRunner()
    refused = runner.invoke(app, ["plan", str(model), *budget, *given])
    assert refused.exit_code == 2 and "give -o" in refused.output
    planned = runner.invoke(app, ["plan", str(model), *budget, *given, "-o", str(tmp_path / "p.json")])
    assert planned.exit_code == 0, planned.output
    assert sorted(p.name for p in tmp_path.glob("p.*")) == ["p.json", "p.masks.safetensors"]
    applied = runner.invoke(app, ["apply", str(tmp_path / "p.json"), str(model), "-q", "-o", str(tmp_path / "a")])
    assert applied.exit_code == 0, applied.output
    assert "compressed" in applied.output and "of all numbers are zero" in " ".join(applied.output.split())
    rivals = ["--policies", "uniform,magnitude", "--seeds", "1", "-o", str(tmp_path / "s")]
    compared = runner.invoke(app, ["search", str(model), *budget, *given[:-2], *rivals])
    assert compared.exit_code == 0, compared.output
    assert (tmp_path / "s" / "masks.safetensors").is_file()
    wrong = runner.invoke(app, ["compile", str(model), *budget, "--granularity", "filter"])
    assert wrong.exit_code == 2 and "no granularity" in wrong.output
