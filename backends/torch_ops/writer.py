"""What an emitter asks for: the inputs of a node as code, its constants as numbers, layers, helpers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from amcc.backends.torch_notes import BUFFERS, KEPT, noted
from amcc.backends.torch_ops.names import keys, path
from amcc.errors import ModelError
from amcc.ir import Array, Graph, Node, Shape

DTYPES = {
    "bool": "torch.bool",
    "uint8": "torch.uint8",
    "int8": "torch.int8",
    "int16": "torch.int16",
    "int32": "torch.int32",
    "int64": "torch.int64",
    "uint16": "torch.uint16",
    "uint32": "torch.uint32",
    "uint64": "torch.uint64",
    "float16": "torch.float16",
    "bfloat16": "torch.bfloat16",
    "float32": "torch.float32",
    "float64": "torch.float64",
}

# Types that PyTorch holds and moves, but hardly computes with.
UNSIGNED = frozenset({"uint16", "uint32", "uint64"})

DEVICE = "device"
# A value in code, until its variable is known: characters that no other code holds.
MARK = re.compile("§[0-9]+§")

# Operators whose inputs of one element are settings, not weights.
_BOUNDED = frozenset({"Clip", "Dropout", "OneHot", "Pad", "Range"})


@dataclass(frozen=True)
class Layer:
    """A module that holds parameters.

    Attributes:
        code: its constructor.
        params: state-dict keys it owns.
    """

    code: str
    params: tuple[str, ...]


@dataclass
class Statement:
    """`targets = code`; a value of the graph stands in the code as its mark.

    Attributes:
        several: how many results the code gives in a tuple; 0 for one that is none.
    """

    node: Node
    code: str = ""
    targets: tuple[str, ...] = ()
    several: int = 0
    params: dict[str, None] = field(default_factory=dict)
    layers: dict[str, None] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)


class Writer:
    """Turns names of the graph into code.

    Values are written as marks (`§3§`, a character that no other code holds) until their variables
    are known.

    Attributes:
        keys: state-dict keys by parameter.
        aliases: code of values that are another one.
        absorbed: values that the statement of another computes along: value -> the other.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.keys = keys(graph.params)
        self.kept = noted(graph, KEPT)
        self.buffers = noted(graph, BUFFERS)
        self.layers: dict[str, Layer] = {}
        self.marks: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.absorbed: dict[str, str] = {}
        self.current = Statement(Node("", "", (), ()))
        self._below: dict[str, set[str]] = {}
        for key in self.keys.values():
            steps = key.split(".")
            for depth in range(1, len(steps)):
                self._below.setdefault(".".join(steps[:depth]), set()).add(key)

    # Inputs

    def value(self, name: str) -> str:
        """Any tensor: a variable, a parameter, or a constant written out."""
        if name in self.aliases:
            return self.aliases[name]
        if name in self.graph.params:
            return self._literal(self.graph.params[name]) if self.inlined(name) else self.param(name)
        return self.marks.setdefault(name, f"§{len(self.marks)}§")

    def tensor(self, node: Node, index: int) -> str:
        """Input `index` as a tensor."""
        name = node.input(index)
        if not name:
            raise self.unsupported(node, f"without input {index}")
        return self.value(name)

    def number(self, node: Node, index: int) -> str | None:
        """Input `index` of an operator that broadcasts as a number, if it is one and leaves the rank to another."""
        name = node.input(index)
        array = self.graph.params.get(name)
        if array is None or array.size != 1 or not self.inlined(name):
            return None
        ranks = [self.graph.values[i].rank for i in node.inputs if i and i not in self.graph.params]
        fits = any(rank is not None and rank >= array.ndim for rank in ranks)
        return number(array.reshape(-1)[0]) if fits else None

    def operand(self, node: Node, index: int) -> str:
        """Input `index` of an operator that broadcasts: a number where one does, else the tensor."""
        return self.number(node, index) or self.tensor(node, index)

    def real(self, node: Node, name: str, default: float) -> str:
        """A float attribute as code."""
        return number(np.float32(float(str(node.attributes.get(name, default)))))

    def flag(self, node: Node, name: str, default: int) -> bool:
        """An integer attribute that is a switch."""
        return bool(node.attributes.get(name, default))

    def text(self, node: Node, name: str, default: str) -> str:
        """A string attribute."""
        given = node.attributes.get(name, default)
        return given if isinstance(given, str) else default

    def integer(self, node: Node, name: str, default: int) -> int:
        """An integer attribute."""
        return int(str(node.attributes.get(name, default)))

    def constant(self, node: Node, index: int) -> Array | None:
        """The array of a constant input; None if it is left out or computed."""
        return self.graph.params.get(node.input(index))

    def ints(self, node: Node, attribute: str, index: int) -> list[int] | None:
        """Integers given as an attribute in old operator sets and as an input in new ones.

        Returns:
            None if neither is there.

        Raises:
            ModelError: the input is computed at run time.
        """
        given = node.attributes.get(attribute)
        if given is not None:
            return _listed(given)
        if not node.input(index):
            return None
        array = self.constant(node, index)
        if array is None:
            raise self.unsupported(node, f"with {attribute} computed at run time")
        return [int(i) for i in array.reshape(-1)]

    def listed(self, node: Node, attribute: str, index: int) -> str | None:
        """Integers given as an attribute or as an input, as the code of a list; None if neither is there."""
        if attribute in node.attributes:
            return nested(np.array(_listed(node.attributes[attribute]), np.int64))
        array = self.constant(node, index)
        if array is not None:
            return nested(array.reshape(-1))
        return f"{self.tensor(node, index)}.tolist()" if node.input(index) else None

    def size(self, node: Node, index: int, convert: str = "int") -> str | None:
        """An input of one element as the code of a Python number; None if it is left out."""
        if not node.input(index):
            return None
        array = self.constant(node, index)
        if array is not None and array.size == 1:
            return number(array.astype(np.int64 if convert == "int" else array.dtype).reshape(-1)[0])
        return f"{convert}({self.tensor(node, index)})"

    def optional(self, node: Node, index: int) -> str | None:
        """Input `index` as a tensor; None if it is left out."""
        return self.tensor(node, index) if node.input(index) else None

    def several(self, node: Node, code: str, count: int) -> str:
        """Code that gives a tuple of all outputs that the operator may have; where one is wanted, that one."""
        wanted = [i for i, name in enumerate(node.outputs) if self.used(name)]
        if wanted == [0]:
            return f"{code}[0]"
        self.current.several = count
        return code

    def shape(self, node: Node, index: int = 0) -> Shape:
        """The shape of input `index`."""
        shape = self.graph.values[node.input(index)].shape
        if shape is None:
            raise self.unsupported(node, f"on '{node.input(index)}', whose rank is unknown")
        return shape

    def rank(self, node: Node, index: int = 0) -> int:
        """The rank of input `index`."""
        return len(self.shape(node, index))

    def output_shape(self, node: Node) -> Shape | None:
        """The shape of the first output, if its rank is known."""
        return self.graph.values[node.outputs[0]].shape

    def dtype(self, node: Node, index: int = 0) -> str:
        """The element type of input `index`, numpy's name."""
        return self.graph.values[node.input(index)].dtype

    def used(self, name: str) -> bool:
        """Whether a value is read by a node or is an output."""
        return bool(name) and (name in self.graph.consumers or name in self.graph.outputs)

    # State

    def param(self, name: str) -> str:
        """A parameter or buffer, held by the module under its key."""
        key = self.keys[name]
        self.current.params[name] = None
        return path(key)

    def layer(self, code: str, *params: str) -> str | None:
        """The layer that holds the parameters under their own keys, as code to be called.

        Args:
            code: the layer's constructor.
            params: name and attribute in turn: `"layer1.conv.weight", "weight", ...`.

        Returns:
            None if the parameters' names do not fit a layer, or the layer would hold others too.
        """
        pairs = list(zip(params[::2], params[1::2], strict=True))
        owned = tuple(self.keys.get(name, "") for name, _ in pairs)
        prefix = owned[0].rpartition(".")[0]
        if not prefix or any(name in self.graph.params and self.inlined(name) for name, _ in pairs):
            return None
        if any(key != f"{prefix}.{attribute}" for key, (_, attribute) in zip(owned, pairs, strict=True)):
            return None
        others = self._below[prefix] - set(owned) - {f"{prefix}.num_batches_tracked"}
        made = self.layers.setdefault(prefix, Layer(code, owned))
        if others or made.code != code:
            return None
        self.current.layers[prefix] = None
        return path(prefix)

    def absent(self, name: str, value: float) -> bool:
        """Whether a scale or bias is one that PyTorch leaves out: not in the source, or not trained and neutral."""
        return not name or (name in self.buffers and bool((self.graph.params[name] == value).all()))

    def helper(self, name: str) -> str:
        """A function that the written file defines where it is used."""
        self.current.helpers.add(name)
        return name

    def inlined(self, name: str) -> bool:
        """Whether a parameter is a constant that reads better as a literal: a number, or a few integers."""
        array = self.graph.params[name]
        if name in self.kept:
            return False
        if array.dtype.kind in "iub" or array.ndim == 0 or array.size == 0:
            return array.size <= 16
        bounds = all(node.op in _BOUNDED for node in self.graph.consumers.get(name, ()))
        return array.size == 1 and (bounds or name in self.buffers)

    def device(self) -> str:
        """The device of the first input, as code."""
        self.current.helpers.add(DEVICE)
        return DEVICE

    def _literal(self, array: Array) -> str:
        dtype = self.torch_dtype(array.dtype.name)
        if array.size == 0:
            return f"torch.zeros({spelled(array.shape)}, dtype={dtype}, device={self.device()})"
        return f"torch.tensor({nested(array)}, dtype={dtype}, device={self.device()})"

    def torch_dtype(self, dtype: str) -> str:
        """PyTorch's name of an element type."""
        if dtype not in DTYPES:
            raise ModelError(f"PyTorch has no element type '{dtype}'", where=self.current.node.label)
        return DTYPES[dtype]

    def asked_dtype(self, node: Node, attribute: str, default: str = "") -> str:
        """PyTorch's name of the element type that an attribute gives, or of the default."""
        from amcc.passes.protos import dtype_name

        return self.torch_dtype(dtype_name(self.integer(node, attribute, 0)) or default)

    def unsupported(self, node: Node, what: str = "") -> ModelError:
        """The error for what cannot be written in PyTorch."""
        return ModelError(
            f"{node.op}{' ' + what if what else ''} cannot be written as PyTorch code",
            where=node.label,
            hint="the ONNX artifact is not affected",
        )


