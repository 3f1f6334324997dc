"""A graph as a `torch.fx.GraphModule`: the forward pass of the written module, call by call."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amcc.backends.torch_module import written
from amcc.errors import ModelError
from amcc.ir import Graph

if TYPE_CHECKING:
    from torch import fx, nn

_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.Div: operator.truediv,
    ast.Eq: operator.eq,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.IsNot: operator.is_not,
    ast.LShift: operator.lshift,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.MatMult: operator.matmul,
    ast.Mod: operator.mod,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.RShift: operator.rshift,
    ast.Sub: operator.sub,
    ast.USub: operator.neg,
}
_BUILTINS = {"bool": bool, "float": float, "int": int, "len": len, "list": list, "range": range, "tuple": tuple}


def graph_module(graph: Graph) -> fx.GraphModule:
    """The graph as a `torch.fx.GraphModule`, in evaluation mode, trainable.

    Layers are submodules under the names of the source, `state_dict` is that of the written module.

    Raises:
        ModelError: see `write_torch`; also for an If, Loop or Scan, which such a graph cannot hold.
    """
    from torch import fx

    module, names, _ = written(graph)
    made = _Translator(module, names).translated()
    found = fx.GraphModule(module, made, class_name="Model")
    return found.eval()


class _Translator:
    """Statements of the written `forward` as nodes of an FX graph."""

    def __init__(self, module: nn.Module, names: Mapping[str, Any]) -> None:
        from torch import fx

        self._module, self._names = module, names
        self._graph = fx.Graph()
        self._values: dict[str, Any] = {}

    def translated(self) -> fx.Graph:
        import torch

        model = next(p for p in ast.parse(self._names["__source__"]).body if getattr(p, "name", "") == "Model")
        assert isinstance(model, ast.ClassDef)
        methods = {part.name: part for part in model.body if isinstance(part, ast.FunctionDef)}
        forward = methods["forward"]
        if methods.keys() - {"__init__", "forward"}:
            raise ModelError("an If, Loop or Scan has no counterpart in a torch.fx graph", hint="use model.py")
        for argument in forward.args.args[1:]:
            self._values[argument.arg] = self._graph.placeholder(argument.arg, type_expr=torch.Tensor)
        for statement in forward.body:
            self._statement(statement)
        self._graph.lint()
        return self._graph

    def _statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Return):
            assert statement.value is not None
            self._graph.output(self._value(statement.value))
        elif isinstance(statement, ast.Assign):
            value, target = self._value(statement.value), statement.targets[0]
            if isinstance(target, ast.Tuple):
                for index, part in enumerate(target.elts):
                    assert isinstance(part, ast.Name)
                    if part.id != "_":
                        self._values[part.id] = self._call(operator.getitem, value, index)
            else:
                assert isinstance(target, ast.Name)
                self._values[target.id] = value
        else:
            raise ModelError("this has no counterpart in a torch.fx graph", hint="use model.py")

    def _value(self, code: ast.expr) -> Any:
        match code:
            case ast.Constant():
                return code.value
            case ast.Name():
                return self._values[code.id] if code.id in self._values else self._known(code.id)
            case ast.Tuple():
                return tuple(map(self._value, code.elts))
            case ast.List():
                return list(map(self._value, code.elts))
            case ast.Slice():
                return slice(
                    *(None if part is None else self._value(part) for part in (code.lower, code.upper, code.step))
                )
            case ast.BinOp():
                return self._call(_OPERATORS[type(code.op)], self._value(code.left), self._value(code.right))
            case ast.Compare():
                return self._call(
                    _OPERATORS[type(code.ops[0])], self._value(code.left), self._value(code.comparators[0])
                )
            case ast.UnaryOp():
                return self._call(_OPERATORS[type(code.op)], self._value(code.operand))
            case ast.Call():
                return self._called(code)
            case ast.Attribute() | ast.Subscript():
                return self._part(code)
        raise ModelError(f"'{ast.unparse(code)}' has no counterpart in a torch.fx graph", hint="use model.py")

    def _known(self, name: str) -> Any:
        return _BUILTINS[name] if name in _BUILTINS else self._names[name]

    def _part(self, code: ast.Attribute | ast.Subscript) -> Any:
        """An attribute or an element: of the module, of a Python module, or of a value."""
        if (path := _path(code)) is not None:
            return self._graph.get_attr(path)
        whole = self._value(code.value)
        if isinstance(code, ast.Subscript):
            return self._call(operator.getitem, whole, self._value(code.slice))
        return self._call(getattr, whole, code.attr) if self._is_node(whole) else getattr(whole, code.attr)

    def _called(self, code: ast.Call) -> Any:
        arguments = [self._value(argument) for argument in code.args]
        named = {word.arg: self._value(word.value) for word in code.keywords if word.arg is not None}
        if (path := _path(code.func)) is not None:
            return self._graph.call_module(path, tuple(arguments), named)
        if isinstance(code.func, ast.Attribute):
            owner = self._value(code.func.value)
            if self._is_node(owner):
                return self._graph.call_method(code.func.attr, (owner, *arguments), named)
            return self._graph.call_function(getattr(owner, code.func.attr), tuple(arguments), named)
        function = self._value(code.func)
        if function in _BUILTINS.values():
            return self._call(function, *arguments)
        return self._graph.call_function(function, tuple(arguments), named)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A call, or its result where nothing in it waits for run time."""
        if self._waits(arguments):
            return self._graph.call_function(function, arguments)
        return function(*arguments)

    def _waits(self, values: Sequence[Any]) -> bool:
        return any(
            self._is_node(v)
            or (isinstance(v, tuple | list) and self._waits(v))
            or (isinstance(v, slice) and self._waits((v.start, v.stop, v.step)))
            for v in values
        )

    @staticmethod
    def _is_node(value: Any) -> bool:
        from torch import fx

        return isinstance(value, fx.Node)


def _path(code: ast.expr) -> str | None:
    """The state-dict path that code like `self.layer1[0].conv` speaks of; None for other code."""
    steps: list[str] = []
    while isinstance(code, ast.Attribute | ast.Subscript):
        if isinstance(code, ast.Attribute):
            steps.append(code.attr)
        elif isinstance(code.slice, ast.Constant):
            steps.append(str(code.slice.value))
        else:
            return None
        code = code.value
    return ".".join(reversed(steps)) if isinstance(code, ast.Name) and code.id == "self" and steps else None
