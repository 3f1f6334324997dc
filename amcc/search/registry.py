"""The policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amcc.errors import UsageError
from amcc.search.ddpg import Amc, Ddpg
from amcc.search.evolution import Evolutionary
from amcc.search.greedy import Greedy
from amcc.search.policies import Deep, Lagrange, Magnitude, Policy, Random, Refine, Shallow, Uniform

RULES: Mapping[str, Callable[[], Policy]] = {
    policy.name: policy for policy in (Uniform, Shallow, Deep, Magnitude, Lagrange)
}
"""Policies that propose a few plans and hear nothing of their scores."""

SEARCHES: Mapping[str, Callable[[], Policy]] = {
    policy.name: policy for policy in (Refine, Ddpg, Amc, Evolutionary, Greedy, Random)
}
"""Policies that use as many episodes as there are."""

POLICIES: Mapping[str, Callable[[], Policy]] = {**SEARCHES, **RULES}


def policy_named(name: str) -> Policy:
    """The policy of this name, with its default options.

    Raises:
        UsageError: there is none; lists the names.
    """
    if name not in POLICIES:
        raise UsageError(f"unknown search policy '{name}'", hint=f"the policies are {', '.join(POLICIES)}")
    return POLICIES[name]()
