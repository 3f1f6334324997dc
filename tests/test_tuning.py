"""Training: batch normalisation in and out, what each step sees, checkpoints, hooks."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amcc.backends.runtime import Session
from amcc.backends.torch_module import torch_module
from amcc.data import load_data
from amcc.errors import DataError, Interrupted, UsageError
from amcc.ir import Array, Graph, frozen
from amcc.passes.channels import analyze
from amcc.passes.magnitude import magnitudes
from amcc.passes.rewrite import shrink
from amcc.passes.sparsity import masks
from amcc.settings import Tuning
from amcc.stages import Notes
from amcc.summary import TuningLine
from amcc.tuning.augment import Augment, flipped, shifted, standing
from amcc.tuning.norms import folded, restored
from amcc.tuning.schedule import schedule_of
from amcc.tuning.stream import Stream, held_out
from amcc.tuning.student import trainable
from amcc.tuning.targets import targets
from amcc.tuning.trainer import Trainer
from amcc.tuning.tuned import Task, tuned
from amcc.tuning.world import World

from . import tiny_models
from .stops import Killed

FAST = Tuning(epochs=2, batch=8, rate=0.02, threads=1)


class Says:
    """An observer that calls a function at each thing that it is told."""

    def __init__(self, function: Callable[[str], None] | None = None) -> None:
        self.texts: list[str] = []
        self.function = function

    def phase(self, text: str) -> None:
        self.texts.append(text)
        if self.function is not None:
            self.function(text)

    def search_begins(self, episodes: int) -> None: ...
    def episode(self, record: Any) -> None: ...
    def search_ends(self) -> None: ...


@pytest.fixture(scope="module")
def task() -> Task:
    """The tiny network with half of each group gone."""
    graph = tiny_models.graph()
    channels = analyze(graph)
    orders = [np.argsort(size) for size in magnitudes(channels)]
    removal = channels.removal([group.size // 2 for group in channels.groups], orders)
    data = load_data(tiny_models.samples(60), graph)
    return Task(shrink(channels, removal), graph, channels.kept(removal), data)


def run(task: Task, tuning: Tuning = FAST, says: Says | None = None, **options: Any) -> tuple[Graph, TuningLine]:
    return tuned(task, tuning, World(), Notes(), says or Says(), **options)


def outputs(graph: Graph, x: Array) -> Array:
    return Session(graph, threads=1).run({"input": x})[graph.outputs[0]]


def same(one: Graph, other: Graph) -> bool:
    return one.params.keys() == other.params.keys() and all(
        np.array_equal(array, other.params[name]) for name, array in one.params.items()
    )


# Batch normalisation


def test_restored_norms_cancel_and_fold_away(task: Task) -> None:
    graph, x = task.student, task.data.inputs["input"]
    with_norms = restored(graph, [{"input": x}])
    assert [node.op for node in with_norms.graph.nodes].count("BatchNormalization") == len(with_norms.norms) == 3
    np.testing.assert_allclose(outputs(with_norms.graph, x), outputs(graph, x), atol=1e-5)
    back = folded(with_norms, with_norms.graph.params)
    assert back.nodes == graph.nodes
    for name, array in graph.params.items():
        np.testing.assert_allclose(back.params[name], array, rtol=1e-4, atol=1e-6)


def test_statistics_are_those_of_batches_in_training(task: Task) -> None:
    x = task.data.inputs["input"]
    module, _ = torch_module(restored(task.student, [{"input": x}]).graph)
    with torch.no_grad():
        evaluated, trained = module(torch.from_numpy(x)), module.train()(torch.from_numpy(x))
    np.testing.assert_allclose(trained, evaluated, rtol=1e-3, atol=1e-4)


def test_trained_norms_fold_into_the_convolutions(task: Task) -> None:
    x, random = task.data.inputs["input"], np.random.default_rng(0)
    conv = task.student.nodes[0]
    bare = task.student.replace(
        nodes=(conv.replace(inputs=conv.inputs[:2]), *task.student.nodes[1:])
    ).live()  # a convolution without a bias
    given = restored(bare, [{"input": x}])
    moved = {
        n: frozen((a * random.uniform(0.5, 1.5, a.shape)).astype(np.float32)) for n, a in given.graph.params.items()
    }
    result = folded(given, moved)
    assert [node.op for node in result.nodes] == [node.op for node in bare.nodes]
    np.testing.assert_allclose(outputs(result, x), outputs(given.graph.with_params(moved), x), rtol=1e-4, atol=1e-4)


def test_constants_are_not_trained() -> None:
    graph = tiny_models.graph()
    assert trainable(graph) == graph.params.keys()
    assert not trainable(graph.replace(nodes=tuple(n.replace(op="Clip") for n in graph.nodes)))


# What steps see


def test_a_stream_goes_over_all_samples_again_and_again() -> None:
    stream = Stream.of(23, 5, None, seed=3)
    assert stream.per_epoch == 4
    passes = [np.concatenate([stream.at(4 * turn + step) for step in range(4)]) for turn in range(2)]
    for seen in passes:
        assert len(set(seen.tolist())) == 20
    assert not np.array_equal(*passes)
    few = Stream.of(23, 5, 10, seed=3)
    assert few.per_epoch == 2 and np.array_equal(few.at(3), stream.at(3))
    draws = [torch.rand(4, generator=stream.generator(step)).tolist() for step in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]


def test_held_out_samples_are_apart() -> None:
    chosen, held = held_out(100, 0.1, 50, 0)
    assert len(held) == 10 and sorted([*chosen, *held]) == list(range(100))
    assert len(held_out(100, 0.5, 20, 0)[1]) == 20 and len(held_out(2, 0.9, 20, 0)[0]) == 1


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [schedule_of("cosine", 0.1)(step, 100) for step in range(100)]
    assert rates[9] == rates[10] == max(rates) == 1 and rates[0] == 0.1
    assert all(a > b for a, b in pairwise(rates[10:])) and rates[-1] < 1e-3
    assert [schedule_of("constant", 0.5)(step, 4) for step in range(4)] == [0.5, 1, 1, 1]
    assert schedule_of(lambda step, steps: step / steps, 0.5)(1, 4) == 0.25
    with pytest.raises(DataError, match="not a number"):
        schedule_of(lambda step, steps: None, 0.5)(1, 4)


def test_pictures_flip_and_shift_as_in_numpy() -> None:
    x = torch.rand(40, 2, 16, 8)
    mirrored = flipped(x, torch.Generator().manual_seed(0))
    sides = [bool((a == b).all()) for a, b in zip(mirrored, x, strict=True)]
    assert 5 < sum(sides) < 35
    assert all(same or bool((a == b.flip(2)).all()) for same, a, b in zip(sides, mirrored, x, strict=True))
    moved, found = shifted(x, torch.Generator().manual_seed(0)).numpy(), set()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (1, 1)))
    for own, whole in zip(moved, padded, strict=True):
        places = [(i, j) for i in range(5) for j in range(3) if np.array_equal(own, whole[:, i : i + 16, j : j + 8])]
        assert len(places) == 1
        found.update(places)
    assert len(found) > 8


def test_augmentations_that_the_original_does_not_stand_are_left_out() -> None:
    x = {"x": torch.rand(64, 1, 8, 8)}

    def draws(place: int) -> torch.Generator:
        return torch.Generator().manual_seed(place)

    def left(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (inputs["x"][..., :4].mean((1, 2, 3)) > inputs["x"][..., 4:].mean((1, 2, 3))).long()

    def bright(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (inputs["x"].amax((1, 2, 3)) > 2).long()

    assert standing("x", x, left, None, draws) == ()
    assert standing("x", x, bright, None, draws) == ("flip", "shift")
    assert standing(None, x, bright, None, draws) == ()


# What is compared


def test_outputs_and_values_between_blocks_are_compared(task: Task) -> None:
    found = targets(task.student, task.original, task.kept, labelled=True, features=True)
    assert found[0].name == "logits" and found[0].classes == 1 and found[0].labelled and not found[0].feature
    between = {target.name: dict(target.kept) for target in found[1:]}
    assert between and all(target.feature for target in found[1:])
    for name, kept in between.items():
        assert task.student.shape(name)[1] == len(kept[1]) < tiny_models.CHANNELS
    assert targets(task.student, task.original, {}, labelled=False, features=True) == (
        replace(found[0], classes=None, labelled=False),
    )


def test_a_softmax_at_the_end_is_looked_through() -> None:
    graph = tiny_models.graph()
    last = graph.nodes[-1]
    values = {**graph.values, "z": replace(graph.values["logits"], name="z")}
    softmax = last.replace(name="s", op="Softmax", inputs=("z",), outputs=("logits",), attributes={"axis": -1})
    soft = graph.replace(nodes=(*graph.nodes[:-1], last.replace(outputs=("z",)), softmax), values=values)
    (found,) = targets(soft, soft, {}, labelled=False, features=False)
    assert (found.name, found.classes) == ("z", 1)


# Training


def test_training_brings_back_what_the_cut_cost(task: Task) -> None:
    unlabelled = replace(task, data=replace(task.data, labels=None))
    graph, line = run(unlabelled, Tuning(epochs=8, batch=8, rate=0.05, held_out=0.3, threads=1))
    assert line.after > line.before and line.original == 1.0 and line.kept > 0
    assert (
        line.loss == "0.9 outputs + 0.5 features"
        and line.norms == 3
        and line.error < 1e-5
        and line.samples + line.held_out == 60
    )
    assert [node.op for node in graph.nodes] == [node.op for node in task.student.nodes]
    assert len(line.curve) == 8 and line.curve[-1].loss < line.curve[0].loss


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_killed_training_goes_on_to_the_same_weights(task: Task, tmp_path: Path, optimiser: str) -> None:
    tuning = replace(FAST, optimiser=optimiser, checkpoint_seconds=0)
    calm, line = run(task, tuning)
    own = replace(task, file=tmp_path / "c.safetensors")
    for step in (2, 5, 9):
        with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
            plain = Trainer._step

            def dying(self: Trainer, number: int, asked: Any, at: int = step, plain: Any = plain) -> float:
                if number == at:
                    raise Killed
                return float(plain(self, number, asked))

            patch.setattr(Trainer, "_step", dying)
            run(own, tuning)
    says = Says()
    resumed, again = run(own, tuning, says)
    assert "going on from step 9" in says.texts[0]
    assert same(resumed, calm) and again == line
    assert same(run(own, tuning)[0], calm)  # an ended one is not run again


def test_ctrl_c_ends_a_training_that_can_go_on(task: Task, tmp_path: Path) -> None:
    own, calls = replace(task, file=tmp_path / "c.safetensors"), []

    def stopping(inputs: Any, labels: Any, draws: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return inputs

    with pytest.raises(Interrupted, match="stopped"):
        run(own, replace(FAST, augment=stopping))
    assert len(calls) == 3
    graph, line = run(own, replace(FAST, augment=stopping))
    assert same(graph, run(task, replace(FAST, augment=stopping))[0]) and line.augment == ("stopping",)


def test_the_checkpoint_of_another_training_is_refused(task: Task, tmp_path: Path) -> None:
    own = replace(task, file=tmp_path / "c.safetensors")
    run(own)
    with pytest.raises(UsageError, match=r"another training: epochs was 2, is 3 .*--fresh"):
        run(own, replace(FAST, epochs=3))
    assert len(run(replace(own, fresh=True), replace(FAST, epochs=3))[1].curve) == 3
    (tmp_path / "c.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(UsageError, match="not a checkpoint"):
        run(own)


def test_zeros_of_a_sparse_network_stay(task: Task) -> None:
    random = np.random.default_rng(0)
    weight = task.student.params["conv2.weight"]
    array = frozen(np.where(random.random(weight.shape) < 0.5, weight, 0).astype(np.float32))
    sparse = task.student.with_params({"conv2.weight": array})
    graph, _ = run(replace(task, student=sparse))
    assert np.array_equal(masks(graph)["conv2.weight"], masks(sparse)["conv2.weight"])
    assert not np.array_equal(graph.params["conv2.weight"], array)


def test_unlabelled_samples_and_labels_that_are_no_classes(task: Task) -> None:
    unlabelled = replace(task, data=replace(task.data, labels=None))
    _, line = run(unlabelled)
    assert line.metric == "fidelity" and not line.labelled and line.after >= line.before
    odd = replace(task, data=replace(task.data, labels=np.ones((60, 3), np.float32)), metric="fidelity")
    assert not run(odd)[1].labelled


def test_an_epoch_that_does_worse_is_not_kept(task: Task) -> None:
    whole = replace(task, student=task.original, kept={}, data=replace(task.data, labels=None))
    graph, line = run(whole, replace(FAST, rate=0.3, norms=False, epochs=3, patience=1))
    assert (
        line.optimiser == "adamw"
        and line.epochs == 1
        and line.kept == 0
        and line.after == line.before == 1.0
        and same(graph, task.original)
    )


def test_functions_of_the_users(task: Task) -> None:
    def loss(outputs: Mapping[str, Any], labels: Any, wanted: Mapping[str, Any]) -> Any:
        assert outputs["logits"].shape == wanted["logits"].shape and labels.dtype == torch.int64
        return (outputs["logits"] - wanted["logits"]).square().mean()

    def optimiser(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.RMSprop([p for _, p in parameters], lr=1e-3)

    _, line = run(task, replace(FAST, loss=loss, optimiser=optimiser))
    assert line.optimiser.endswith("optimiser") and line.curve[1].loss < line.curve[0].loss
    with pytest.raises(DataError, match="not a tensor with one number"):
        run(task, replace(FAST, loss=lambda *_: 3))
    with pytest.raises(DataError, match="no longer a number"):
        run(task, replace(FAST, loss=lambda outputs, *_: outputs["logits"].sum() * float("nan")))
    with pytest.raises(UsageError, match="not an optimiser"):
        run(task, replace(FAST, optimiser=lambda weights: 3))
    with pytest.raises(DataError, match="shapes"):
        run(task, replace(FAST, augment=lambda inputs, labels, draws: {}))
    assert Augment(function=loss).names == ("loss",)


def test_half_precision_and_fixed_batches(task: Task) -> None:
    from amcc.passes.shapes import infer

    fixed = tiny_models.graph(batch=2)
    graph, line = run(Task(fixed, fixed, {}, load_data(tiny_models.samples(20), fixed)))
    assert graph.shape("input")[0] == 2 and line.batch == 8
    half = {n: frozen(a.astype(np.float16)) for n, a in task.student.params.items()}
    values = {n: replace(v, dtype="float16") for n, v in task.student.values.items()}
    student = infer(task.student.replace(params=half, values=values))
    graph, line = run(replace(task, student=student), replace(FAST, precision="bfloat16"))
    assert {a.dtype.name for a in graph.params.values()} == {"float16"} and line.error < 2e-2


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"device": "tpu"}, "--device"),
        ({"augment": "spin"}, "--augment"),
        ({"optimiser": "lbfgs"}, "--optimiser"),
        ({"schedule": "steps"}, "--schedule"),
        ({"held_out": 1.0}, "--held-out"),
        ({"label_weight": 0, "output_weight": 0, "feature_weight": 0}, "--output-weight"),
    ],
)
def test_options_that_make_no_sense(option: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError, match=where):
        Tuning(**option)
