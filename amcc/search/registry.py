"""The policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amcc.errors import UsageError
from amcc.search.ddpg import Ddpg
from amcc.search.policies import Lagrange, Magnitude, Policy, Random, Refine, Uniform

POLICIES: Mapping[str, Callable[[], Policy]] = {
    policy.name: policy for policy in (Ddpg, Uniform, Magnitude, Lagrange, Refine, Random)
}


def policy_named(name: str) -> Policy:
    """The policy of this name, with its default options.

    Raises:
        UsageError: there is none; lists the names.
    """
    if name not in POLICIES:
        raise UsageError(f"unknown search policy '{name}'", hint=f"the policies are {', '.join(POLICIES)}")
    return POLICIES[name]()
