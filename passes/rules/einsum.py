"""Einsum: every letter names one axis, wherever it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.rules.rule import Monomial, Place, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation


@dataclass(frozen=True)
class _Equation:
    """For each operand and for the result the letters of their axes; `...` gives numbers, counted from its end."""

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]


def _equation(graph: Graph, node: Node) -> _Equation:
    text = node.attributes["equation"]
    text = text.decode() if isinstance(text, bytes) else str(text)
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    operands = [_letters(term, len(graph.shape(x))) for term, x in zip(terms, node.inputs, strict=True)]
    if not arrow:
        dots = max((sum(not name.isalpha() for name in names) for names in operands), default=0)
        once = sorted(name for name in set(left) if name.isalpha() and left.count(name) == 1)
        right = "..." * bool(dots) + "".join(once)
    return _Equation(tuple(operands), _letters(right, len(graph.shape(node.outputs[0]))))


def _letters(term: str, rank: int) -> tuple[str, ...]:
    before, dots, after = term.partition("...")
    wide = rank - len(before) - len(after) if dots else 0
    return (*before, *(str(-n) for n in range(wide, 0, -1)), *after)


def _places(graph: Graph, node: Node, equation: _Equation) -> dict[str, list[tuple[int, Place]]]:
    """By letter: operand, tensor and axis at which it stands; broadcast dimensions of 1 left out where it is wider."""
    found: dict[str, list[tuple[int, Place]]] = {}
    for number, (x, names) in enumerate(zip(node.inputs, equation.operands, strict=True)):
        for axis, name in enumerate(names):
            found.setdefault(name, []).append((number, (x, axis)))
    for name, places in found.items():
        wide = [(number, (x, axis)) for number, (x, axis) in places if graph.shape(x)[axis] != 1]
        found[name] = wide or places
    return found


def _relate(r: Relation, node: Node) -> None:
    """Axes under one letter are equal; the result's are theirs."""
    equation = _equation(r.graph, node)
    for x, names in zip(node.inputs, equation.operands, strict=True):
        for axis in range(len(names)):
            r.axis(x, axis)
    axes: dict[str, Axis] = {}
    for name, places in _places(r.graph, node, equation).items():
        single = name not in equation.result
        every = [r.axis(x, axis, single=single) for _, (x, axis) in places]
        known = next((axis for axis in every if axis is not None), None)
        for own, (_, place) in zip(every, places, strict=True):
            r.same(known, own, place)
        axes[name] = None if any(axis is None for axis in every) else known
    r.set(node.outputs[0], [axes[name] for name in equation.result])


def _macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """One MAC for each combination of letters; none if nothing is multiplied."""
    if len(node.inputs) < 2:
        return ()
    places = _places(graph, node, _equation(graph, node))
    chosen = (min(where, key=lambda at: at[1][0] not in graph.params)[1] for where in places.values())
    return (Monomial(1, tuple(chosen)),)


def _contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    equation = _equation(graph, node)
    places = _places(graph, node, equation)
    return tuple((at[0][0], at[0][1][1]) for name, at in places.items() if name not in equation.result)


RULES = {"Einsum": Rule(_relate, _macs, _contracts, periodic=True)}
