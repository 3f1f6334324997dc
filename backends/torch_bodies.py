"""If, Loop and Scan as methods of the written module: a body is a method, what it reads from outside its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amcc.backends.torch_ops.writer import MARK, Statement, Writer, call, spelled
from amcc.ir import Node
from amcc.passes.branches import DOMAIN, is_select, operands
from amcc.passes.loops import axes, is_begin, is_end, states
from amcc.passes.regions import Place, has_regions, places

Statements = list[Statement]


@dataclass
class Method:
    """A body.

    Attributes:
        inputs: marks of its arguments.
        live: its statements; the last one returns.
    """

    name: str
    inputs: list[str]
    live: Statements


class Bodies:
    """Writes the nodes of one place after another.

    Args:
        plain: a node that is no control flow as code; None if its output is its input.
        live: the statements without those that the last one does not need.

    Attributes:
        methods: what was written so far, inner ones first.
    """

    def __init__(
        self,
        writer: Writer,
        plain: Callable[[Writer, Node], Statement | None],
        live: Callable[[Statements], Statements],
    ) -> None:
        self.methods: list[Method] = []
        self._writer, self._plain, self._live = writer, plain, live
        graph = writer.graph
        where = places(graph) if has_regions(graph) else {}
        self._begins = {node.outputs[0]: node for node in graph.nodes if is_begin(node)}
        self._at: dict[Place, list[Node]] = {}
        for node in graph.nodes:
            if not is_begin(node):
                self._at.setdefault(where.get(node.name, ()), []).append(node)

    def statements(self, place: Place, results: Sequence[str]) -> Statements:
        """What runs there, and the return of some values."""
        w = self._writer
        made = [self._node(node, place) for node in self._at.get(place, ())]
        w.current = last = Statement(Node("return", "return", tuple(results), ()))
        last.code = ", ".join(w.value(name) for name in results)
        return self._live([*(statement for statement in made if statement is not None), last])

    def _node(self, node: Node, place: Place) -> Statement | None:
        if node.domain != DOMAIN:
            return self._plain(self._writer, node)
        statement = Statement(node)
        if is_select(node):
            self._select(node, place, statement)
        elif is_end(node):
            begin = self._begins[node.inputs[0]]
            (self._loop if node.op == "LoopEnd" else self._scan)(begin, node, place, statement)
        else:
            raise self._writer.unsupported(node, "that does not fit the inputs")
        if len(node.outputs) > 1:
            statement.several = len(node.outputs)
        elif is_end(node):
            statement.code += "[0]"
        statement.targets = tuple(map(self._writer.value, node.outputs))
        return statement

    def _method(
        self, name: str, place: Place, inputs: Sequence[str], results: Sequence[str], statement: Statement
    ) -> tuple[str, list[str]]:
        """A body as a method of the statement; gives its code, and the marks that it reads from outside."""
        live = self.statements(place, results)
        given = [self._writer.value(value) for value in inputs]
        made = {*given, *(target for inner in live for target in inner.targets)}
        free = list(dict.fromkeys(m for inner in live for m in MARK.findall(inner.code) if m not in made))
        method = Method(f"{name}_{len(self.methods) + 1}", [*given, *free], live)
        self.methods.append(method)
        for inner in live:
            statement.params.update(inner.params)
            statement.layers.update(inner.layers)
            statement.helpers |= inner.helpers
        return f"self.{method.name}", free

    def _select(self, node: Node, place: Place, statement: Statement) -> None:
        calls = []
        for side, (name, chosen) in enumerate(zip(("when_true", "when_false"), operands(node), strict=True)):
            code, free = self._method(name, (*place, (node.name, side)), (), chosen, statement)
            calls.append(call(code, *free))
        self._writer.current = statement
        statement.code = f"{calls[0]} if {self._writer.size(node, 0, 'bool')} else {calls[1]}"

    def _loop(self, begin: Node, end: Node, place: Place, statement: Statement) -> None:
        w, count = self._writer, states(begin)
        body, free = self._method("step", (*place, (end.name, 0)), begin.outputs[1:], end.inputs[1:], statement)
        w.current = statement
        initial = [w.tensor(begin, 2 + k) for k in range(count)]
        statement.code = call(
            w.helper("loop"),
            body,
            w.size(begin, 0) or "None",
            w.size(begin, 1, "bool") or "True",
            f"[{', '.join(initial)}]",
            f"[{', '.join(free)}]",
            str(len(end.inputs) - 2 - count),
            ranks=None if axes(begin, "counters") == (0, 0) else spelled(axes(begin, "counters")),
        )

    def _scan(self, begin: Node, end: Node, place: Place, statement: Statement) -> None:
        w, count = self._writer, states(begin)
        body, free = self._method("step", (*place, (end.name, 0)), begin.outputs[1:], end.inputs[1:], statement)
        w.current = statement
        given = [w.tensor(begin, k) for k in range(len(begin.inputs))]
        listed = [f"[{', '.join(names)}]" for names in (given[:count], given[count:], free)]
        along = [spelled(axes(node, which)) for node in (begin, end) for which in ("axes", "directions")]
        statement.code = call(w.helper("scan"), body, *listed, *along)
