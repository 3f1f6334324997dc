"""Budget text to exact integers."""

from __future__ import annotations

from dataclasses import astuple
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amcc.budget import KEYS, Budget, Costs, Limits
from amcc.errors import UsageError

ORIGINAL = Costs(flops=125_485_706, params=853_018, size=3_412_072, memory=196_608, latency=3_000_001)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("flops=0.5", Limits(flops=62_742_853)),
        ("flops=50%", Limits(flops=62_742_853)),
        ("flops = .5", Limits(flops=62_742_853)),
        ("params=1", Limits(params=853_018)),
        ("params=100%", Limits(params=853_018)),
        ("flops=12.5%", Limits(flops=15_685_713)),
        ("flops=60M", Limits(flops=60_000_000)),
        ("flops=0.06G", Limits(flops=60_000_000)),
        ("flops=60000000", Limits(flops=60_000_000)),
        ("params=250k", Limits(params=250_000)),
        ("params=1.5K", Limits(params=1_500)),
        ("params=2", Limits(params=2)),
        ("size=2MB", Limits(size=2_000_000)),
        ("size=512KiB", Limits(size=524_288)),
        ("size=1.5MiB", Limits(size=1_572_864)),
        ("size=900kB", Limits(size=900_000)),
        ("size=0.001GB", Limits(size=1_000_000)),
        ("size=5B", Limits(size=5)),
        ("size=7", Limits(size=7)),
        ("memory=0.6", Limits(memory=117_964)),
        ("memory=0.1MB", Limits(memory=100_000)),
        ("latency=0.5", Limits(latency=1_500_000)),
        ("latency=3ms", Limits(latency=3_000_000)),
        ("latency=800us", Limits(latency=800_000)),
        ("latency=0.5us", Limits(latency=500)),
        ("flops=0.5,size=2MB", Limits(flops=62_742_853, size=2_000_000)),
        (["flops=0.5", "params=0.25, size=2MB"], Limits(flops=62_742_853, params=213_254, size=2_000_000)),
    ],
)
def test_legal_forms(text: str | list[str], limits: Limits) -> None:
    assert Budget.parse(text).resolve(ORIGINAL) == limits


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flop=0.5", "unknown budget key 'flop' (the keys are flops, params, size, memory, latency)"),
        ("latency=3", "a latency needs a unit (write it as latency=0.5"),
        ("latency=3MB", "unknown suffix 'MB'"),
        ("flops", "not of the form key=value"),
        ("", "not of the form key=value"),
        ("flops=0.5,", "not of the form key=value"),
        ("flops=", "not a positive number"),
        ("flops=-0.5", "not a positive number"),
        ("flops=nan", "not a positive number"),
        ("flops=inf", "not a positive number"),
        ("flops=1e8", "not a positive number"),
        ("flops=0.5.1", "not a positive number"),
        (f"flops={9:05000d}", "not a positive number"),
        ("flops=0x10", "not a positive number"),
        ("flops=٥", "not a positive number"),
        ("flops=0", "must be above zero"),
        ("flops=0.000%", "must be above zero"),
        ("flops=1.5", "ratio cannot be above 1"),
        ("flops=101%", "ratio cannot be above 1"),
        ("flops=4MB", "unknown suffix 'MB'"),
        ("size=4M", "unknown suffix 'M'"),
        ("size=0.5B", "at least 1"),
        ("flops=0.5,flops=0.4", "gives flops twice"),
    ],
)
def test_illegal_forms_say_what_is_legal(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget.parse(text)
    assert says in str(caught.value)
    assert caught.value.hint


def test_an_empty_list_is_no_budget() -> None:
    with pytest.raises(UsageError, match="no budget"):
        Budget.parse([])


def test_text_comes_back_and_reads_the_same() -> None:
    budget = Budget.parse(["flops = 50%", "size=4MB"])
    assert str(budget) == "flops=50%,size=4MB"
    assert Budget.parse(str(budget)) == budget


@given(digits=st.integers(1, 10**12), places=st.integers(12, 15), original=st.integers(1, 10**15))
def test_a_ratio_is_exact_whatever_floats_would_say(digits: int, places: int, original: int) -> None:
    text = f"0.{digits:0{places}d}" if digits < 10**places else "1"
    limit = Budget.parse(f"flops={text}").resolve(Costs(original, 1, 1)).flops
    assert limit is not None
    ratio = Fraction(text)
    assert limit <= ratio * original < limit + 1


@given(st.text(max_size=12))
def test_any_value_is_read_or_refused_plainly(value: str) -> None:
    try:
        limits = Budget.parse(f"size={value}").resolve(ORIGINAL)
    except UsageError:
        return
    assert limits.size is not None
    assert limits.size >= 0


def test_limits_admit_and_measure() -> None:
    limits = Limits(flops=100, size=50)
    assert list(limits.items()) == [("flops", 100), ("size", 50)]
    assert limits.admit(Costs(100, 10**9, 50))
    assert not limits.admit(Costs(101, 0, 0))
    assert not limits.admit(Costs(0, 0, 51))
    assert not Limits(memory=10).admit(Costs(0, 0, 0, memory=11))
    assert limits.use(Costs(50, 0, 40)) == 0.8
    assert Limits().admit(Costs(1, 1, 1))
    assert [ORIGINAL.of(key) for key in KEYS] == [*astuple(ORIGINAL)]
