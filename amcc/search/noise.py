"""Random moves in sparsity."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from amcc.ir import Array
from amcc.search.problem import Problem


def truncated_normal(mean: float, deviation: float, random: np.random.Generator) -> float:
    """One draw from a normal cut off at [0, 1], by inverting its distribution; one uniform number."""
    if deviation <= 0.0:
        return min(max(mean, 0.0), 1.0)
    normal = NormalDist(mean, deviation)
    low, high = normal.cdf(0.0), normal.cdf(1.0)
    share = min(max(low + (high - low) * random.random(), 1e-12), 1.0 - 1e-12)
    return min(max(normal.inv_cdf(share), 0.0), 1.0)


def disturbed(problem: Problem, keep: Array, spread: float, random: np.random.Generator) -> Array:
    """Widths wanted (float [groups]) around a plan: every sparsity moved by truncated normal noise."""
    sparsity = [truncated_normal(1.0 - float(share), spread, random) for share in keep / problem.full]
    return (1.0 - np.array(sparsity)) * problem.full
