"""Recurrent layers: hidden units, and what they read.

A hidden unit has a row in each gate. It may go as soon as nobody reads it: neither what follows nor, in the next
step, the layer itself. Both directions of a layer share their tensors, so that they lose the same units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.rules.known import always_zero
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import Monomial, Rule, table

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

_X, _W, _R, _B, _P = 0, 1, 2, 3, 7
_STATES = (5, 6)  # initial hidden and cell state


def _batch_first(node: Node) -> bool:
    return bool(node.attributes.get("layout", 0))


@dataclass(frozen=True, slots=True)
class Recurrent:
    """Where a recurrent operator has the gates of its weights W and R, and what they read.

    Attributes:
        gates: the axis of length gates * H, `reads` that of length I or H.
        per_gate: positions of further inputs with a number for each row of every gate, or one for all.
        ranged: input and state are quantised by their range in every step.
    """

    gates: int = 1
    reads: int = 2
    per_gate: tuple[int, ...] = ()
    ranged: bool = False

    def rule(self) -> Rule:
        """The rule of the operator."""
        return Rule(self.relate, _macs, self.contracts, self.respell)

    def relate(self, r: Relation, node: Node) -> None:
        """X `[T, B, I]`, W `[D, gates * H, I]`, R `[D, gates * H, H]`, Y `[T, D, B, H]`; `layout` 1 has B in front."""
        x, w, recurrent = node.inputs[_X], node.inputs[_W], node.inputs[_R]
        size = r.shape(recurrent)[self.reads]
        assert isinstance(size, int)
        hidden = r.axis(recurrent, self.reads)
        batch = r.axis(x, 0 if _batch_first(node) else 1)
        r.same(r.axis(x, 2), r.axis(w, self.reads), (w, self.reads))
        if self.ranged:
            r.inexact(r.axis(x, 2), (x, 2), f"{node.op} takes the range over this axis")
            r.inexact(hidden, (recurrent, self.reads), f"{node.op} takes the range of its state")
        rows = [(w, self.gates), (recurrent, self.gates), (node.input(_B), 1), (node.input(_P), 1)]
        rows += [(name, 1) for name in map(node.input, self.per_gate) if name and r.rank(name) > 1]
        for param, axis in rows:
            length = r.shape(param)[axis] if param else 1
            assert isinstance(length, int)
            if length > 1:
                gates = r.grid((None, length // size), (hidden, size))
                r.same(r.axis(param, axis), gates, (param, axis), "a hidden unit goes with its row in every gate")
        state = [batch, None, hidden] if _batch_first(node) else [None, batch, hidden]
        for initial in filter(None, map(node.input, _STATES)):
            _relate_initial(r, initial, state)
        whole = [batch, None, None, hidden] if _batch_first(node) else [None, None, batch, hidden]
        for output, axes in zip(node.outputs, (whole, state, state), strict=False):
            r.set(output, axes)

    def contracts(self, graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
        """The input's width, and the hidden state of the step before, where its weights stand for it."""
        return (_X, 2), (_R, self.reads)

    def respell(self, shrink: Respell, node: Node) -> Node:
        """`hidden_size`; and initial zeros, which are as wide as they were, are left out."""
        hidden = shrink.size(node.inputs[_R], self.reads)
        inputs = list(node.inputs)
        for index in _STATES:
            initial = node.input(index)
            if initial and shrink.changes(node.inputs[_R]) and always_zero(shrink.graph, initial):
                inputs[index] = ""
        while not inputs[-1]:
            inputs.pop()
        return with_attributes(node.replace(inputs=tuple(inputs)), hidden_size=hidden)


def _relate_initial(r: Relation, initial: str, state: list[Axis]) -> None:
    """A state of zeros is what a layer starts from unasked: it is left out where the layer shrinks (`_respell`)."""
    zeros = always_zero(r.graph, initial)
    own = initial in r.graph.params and len(r.graph.consumers[initial]) == 1
    for axis, cuts in enumerate(r.all_axes(initial)):
        if not zeros or own:
            r.same(state[axis], cuts, (initial, axis))
        else:
            r.lock(cuts, (initial, axis), "zeros to start from, left out where the layer shrinks")


def _macs(graph: Graph, node: Node) -> tuple[Monomial, ...]:
    """In every step all gates read the input and the hidden state."""
    w, recurrent = node.inputs[_W], node.inputs[_R]
    first, second = (per_sample(d) for d in graph.shape(node.inputs[_X])[:2])
    steps = first * second
    return tuple(Monomial(steps, ((v, 0), (v, 1), (v, 2))) for v in (w, recurrent))


_DYNAMIC = Recurrent(gates=2, reads=1, per_gate=(8, 9, 10, 11), ranged=True)

RULES = {
    **table(("LSTM", "GRU", "RNN"), Recurrent().rule()),
    "com.microsoft.DynamicQuantizeLSTM": _DYNAMIC.rule(),
}
