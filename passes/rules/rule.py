"""What amcc knows of an operator: one `Rule`, and the table that holds them all.

A rule says how an operator relates the indices of its tensors' axes (`relate`), what it costs (`macs`),
where it sums over an axis (`contracts`), and how it is spelled when axes have shrunk (`respell`).
Shapes are onnx's own inference's business. An operator without a rule is carried through untouched and
all its axes are locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from amcc.ir import Graph, Node, Opaque

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
        contracts: (input, axis) pairs over which it sums: zeros there are as good as nothing.
        respell: the node, with attributes and constant inputs that fit the shrunk shapes.
        periodic: `relate` is right for axes of length `"8*batch"` whose eight cut sets repeat; a rule that looks
            at single indices of an axis is not.
        zeros: for an integer operand the position of the input that says which integer stands for zero.
    """

    relate: Callable[[Relation, Node], None]
    macs: Callable[[Graph, Node], tuple[Monomial, ...]] = _nothing
    contracts: Callable[[Graph, Node], tuple[tuple[int, int], ...]] = _nowhere
    respell: Callable[[Respell, Node], Node] = _as_it_is
    periodic: bool = False
    zeros: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))


def _lock_all(r: Relation, node: Node) -> None:
    for value in dict.fromkeys(node.reads):
        r.lock_value(value, _why_locked(node))
    carry_through(r, node)


def _why_locked(node: Node) -> str:
    from amcc.passes.rules.locked import LOCKED

    op = label(node)
    carried = next((a.why for a in node.attributes.values() if isinstance(a, Opaque) and a.why), "")
    if carried:
        return f"{LOCKED[op]}, which stays as it is: {carried}"
    return LOCKED.get(op) or f"no rule for {'this form of' if op in _rules() else 'operator'} {op}"


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


@cache
def _rules() -> MappingProxyType[str, Rule]:
    from amcc.passes.rules import RULES

    return RULES
