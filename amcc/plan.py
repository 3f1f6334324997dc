"""The plan: which units of which groups go, and what that makes of every node. `plan.json`.

A plan names parameters and indices, so that it can be put on the same file, on its PyTorch twin or
on a retrained checkpoint (`amcc.planning.removal_of`). It can be edited by hand: change `removed`
and `kept` of a group and delete its `slices`, which are worked out again.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from amcc.errors import PlanError
from amcc.ir import Graph
from amcc.jsontext import Document, Filed

Index = Annotated[int, Field(ge=0)]
Indices = tuple[Index, ...]


class PlanGroup(Document):
    """What happens to one group.

    Attributes:
        size: units that the group has.
        kept: units that stay, at least one.
        removed: the units that go, ascending.
        slices: for every parameter and axis that the group cuts, the indices that go; None where a
            person deleted it.
        inexact: cutting it changes what other channels hold.
    """

    name: str
    size: Annotated[int, Field(ge=1)]
    kept: Annotated[int, Field(ge=1)]
    removed: Indices
    slices: dict[str, dict[Index, Indices]] | None = None
    inexact: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> PlanGroup:
        _check_ascending("removed", self.removed)
        if self.removed and self.removed[-1] >= self.size:
            raise ValueError(f"removed: there is no unit {self.removed[-1]} in a group of {self.size}")
        if self.kept + len(self.removed) != self.size:
            raise ValueError(f"kept is {self.kept} and {len(self.removed)} units are removed, of {self.size}")
        for param, axes in (self.slices or {}).items():
            for axis, indices in axes.items():
                _check_ascending(f"slices.{param}.{axis}", indices)
        return self


class PlanNode(Document):
    """What the plan makes of one node.

    Attributes:
        macs: multiply-accumulates of the node before.
        sparsity: share of its multiply-accumulates that goes; for a node without any, the share of
            its output elements.
    """

    name: str
    op: str
    macs: Index
    sparsity: Annotated[float, Field(ge=0, le=1)]


class Plan(Filed):
    """A whole plan.

    Attributes:
        fingerprint: of the model's structure, see `fingerprint`.
        model: the model's file or name, for people.
        budget: as asked.
        policy: which one found it.
        exact: whether groups whose units cannot go exactly were left out.
    """

    FILE: ClassVar = "plan.json"
    ERROR: ClassVar = PlanError

    version: Literal[1] = 1
    fingerprint: str
    model: str
    budget: str
    policy: str
    seed: int
    exact: bool = False
    groups: tuple[PlanGroup, ...]
    nodes: tuple[PlanNode, ...] = ()

    @model_validator(mode="after")
    def _names_once(self) -> Plan:
        seen: set[str] = set()
        for group in self.groups:
            if group.name in seen:
                raise ValueError(f"groups: '{group.name}' is there twice")
            seen.add(group.name)
        return self


def fingerprint(graph: Graph) -> str:
    """SHA-256 over the structure: operators, wiring, names, shapes and types, not the weights."""
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        digest.update(repr(parts).encode())

    add(graph.inputs, graph.outputs)
    for name in (*graph.inputs, *sorted(graph.params)):
        value = graph.values[name]
        add(name, value.dtype, value.shape)
    for node in graph.nodes:
        add(node.domain, node.op, node.inputs, node.outputs)
    return digest.hexdigest()


def _check_ascending(what: str, indices: Indices) -> None:
    if any(b <= a for a, b in pairwise(indices)):
        raise ValueError(f"{what}: indices must be ascending, each once")
