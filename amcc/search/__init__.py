"""Search: which of the plans that fit a budget scores best?

`search` runs a policy on a `Problem`. Policies stand in `policies`, plans by rule in `rules`, AMC's
environment and agent in `environment` and `agent`, and `fit` turns any wish into a plan that meets
every limit. Nothing here knows of graphs or weights.
"""

from __future__ import annotations

from amcc.search.journal import Record
from amcc.search.loop import SearchInterrupted, SearchResult, search
from amcc.search.policies import POLICIES, Ddpg, Lagrange, Magnitude, Policy, Random, Uniform, policy_named
from amcc.search.problem import GroupInfo, Problem

__all__ = [
    "POLICIES",
    "Ddpg",
    "GroupInfo",
    "Lagrange",
    "Magnitude",
    "Policy",
    "Problem",
    "Random",
    "Record",
    "SearchInterrupted",
    "SearchResult",
    "Uniform",
    "policy_named",
    "search",
]
