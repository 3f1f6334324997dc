"""The table: what each operator of a network takes on a device, and the widths that are worth having."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from amcc.ir import Array
from amcc.jsontext import Document, dumps
from amcc.latency.operators import Operators
from amcc.passes.channels import Channels
from amcc.passes.cost import ONE, Pace
from amcc.passes.rules.rule import Monomial, Place

Way = Literal["operators", "networks"]
Count = Annotated[int, Field(ge=0)]


class Term(Document):
    """A part of an operator's time that grows with the product of some axes.

    Attributes:
        axes: tensors and their axes; none for what is always there.
        ns: nanoseconds in the whole network.
    """

    axes: tuple[tuple[str, Count], ...]
    ns: float


class Line(Document):
    """One operator: the value that it makes, and what its time is a sum of."""

    value: str
    op: str
    terms: tuple[Term, ...]


class Table(Document):
    """All operators of one network on one device.

    Attributes:
        device: what tells it from others.
        network: the fingerprint of the network's structure.
        way: whether operators were timed in the network, or whole networks alone.
        whole: nanoseconds of the network as it is.
        scale: what the sum of all savings is multiplied by, so that whole networks come out right.
        widths: for each group those that are worth having, ascending.
        plans: how many were measured.
    """

    format: Literal[1] = 1
    device: dict[str, str | int]
    network: str
    way: Way
    whole: Count
    scale: float
    widths: tuple[tuple[Count, ...], ...]
    operators: tuple[Line, ...]
    plans: Count

    @property
    def sha256(self) -> str:
        """Of its content."""
        return hashlib.sha256(dumps(self).encode()).hexdigest()


def lines_of(operators: Operators, coefficients: Array) -> tuple[Line, ...]:
    """The operators' lines; coefficients are float [terms], nanoseconds in the whole network."""
    lines = []
    for number, operator in enumerate(operators.listed):
        start, end = operators.bounds[number : number + 2]
        terms = zip(operator.terms, coefficients[start:end].tolist(), strict=True)
        kept = tuple(Term(axes=axes, ns=round(ns, 3)) for axes, ns in terms if ns > 0)
        lines.append(Line(value=operator.value, op=operator.node.op, terms=kept))
    return tuple(lines)


def pace_of(channels: Channels, lines: Sequence[Line], whole: int, scale: float) -> Pace:
    """The same as costs; terms that always have one value are one."""
    products: dict[tuple[int, ...], tuple[tuple[Place, ...], float]] = {}
    for line in lines:
        for term in line.terms:
            tables = tuple(sorted(id(channels.axes[place]) for place in term.axes))
            axes, ns = products.get(tables, (term.axes, 0.0))
            products[tables] = axes, ns + term.ns
    terms = []
    for axes, ns in products.values():
        length = 1
        for place in axes:
            length *= len(channels.axes[place])
        if axes:
            terms.append(Monomial(round(ns * ONE / length), axes))
    return Pace(tuple(terms), whole, round(scale * ONE))
