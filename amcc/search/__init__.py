"""Search: which of the plans that fit a budget scores best?

`search` runs a policy on a `Problem`. Policies stand in `policies` and `ddpg`, plans by rule in
`rules` and `lagrange`, AMC's environment and agent in `environment` and `agent`, and `fit` turns any
wish into a plan that meets every limit. Nothing here knows of graphs or weights.
"""

from __future__ import annotations

from amcc.search.ddpg import Ddpg
from amcc.search.journal import Record
from amcc.search.loop import SearchInterrupted, SearchResult, search
from amcc.search.policies import Lagrange, Magnitude, Policy, Random, Refine, Uniform
from amcc.search.problem import GroupInfo, Problem
from amcc.search.registry import POLICIES, policy_named

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
    "Refine",
    "SearchInterrupted",
    "SearchResult",
    "Uniform",
    "policy_named",
    "search",
]
