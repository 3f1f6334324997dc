"""The table of latencies: devices, profiles, staircases, least squares, the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amcc.bench import bench
from amcc.errors import DataError, ModelError, UsageError
from amcc.frontends.load import load
from amcc.jsontext import dumps
from amcc.latency import cache, designs, measure, profile
from amcc.latency.clock import Latency, latency_of
from amcc.latency.device import CALLS, Local, Remote, device_of, processor
from amcc.latency.fit import by_operator, nonnegative, scale_of
from amcc.latency.operators import Operators
from amcc.latency.table import Table
from amcc.passes.channels import Channels, analyze
from amcc.passes.cost import CostModel
from amcc.passes.rewrite import shrink
from amcc.settings import Measuring
from tests import devices

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


@pytest.fixture(scope="module")
def digits() -> Channels:
    return analyze(load(DIGITS / "model.onnx"))


def latency(channels: Channels, function: Callable[[str], float], **how: Any) -> Latency:
    shapes = {name: channels.graph.shape(name) for name in channels.graph.inputs}
    return latency_of(channels, Remote(function.__name__, function), shapes, **how)[0]


def removal(channels: Channels, keep: Any) -> dict[int, np.ndarray]:
    return channels.removal(keep, [np.arange(group.size)[::-1] for group in channels.groups])


# Staircases.


@pytest.mark.parametrize("length", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [64, 96, 256])
def test_treads_are_found_under_noise(length: int, size: int) -> None:
    random = np.random.default_rng(size + length)
    widths = designs.levels(size, 64)
    times = {w: 1000 + 200 * -(-w // length) * length / 8 for w in widths}
    noisy = {w: t * random.normal(1, 0.004) for w, t in times.items()}
    step = widths[0]
    assert designs.tread(noisy) == (length if length > step else 1)
    worth = designs.stairs(noisy)
    assert worth[-1] == size
    assert all(w == size or w <= length or w % length == 0 for w in worth)
    assert len(worth) >= min(4, size // max(length, step))


def test_a_width_that_costs_no_less_than_a_wider_one_is_left_out() -> None:
    """As a runtime that leaves its fast layout between multiples of 16 behaves."""
    times = {w: 10.0 * -(-w // 16) * 16 + (0 if w % 16 == 0 else 100) for w in range(1, 65)}
    assert designs.stairs(times) == (16, 32, 48, 64)


def test_what_saves_nothing_stays_whole() -> None:
    assert designs.stairs({w: 100.0 for w in range(1, 17)}) == (16,)


@given(size=st.integers(1, 2000), most=st.integers(2, 64))
def test_levels_are_few_and_end_with_the_whole(size: int, most: int) -> None:
    widths = designs.levels(size, most)
    assert widths == sorted(set(widths)) and widths[-1] == size and widths[0] >= 1
    assert len(widths) <= most + 1 and (size > most or widths == list(range(1, size + 1)))


def test_each_group_is_swept_while_those_beside_it_are_whole(digits: Channels) -> None:
    operators = Operators(digits)
    colour, sizes = designs.colours(operators), [group.size for group in digits.groups]
    for operator in operators.listed:
        assert len({colour[group] for group in operator.groups}) == len(operator.groups)
    plans = designs.sweeps(sizes, colour, 8)
    assert plans[0] == tuple(sizes)
    for plan in plans[1:]:
        assert len({colour[g] for g, keep in enumerate(plan) if keep < sizes[g]}) == 1
    for group, size in enumerate(sizes):
        assert {plan[group] for plan in plans} == set(designs.levels(size, 8))


def test_drawn_plans_are_legal() -> None:
    widths = [(1, 4, 8), (16,), (3, 5)]
    for plan in designs.drawn(widths, 50, np.random.default_rng(0)):
        assert all(keep in legal for keep, legal in zip(plan, widths, strict=True))


# Least squares.


def test_least_squares_finds_what_is_there_and_nothing_below_zero() -> None:
    random = np.random.default_rng(0)
    A, truth = random.random((40, 6)), np.array([3.0, 0.0, 2.0, 0.5, 0.0, 7.0])
    assert np.allclose(nonnegative(A, A @ truth), truth, atol=1e-4)
    assert (nonnegative(A, -A @ truth) == 0).all()
    pulled = nonnegative(np.zeros((1, 2)), np.zeros(1), ridge=1.0, prior=np.array([4.0, 5.0]))
    assert pulled.tolist() == [4.0, 5.0]


def test_operators_are_fitted_each_by_itself() -> None:
    random = np.random.default_rng(1)
    shares, bounds = random.random((30, 5)), np.array([0, 2, 5])
    shares[:, [0, 2]] = 1.0
    truth = np.array([100.0, 900.0, 50.0, 300.0, 400.0])
    times = np.stack([shares[:, :2] @ truth[:2], shares[:, 2:] @ truth[2:]], axis=1)
    assert np.allclose(by_operator(shares, times, bounds), truth, rtol=1e-3)


def test_the_scale_explains_measured_savings() -> None:
    predicted = np.array([100.0, 80.0, 50.0])
    assert scale_of(predicted, 200 - 1.5 * (100 - predicted)) == pytest.approx(1.5)


# Operators, and their times inside networks.


def test_activations_and_additions_belong_to_the_convolution_in_front(digits: Channels) -> None:
    operators = Operators(digits)
    assert [operator.node.op for operator in operators.listed].count("Conv") == 15
    assert {operator.node.op for operator in operators.listed} == {"Conv", "ReduceMean", "Gemm"}
    assert operators.owner["relu_2"] == operators.owner["add_40"] == operators.owner["getitem_6"]
    assert operators.running("relu_2_nchwc") == operators.owner["getitem_6"]
    assert operators.running("ReorderInput_7", inputs=["relu_2"]) == operators.owner["getitem_6"]
    assert operators.running("nobody's") is None


def test_the_runtime_says_whose_every_microsecond_is(digits: Channels) -> None:
    shapes = {"input": digits.graph.shape("input")}
    graphs = [digits.graph, shrink(digits, removal(digits, [8] * 9))]
    times, nobodys = profile.profiled(graphs, Operators(digits), Local(), shapes, 4)
    assert times.shape == (2, 17) and nobodys == 0
    assert (times >= 0).all() and (times[:, :15] > 0).all()


def test_a_table_from_operators_and_its_costs(digits: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LEVELS": 4, "DRAWN": 6, "WHOLE": 1, "_SECONDS": 0.0, "_RUNS": (4, 4)}.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr("amcc.latency.device.SECONDS", 0.2)
    shapes = {"input": digits.graph.shape("input")}
    found, kept = latency_of(digits, Local(), shapes)
    assert kept and found.table.way == "operators"
    assert found.table.device["provider"] == "CPUExecutionProvider" and found.table.device["cpu"] == processor()
    assert [widths[-1] for widths in found.table.widths] == [group.size for group in digits.groups]
    monkeypatch.setattr(measure, "_by_operators", None)
    again, _ = latency_of(digits, Local(), shapes)
    assert again.table == found.table and again.sha256 == found.sha256
    monkeypatch.setattr(measure, "_by_operators", lambda *these: None)
    monkeypatch.setattr(measure, "NETWORKS", 2)
    monkeypatch.setattr(measure, "TWICE", 1)
    other, _ = latency_of(digits, Local(batch=2), shapes)
    assert other.table.way == "networks" and other.name != found.name


# What plans take.


def test_costs_are_exact_at_the_whole_and_never_grow_with_a_cut(digits: Channels) -> None:
    found = latency(digits, devices.smooth)
    model = CostModel(digits, pace=found.pace())
    assert model.original.latency == model.costs(model.full).latency == found.whole
    random, last = np.random.default_rng(0), found.whole
    for _ in range(20):
        keep = np.array([random.integers(1, group.size + 1) for group in digits.groups])
        wider = np.minimum(keep + random.integers(0, 3, len(keep)), model.full)
        assert model.costs(keep).latency <= model.costs(wider).latency <= last
        assert model.costs(keep).latency == model.of_removal(removal(digits, keep)).latency


def test_costs_are_those_of_the_table(digits: Channels) -> None:
    found = latency(digits, devices.smooth)
    keep = [9, 16, 5, 32, 7, 32, 64, 30, 11]
    cut = removal(digits, keep)
    lengths = {place: len(kept) / len(digits.axes[place]) for place, kept in digits.kept(cut).items()}
    saved = sum(
        term.ns * (1 - math.prod(lengths.get(place, 1.0) for place in term.axes))
        for line in found.table.operators
        for term in line.terms
    )
    predicted = CostModel(digits, pace=found.pace()).costs(keep).latency
    assert predicted == pytest.approx(found.whole - found.scale * saved, abs=2)


@pytest.mark.parametrize("device", [devices.smooth, devices.treads_of_8])
def test_whole_networks_alone_say_enough_of_a_device(digits: Channels, device: Callable[[str], float]) -> None:
    found = latency(digits, device)
    if device is devices.treads_of_8:
        assert all(width % 8 == 0 for widths in found.table.widths for width in widths)
    model = CostModel(digits, pace=found.pace())
    for plan in designs.drawn(found.table.widths, 8, np.random.default_rng(3)):
        measured = found.measured(removal(digits, plan))
        assert model.costs(plan).latency == pytest.approx(measured, rel=0.06)


def test_a_plan_that_was_run_corrects_what_is_said(digits: Channels) -> None:
    found = latency(digits, devices.smooth)
    cut = removal(digits, [5] * 9)
    wrong = Latency(digits, found.device, found.shapes, found.table, found.name, 0.4)
    right = wrong.corrected(cut)
    assert CostModel(digits, pace=right.pace()).of_removal(cut).latency == pytest.approx(right.measured(cut), abs=2)
    assert right.sha256 != wrong.sha256


def test_nothing_is_measured_twice(digits: Channels) -> None:
    calls: list[str] = []

    def counted(path: str) -> float:
        calls.append(path)
        return devices.smooth(path)

    found = latency(digits, counted)
    cut = removal(digits, [4] * 9)
    first, asked = found.measured(cut), len(calls)
    assert asked <= CALLS
    again = latency(digits, counted)
    assert again.measured(cut) == first and len(calls) == asked
    latency(digits, counted, fresh=True)
    assert len(calls) > asked


def test_a_table_that_is_broken_or_cannot_be_kept(
    digits: Channels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMCC_CACHE", str(tmp_path / "cache"))
    found = latency(digits, devices.smooth)
    file = tmp_path / "cache" / found.name
    assert cache.recall(found.name, Table) == found.table
    assert file.read_text() == dumps(found.table)
    file.write_text(file.read_text()[:-40])
    assert cache.recall(found.name, Table) is None
    assert latency(digits, devices.smooth).table == found.table
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMCC_CACHE", str(tmp_path / "file" / "below"))
    shapes = {"input": digits.graph.shape("input")}
    assert latency_of(digits, Remote("smooth", devices.smooth), shapes)[1] is False


# Devices.


def test_networks_are_compared_in_a_process_of_their_own(tmp_path: Path, digits: Channels) -> None:
    from amcc.backends.to_onnx import write_onnx

    write_onnx(shrink(digits, removal(digits, [2] * 9)), tmp_path / "small.onnx")
    files = {"whole": DIGITS / "model.onnx", "small": tmp_path / "small.onnx"}
    whole, small = Local().compare(files, {"input": ("batch", 1, 8, 8)})
    assert (whole.model, small.model) == ("whole", "small")
    assert 0 < small.fastest <= small.low <= small.median and small.low < whole.low
    (tmp_path / "small.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="latency cannot be measured"):
        Local().compare(files, {})


@pytest.mark.parametrize("answer", [0, -1.0, math.nan, math.inf, "3 ms", None, True])
def test_nonsense_is_refused(answer: object) -> None:
    with pytest.raises(DataError, match=r"device gave .*a number above 0"):
        Remote("device", lambda path: answer).compare({"a": Path("a.onnx")}, {})


def test_a_function_that_fails_or_hangs_is_named() -> None:
    with pytest.raises(DataError, match="phone raised ConnectionError: the phone is gone"):
        Remote("phone", devices.broken).compare({"a": Path("a.onnx")}, {})
    with pytest.raises(DataError, match=r"phone gave nothing in 0.05 seconds.*--latency-timeout"):
        Remote("phone", devices.hanging, 0.05).compare({"a": Path("a.onnx")}, {})


def test_a_function_is_called_so_often_at_most() -> None:
    device = Remote("phone", devices.constant)
    device.compare({str(n): Path("a.onnx") for n in range(CALLS)}, {})
    with pytest.raises(DataError, match="the most that amcc asks for"):
        device.compare({"a": Path("a.onnx")}, {})


def test_devices_by_option() -> None:
    assert str(device_of(Measuring())) == "CPUExecutionProvider, 1 thread, batch 1"
    assert str(device_of(Measuring(threads=0, batch=8))) == "CPUExecutionProvider, all cores, batch 8"
    assert str(device_of(Measuring(hook="tests.devices:smooth"))) == "tests.devices:smooth"
    assert str(device_of(Measuring(hook=devices.smooth))) == "tests.devices:smooth"
    with pytest.raises(UsageError, match=r"--latency-provider: .*'NoSuch'.*CPUExecutionProvider"):
        device_of(Measuring(provider="NoSuch"))
    with pytest.raises(UsageError, match="--latency-hook"):
        device_of(Measuring(hook="tests.devices:nothing"))
    for wrong in ({"threads": -1}, {"batch": 0}, {"timeout": 0.0}):
        with pytest.raises(UsageError, match=f"--latency-{next(iter(wrong))}"):
            Measuring(**wrong)  # type: ignore[arg-type]


def test_bench_counts_what_it_says() -> None:
    [timing] = bench({"digits": DIGITS / "model.onnx"}, runs=9, warmup=1, threads=1, batch=3)
    assert timing.runs == 9 and 0 < timing.fastest <= timing.low <= timing.median
    [few] = bench({"digits": DIGITS / "model.onnx"}, runs=500, threads=1, seconds=0.0)
    assert 5 <= few.runs < 500
