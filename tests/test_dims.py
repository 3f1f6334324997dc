from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amcc.ir import Dim
from amcc.passes import dims

SIZES = {"batch": 7, "n": 11}
known = st.one_of(
    st.integers(0, 50),
    st.builds(dims.text, st.integers(1, 20), st.lists(st.sampled_from(sorted(SIZES)), max_size=2)),
)


def size(dim: Dim) -> int:
    number = dims.evaluate(dim, SIZES)
    assert number is not None
    return number


def test_spelling() -> None:
    assert dims.parse("4*batch") == (4, ("batch",))
    assert dims.parse("batch") == (1, ("batch",))
    assert dims.parse("b*2*a") == (2, ("a", "b"))
    assert dims.parse("?") is None
    assert dims.text(4, ["batch"]) == "4*batch"
    assert dims.text(1, ["b", "a"]) == "a*b"
    assert dims.text(3) == 3
    assert dims.text(0, ["batch"]) == 0


@given(known)
def test_text_is_the_inverse_of_parse(dim: Dim) -> None:
    parsed = dims.parse(dim)
    assert parsed is not None
    assert dims.text(*parsed) == dim


@given(st.lists(known, max_size=4))
def test_a_product_stands_for_the_product(factors: list[Dim]) -> None:
    expected = 1
    for factor in factors:
        expected *= size(factor)
    assert size(dims.product(factors)) == expected


@given(known, known)
def test_a_quotient_undoes_a_product(first: Dim, second: Dim) -> None:
    found = dims.quotient(dims.product([first, second]), second)
    assert (found is None) if size(second) == 0 else dims.equal(found if found is not None else "?", first)


def test_the_unknown() -> None:
    assert dims.product([3, "?"]) == "?"
    assert dims.product([0, "?"]) == 0
    assert not dims.equal("?", "?")
    assert dims.quotient("?", 2) is None
    assert dims.quotient(6, 4) is None
    assert dims.quotient("batch", "n") is None
    assert dims.evaluate("3*unheard", SIZES) is None


def test_a_sample() -> None:
    assert [dims.per_sample(d) for d in (5, "batch", "4*batch", "?")] == [5, 1, 4, 1]


def test_symbols_and_static() -> None:
    assert dims.symbols(["n", 3, "2*batch", "n", "?"]) == ("n", "batch")
    assert dims.is_static([1, 2])
    assert not dims.is_static([1, "batch"])
