"""Confidence bounds against exact enumeration: none is broken more often than it says."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.bounds import drop_upper, fewest_for_drop, mean_upper, share_lower, share_upper, statistic_upper


def binomial_tail(right: int, samples: int, share: Fraction) -> Fraction:
    """P(X >= right), in whole numbers."""
    return sum(
        (math.comb(samples, k) * share**k * (1 - share) ** (samples - k) for k in range(right, samples + 1)),
        Fraction(0),
    )


def trinomial(samples: int, lost: float, won: float) -> dict[tuple[int, int], float]:
    """The probability of every pair of counts."""
    return {
        (a, b): math.comb(samples, a)
        * math.comb(samples - a, b)
        * lost**a
        * won**b
        * (1 - lost - won) ** (samples - a - b)
        for a in range(samples + 1)
        for b in range(samples + 1 - a)
    }


@given(st.integers(1, 60), st.data(), st.sampled_from([0.2, 0.05, 0.01]))
@settings(max_examples=40, deadline=None)
def test_a_share_is_where_its_tail_has_the_level(samples: int, data: st.DataObject, alpha: float) -> None:
    right = data.draw(st.integers(0, samples))
    bound = share_lower(right, samples, alpha)
    assert 0 <= bound <= right / samples
    if right:
        tail = float(binomial_tail(right, samples, Fraction(bound)))
        assert tail == pytest.approx(alpha, rel=1e-6) and tail <= alpha * (1 + 1e-9)
    assert share_upper(samples - right, samples, alpha) == pytest.approx(1 - bound)


def test_all_right_is_the_rule_of_three() -> None:
    assert share_lower(1000, 1000, 0.05) == pytest.approx(0.05 ** (1 / 1000))


@pytest.mark.parametrize("alpha", [0.1, 0.05])
@pytest.mark.parametrize("samples", [6, 13])
def test_the_drop_is_bounded_as_often_as_promised(samples: int, alpha: float) -> None:
    bounds = {(a, b): drop_upper(a, b, samples, alpha) for a in range(samples + 1) for b in range(samples + 1 - a)}
    shares = [0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7]
    for lost in shares:
        for won in (w for w in shares if w + lost <= 1):
            broken = sum(p for counts, p in trinomial(samples, lost, won).items() if bounds[counts] < lost - won - 1e-9)
            assert broken <= alpha, (lost, won)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 3000))
@settings(max_examples=15, deadline=None)
def test_the_drops_bound_moves_as_it_should(lost: int, won: int, same: int) -> None:
    samples = lost + won + same + 1
    bound = drop_upper(lost, won, samples, 0.05)
    assert bound > (lost - won) / samples
    assert drop_upper(lost + 1, won, samples, 0.05) >= bound - 1e-9
    assert drop_upper(lost, won, samples, 0.01) >= bound - 1e-9


def test_the_drops_bound_is_tighter_than_two_bounds_and_looser_than_a_normal_law() -> None:
    apart = share_upper(30, 5000, 0.025) - share_lower(30, 5000, 0.025)
    assert 1.645 * math.sqrt(60) / 5000 < drop_upper(30, 30, 5000, 0.05) < 0.75 * apart


def test_the_drop_in_simulated_draws() -> None:
    """A thousand samples, near the truth that a compression has: few lost, fewer won."""
    random, truth = np.random.default_rng(0), 0.004
    drawn = random.multinomial(1000, [0.012, 0.008, 0.98], size=300)
    bounds = {counts: drop_upper(*counts, 1000, 0.05) for counts in {(int(a), int(b)) for a, b, _ in drawn}}
    held = np.mean([bounds[int(a), int(b)] >= truth for a, b, _ in drawn])
    assert held >= 0.95
    assert np.median(list(bounds.values())) < truth + 0.012


def test_how_many_samples_a_drop_needs() -> None:
    count = fewest_for_drop(0.01, 0.05)
    assert drop_upper(0, 0, count, 0.05) <= 0.01 < drop_upper(0, 0, count // 2, 0.05)


def test_bootstrap_bounds_in_simulated_draws() -> None:
    random = np.random.default_rng(1)
    held = []
    for draw in range(60):
        values = random.exponential(size=150)
        held.append(
            [
                mean_upper(values, 0.05, draw) >= 1,
                statistic_upper(lambda i, v=values: float(v[i].mean()), 150, 0.05, draw) >= 1,  # type: ignore[misc]
            ]
        )
    of_mean, of_statistic = np.mean(held, axis=0)
    assert of_mean >= 0.9 and of_statistic >= 0.86
    assert mean_upper(np.full(9, 2.0), 0.05, 0) == 2.0
    assert mean_upper(np.array([1.0, np.inf]), 0.05, 0) == math.inf


def test_the_same_seed_gives_the_same_bound() -> None:
    values = np.random.default_rng(3).random(50)
    assert mean_upper(values, 0.05, 7) == mean_upper(values, 0.05, 7) != mean_upper(values, 0.05, 8)
