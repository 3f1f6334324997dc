"""Sequences of tensors, as lists, and tensors that may be there or not."""

from __future__ import annotations

from amcc.backends.torch_ops.writer import Table, Writer
from amcc.ir import Node


def _split(w: Writer, node: Node) -> str:
    axis = w.integer(node, "axis", 0)
    if node.input(1):
        return f"{w.helper('split_up')}({w.tensor(node, 0)}, {w.tensor(node, 1)}, {axis})"
    whole = f"list({w.tensor(node, 0)}.split(1, {axis}))"
    return whole if w.flag(node, "keepdims", 1) else f"list({w.tensor(node, 0)}.unbind({axis}))"


def _concat(w: Writer, node: Node) -> str:
    function = "stack" if w.flag(node, "new_axis", 0) else "cat"
    return f"torch.{function}({w.tensor(node, 0)}, {w.integer(node, 'axis', 0)})"


def _insert(w: Writer, node: Node) -> str:
    x = w.tensor(node, 0)
    return f"{w.helper('insert')}({x}, {w.tensor(node, 1)}, {w.size(node, 2) or f'len({x})'})"


def _has(w: Writer, node: Node) -> str:
    there = f"{w.tensor(node, 0)} is not None" if node.input(0) else "False"
    return f"torch.tensor({there}, device={w.device()})"


EMITTERS: Table = {
    "ConcatFromSequence": _concat,
    "Optional": lambda w, node: w.optional(node, 0) or "None",
    "OptionalGetElement": lambda w, node: w.tensor(node, 0),
    "OptionalHasElement": _has,
    "SequenceAt": lambda w, node: f"{w.tensor(node, 0)}[{w.size(node, 1)}]",
    "SequenceConstruct": lambda w, node: f"[{', '.join(w.tensor(node, i) for i in range(len(node.inputs)))}]",
    "SequenceEmpty": lambda _, __: "[]",
    "SequenceErase": lambda w, node: f"{w.helper('erase')}({w.tensor(node, 0)}, {w.size(node, 1) or '-1'})",
    "SequenceInsert": _insert,
    "SequenceLength": lambda w, node: f"torch.tensor(len({w.tensor(node, 0)}), device={w.device()})",
    "SplitToSequence": _split,
}
