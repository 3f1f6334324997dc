"""What amcc knows of an operator: one `Rule`, and the table that holds them all.

A rule says how an operator relates the indices of its tensors' axes (`relate`), what it costs (`macs`),
where it sums over an axis (`contracts`), and how it is spelled when axes have shrunk (`respell`).
Shapes are onnx's own inference's business. An operator without a rule is carried through untouched and
all its axes are locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from amcc.ir import Graph, Node

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation
    from amcc.passes.rules.respell import Respell

Place = tuple[str, int]
"""A tensor and one of its axes."""


@dataclass(frozen=True, slots=True)
class Monomial:
    """A cost that is `coefficient` times the product of the lengths of some axes (symbols count as 1)."""

    coefficient: int
    axes: tuple[Place, ...]


def _nothing(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    return ()


def _nowhere(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    return ()


def _as_it_is(shrink: Respell, node: Node) -> Node:
    return node


@dataclass(frozen=True, slots=True)
class Rule:
    """All that amcc knows of an operator.

    Attributes:
        relate: adds the operator's equations between cut sets and sets its outputs' axes.
        macs: multiply-accumulates of one sample, as monomials in axis lengths.
        contracts: (input, axis) pairs over which it sums with weights.
        respell: the node, with attributes and constant inputs that fit the shrunk shapes.
    """

    relate: Callable[[Relation, Node], None]
    macs: Callable[[Graph, Node], tuple[Monomial, ...]] = _nothing
    contracts: Callable[[Graph, Node], tuple[tuple[int, int], ...]] = _nowhere
    respell: Callable[[Respell, Node], Node] = _as_it_is


def _lock_all(r: Relation, node: Node) -> None:
    for value in dict.fromkeys(node.reads):
        r.lock_value(value, f"no rule for operator {label(node)}")
    carry_through(r, node)


def carry_through(r: Relation, node: Node) -> None:
    """All outputs rigid."""
    for output in node.outputs:
        if output and r.graph.values[output].shape is not None:
            r.set(output, [None] * r.rank(output))


UNKNOWN = Rule(relate=_lock_all)


def table(ops: Iterable[str], rule: Rule) -> dict[str, Rule]:
    """The same rule for a family of operators."""
    return dict.fromkeys(ops, rule)


def label(node: Node) -> str:
    """How the table calls an operator: `Conv`, or `com.microsoft.FusedConv` outside ONNX's own domain."""
    return f"{node.domain}.{node.op}" if node.domain not in ("", "ai.onnx") else node.op


def rule_of(node: Node) -> Rule:
    """The rule of a node's operator; `UNKNOWN` for what nobody taught amcc."""
    return _rules().get(label(node), UNKNOWN)


def _rules() -> MappingProxyType[str, Rule]:
    from amcc.passes.rules import RULES

    return RULES
