"""Confidence bounds, one-sided, from the counts or the samples of a held-out set.

Exact where the metric is a share of samples: the bounds hold at least as often as they say, whatever the
truth is and however few the samples are. Bootstrap bounds, for any other metric, hold approximately.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from amcc.ir import Array

_HALVINGS = 48
_NUISANCE = 9
_RESAMPLES = 1000


def share_lower(right: int, samples: int, alpha: float) -> float:
    """The largest p that `right` or more of `samples` at share p rule out at level alpha.

    A share of 1 - alpha or more of all draws has a bound at or below the truth (Clopper and Pearson 1934).
    """
    if right == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_least(right, samples, middle) <= alpha else (low, middle)
    return low


def share_upper(right: int, samples: int, alpha: float) -> float:
    """As `share_lower`, from above."""
    return 1 - share_lower(samples - right, samples, alpha)


def drop_upper(lost: int, won: int, samples: int, alpha: float) -> float:
    """Upper bound on the drop of a share between two networks that saw the same samples.

    Args:
        lost: samples that the first alone has right.
        won: samples that the second alone has right.

    The drop is P(lost) - P(won). What lost - won is distributed as also depends on P(lost) + P(won), which
    is bounded first, at a tenth of alpha; the worst case within that bound counts, at the rest of alpha
    (Berger and Boos 1994). The distribution itself is exact.
    """
    spent = alpha / 10
    most = share_upper(lost + won, samples, spent)
    low, high = -most, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        unlikely = _worst_tail(lost - won, samples, middle, most) <= alpha - spent
        low, high = (low, middle) if unlikely else (middle, high)
    return high


def fewest_for_drop(drop: float, alpha: float) -> int:
    """The fewest samples whose bound on the drop is at most `drop` where both networks agree on all of them."""
    low, high = 0, 1
    while drop_upper(0, 0, high, alpha) > drop:
        low, high = high, 2 * high
        if high > 10**7:
            return high
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if drop_upper(0, 0, middle, alpha) <= drop else (middle, high)
    return high


def mean_upper(values: Array, alpha: float, seed: int) -> float:
    """Upper bound on a mean, float [samples], by the bootstrap of Student's t (Efron 1982, section 10.10)."""
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return math.inf
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    if spread == 0:
        return mean
    ratios = np.empty(_resamples(alpha))
    for place, drawn in enumerate(_draws(n, len(ratios), seed)):
        some = values[drawn]
        # A draw without any spread says nothing of t: it counts as the worst.
        deviation = float(some.std(ddof=1))
        ratios[place] = (some.mean() - mean) / deviation if deviation > 0 else -math.inf
    return mean - float(np.quantile(ratios, alpha, method="lower")) * spread


def statistic_upper(statistic: Callable[[Array], float], samples: int, alpha: float, seed: int) -> float:
    """Upper bound on what a function of indices, int [samples], estimates, by the bootstrap's percentiles."""
    drawn = [statistic(indices) for indices in _draws(samples, _resamples(alpha), seed)]
    return float(np.quantile(np.array(drawn), 1 - alpha, method="higher"))


def _resamples(alpha: float) -> int:
    return max(_RESAMPLES, math.ceil(20 / alpha))


def _draws(samples: int, count: int, seed: int) -> list[Array]:
    random = np.random.default_rng([seed, 5])
    return [random.integers(samples, size=samples) for _ in range(count)]


def _at_least(right: int, samples: int, share: float) -> float:
    """P(X >= right) of a binomial X."""
    if share <= 0 or share >= 1:
        return float(share >= 1 or right == 0)
    counts = np.arange(right, samples + 1)
    logs = _log_factorials(samples)
    chosen = logs[samples] - logs[counts] - logs[samples - counts]
    return float(np.exp(chosen + counts * math.log(share) + (samples - counts) * math.log1p(-share)).sum())


def _log_factorials(most: int) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])


def _worst_tail(difference: int, samples: int, drop: float, most: float) -> float:
    """The largest P(lost - won <= difference) over all P(lost) + P(won) up to `most`, at one drop."""
    shares = np.linspace(abs(drop), most, _NUISANCE)
    return max(_tail(difference, samples, (s + drop) / 2, (s - drop) / 2) for s in shares.tolist())


def _tail(difference: int, samples: int, lost: float, won: float) -> float:
    """P(L - W <= difference), by the characteristic function of a sum of independent -1, 0 and 1.

    Differences beyond twelve deviations from the mean (and 40 more) have no weight that a float could tell.
    """
    reach = abs(lost - won) * samples + 12 * math.sqrt((lost + won) * samples) + 40
    most = min(samples, math.ceil(reach))
    size = 1 << (2 * most + 1).bit_length()
    turns = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    weights = np.fft.irfft((1 - lost - won + lost * turns + won * np.conj(turns)) ** samples, size)
    ordered = np.concatenate([weights[size - most :], weights[: most + 1]])
    return float(np.clip(ordered[: max(0, most + difference + 1)].sum(), 0.0, 1.0))
