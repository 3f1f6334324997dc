"""Rules of operators that are standard ones with further inputs: fused, quantised, by another name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.rules.respell import Respell
from amcc.passes.rules.rule import Monomial, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Relation

    More = Callable[[Relation, Node], None]


def borrowed(op: str, rule: Rule, *picks: int, more: More | None = None) -> Rule:
    """The standard operator's rule for a node that has its inputs at the positions `picks`.

    Args:
        op: the standard operator.
        more: says what the further inputs have to do with the result, whose axes are set by then.
    """

    def plain(node: Node) -> Node:
        inputs = [node.input(k) for k in picks]
        while inputs and not inputs[-1]:
            inputs.pop()
        return node.replace(op=op, domain="", inputs=tuple(inputs))

    def relate(r: Relation, node: Node) -> None:
        rule.relate(r, plain(node))
        if more is not None:
            more(r, node)

    def macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
        return rule.macs(graph, plain(node))

    def contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
        return tuple((picks[index], axis) for index, axis in rule.contracts(graph, plain(node)))

    def respell(shrink: Respell, node: Node) -> Node:
        spelled = rule.respell(shrink, plain(node))
        inputs = list(node.inputs)
        for index, name in zip(picks, spelled.inputs, strict=False):
            if index < len(inputs):
                inputs[index] = name
        return node.replace(inputs=tuple(inputs), attributes=spelled.attributes)

    return dataclasses.replace(rule, relate=relate, macs=macs, contracts=contracts, respell=respell)


def along_last(*indices: int) -> More:
    """Inputs with one number for each index of the result's last axis, or one for all."""

    def more(r: Relation, node: Node) -> None:
        y = node.outputs[0]
        for param in filter(None, map(node.input, indices)):
            if r.rank(param) and r.shape(param)[-1] != 1:
                r.same(r.axis(y, -1), r.axis(param, -1), (param, r.rank(param) - 1))

    return more


def together(*parts: More) -> More:
    """One after the other."""

    def more(r: Relation, node: Node) -> None:
        for part in parts:
            part(r, node)

    return more
