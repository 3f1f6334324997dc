"""Search: which of the plans that fit a budget scores best?

`search` runs a policy on a `Problem`. Policies stand in `policies`, `greedy`, `evolution` and `ddpg`, plans by rule
in `rules` and `lagrange`, AMC's environment and agent in `environment` and `agent`, and `fit` turns any
wish into a plan that meets every limit. Nothing here knows of graphs or weights.
"""

from __future__ import annotations

from amcc.search.ddpg import Amc, Ddpg
from amcc.search.evolution import Evolutionary
from amcc.search.greedy import Greedy
from amcc.search.journal import Record
from amcc.search.loop import RungOf, SearchInterrupted, SearchResult, search
from amcc.search.policies import Deep, Lagrange, Magnitude, Policy, Random, Refine, Shallow, Uniform
from amcc.search.problem import GroupInfo, Problem
from amcc.search.registry import POLICIES, RULES, SEARCHES, policy_named

__all__ = [
    "POLICIES",
    "RULES",
    "SEARCHES",
    "Amc",
    "Ddpg",
    "Deep",
    "Evolutionary",
    "Greedy",
    "GroupInfo",
    "Lagrange",
    "Magnitude",
    "Policy",
    "Problem",
    "Random",
    "Record",
    "Refine",
    "RungOf",
    "SearchInterrupted",
    "SearchResult",
    "Shallow",
    "Uniform",
    "policy_named",
    "search",
]