Emitter = Callable[[Writer, Node], str]
Table = Mapping[str, Emitter]


# Of types whose largest number, written as short as can be, is a little more.
_LARGEST = {"float32": 3.4e38, "float16": 65000.0, "bfloat16": 3.3e38}


def number(value: object) -> str:
    """A number as Python writes it, as short as its precision allows."""
    if isinstance(value, np.generic):
        short = value.dtype.kind not in "iub" and value.dtype.itemsize < 8
        exact = value.item() if value.dtype.kind in "iub" else float(value)
        value = float(str(value)) if short and abs(exact) < _LARGEST.get(value.dtype.name, 0) else exact
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def nested(array: Array) -> str:
    """An array as nested lists."""
    if array.ndim == 0:
        return number(array[()])
    return "[" + ", ".join(nested(part) for part in array) + "]"


def compact(values: Sequence[int]) -> str:
    """`3` for (3, 3), else the tuple."""
    return str(values[0]) if values and len(set(values)) == 1 else spelled(values)


def spelled(values: Sequence[object]) -> str:
    """A tuple as code."""
    return "(" + ", ".join(str(v) for v in values) + ("," if len(values) == 1 else "") + ")"


def call(function: str, *arguments: str, **named: str | None) -> str:
    """A call; arguments named None are left out."""
    parts = [*arguments, *(f"{name}={value}" for name, value in named.items() if value is not None)]
    return f"{function}({', '.join(parts)})"


def _listed(given: object) -> list[int]:
    return [int(i) for i in given] if isinstance(given, tuple | np.ndarray) else [int(str(given))]
