"""Recurrent layers: hidden units, and what they read.

A hidden unit has a row in each gate. It may go as soon as nobody reads it: neither what follows nor, in the next
step, the layer itself. Both directions of a layer share their tensors, so that they lose the same units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.ir import Graph, Node
from amcc.passes.dims import per_sample
from amcc.passes.rules.known import always_zero
from amcc.passes.rules.respell import Respell, with_attributes
from amcc.passes.rules.rule import Monomial, Rule

if TYPE_CHECKING:
    from amcc.passes.channels.relation import Axis, Relation

_X, _W, _R, _B, _P = 0, 1, 2, 3, 7
_STATES = (5, 6)  # initial hidden and cell state


def _batch_first(node: Node) -> bool:
    return bool(node.attributes.get("layout", 0))


def _relate(r: Relation, node: Node) -> None:
    """X `[T, B, I]`, W `[D, gates * H, I]`, R `[D, gates * H, H]`, Y `[T, D, B, H]`; with `layout` 1 B comes first."""
    x, w, recurrent = node.inputs[_X], node.inputs[_W], node.inputs[_R]
    rows, size = r.shape(w)[1], r.shape(recurrent)[2]
    assert isinstance(rows, int) and isinstance(size, int)
    hidden = r.axis(recurrent, 2)
    batch = r.axis(x, 0 if _batch_first(node) else 1)
    r.same(r.axis(x, 2), r.axis(w, 2), (w, 2))
    for param, axis in ((w, 1), (recurrent, 1), (node.input(_B), 1), (node.input(_P), 1)):
        if param:
            length = r.shape(param)[axis]
            assert isinstance(length, int)
            gates = r.grid((None, length // size), (hidden, size))
            r.same(r.axis(param, axis), gates, (param, axis), "a hidden unit goes with its row in every gate")
    state = [batch, None, hidden] if _batch_first(node) else [None, batch, hidden]
    for initial in filter(None, map(node.input, _STATES)):
        _relate_initial(r, initial, state)
    whole = [batch, None, None, hidden] if _batch_first(node) else [None, None, batch, hidden]
    for output, axes in zip(node.outputs, (whole, state, state), strict=False):
        r.set(output, axes)


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


def _contracts(graph: Graph, node: Node) -> tuple[tuple[int, int], ...]:
    """The input's width, and the hidden state of the step before, where its weights stand for it."""
    return (_X, 2), (_R, 2)


def _respell(shrink: Respell, node: Node) -> Node:
    """`hidden_size`; and initial zeros, which are as wide as they were, are left out."""
    hidden = shrink.size(node.inputs[_R], 2)
    inputs = list(node.inputs)
    for index in _STATES:
        initial = node.input(index)
        if initial and shrink.changes(node.inputs[_R]) and always_zero(shrink.graph, initial):
            inputs[index] = ""
    while not inputs[-1]:
        inputs.pop()
    return with_attributes(node.replace(inputs=tuple(inputs)), hidden_size=hidden)


_RULE = Rule(_relate, _macs, _contracts, _respell)

RULES = {"LSTM": _RULE, "GRU": _RULE, "RNN": _RULE}
