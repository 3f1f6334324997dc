"""The text of `model.py`."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import amcc
from amcc.backends.torch_bodies import Method
from amcc.backends.torch_ops.blocks import Block, Folded, folded
from amcc.backends.torch_ops.helpers import definitions
from amcc.backends.torch_ops.state import State
from amcc.backends.torch_ops.writer import DEVICE, MARK, Statement, Writer
from amcc.ir import Graph

# What the code of a forward pass may speak of beside its values.
_NAMES = ("F", "_", "bool", "device", "float", "int", "len", "list", "min", "nn", "self", "torch", "tuple")

_HEADER = '''"""{title}, written by amcc {version}.

    from model import load
    model = load()  # weights from model.safetensors beside this file

{signature}
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

'''

_SCOPE = '''
class Scope(nn.Module):
    """A part of the module tree; `scope[0]` is its child "0"."""

    def __getitem__(self, name: int | str):
        return getattr(self, str(name))

    def __setitem__(self, name: int | str, value) -> None:
        setattr(self, str(name), value)

'''

_LOAD = '''

def load(folder: str | Path | None = None) -> Model:
    """The model with the weights of `model.safetensors`, ready for inference.

    Args:
        folder: where the file is; beside this one unless told otherwise.
    """
    folder = Path(__file__).parent if folder is None else Path(folder)
    model = Model()
    model.load_state_dict(read_weights(folder / "model.safetensors"))
    return model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file: a JSON header that says where each one lies."""
    dtypes = {
        "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
        "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    }  # fmt: skip
    tensors = {}
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                file.seek(8 + size + begin)
                tensor = torch.empty(entry["shape"], dtype=dtypes[entry["dtype"]])
                if end > begin:
                    tensor = torch.frombuffer(bytearray(file.read(end - begin)), dtype=tensor.dtype)
                tensors[name] = tensor.reshape(entry["shape"])
    return tensors
'''


def module_source(writer: Writer, live: Sequence[Statement], state: State, methods: Sequence[Method] = ()) -> str:
    """The whole file.

    Args:
        live: the statements of the forward pass; the last one returns.
        methods: the bodies of what runs by condition or in a loop.
    """
    graph = writer.graph
    helpers = definitions({helper for s in live for helper in s.helpers} - {DEVICE})
    taken = {*helpers, *_NAMES}
    short = Folded(list(live), dict(state.layers)) if methods else folded(live, state)
    inputs = _inputs(graph, writer, taken)
    tensors = (n for n in graph.inputs if graph.values[n].dtype and not graph.values[n].dtype.endswith(")"))
    variables = _Variables(inputs, taken, next((inputs[writer.value(name)] for name in tensors), ""))
    forward = variables.write(short.live)
    init = state.lines(short.live, short.layers)
    classes = [_block(block, taken) for block in short.blocks]
    root = "Scope" if any(re.search(r"self\[", line) for line in (*init, *forward)) else "nn.Module"
    scoped = root == "Scope" or any(
        re.search(r"= Scope\(\)$|\(Scope\):$", part, re.MULTILINE) for part in (*init, *classes)
    )
    parts = [
        _HEADER.format(title=plain(graph.name) or "A network", version=amcc.__version__, signature=_signature(graph)),
        _SCOPE if scoped else "",
        *(f"\n{text}\n\n" for text in helpers.values()),
        *classes,
        f"\nclass Model({root}):\n",
        _function("__init__(self) -> None", ["super().__init__()", *init]),
        "\n",
        _function(f"forward(self, {variables.arguments}) -> {_returned(graph)}", forward),
        *(f"\n{_method(method, taken)}" for method in methods),
        _LOAD,
    ]
    return "".join(parts)


def _block(block: Block, taken: set[str]) -> str:
    """The class of a repeated part."""
    names = (
        _POOL[: len(block.inputs)] if len(block.inputs) <= len(_POOL) else [f"x{i}" for i in range(len(block.inputs))]
    )
    variables = _Variables(dict(zip(block.inputs, names, strict=False)), taken, names[0])
    forward = variables.write(block.live)
    arguments = "".join(f", {name}: {_annotation(name)}" for name in block.arguments)
    root = "Scope" if any("self[" in line for line in (*block.init, *forward)) else "nn.Module"
    return (
        f"\nclass {block.name}({root}):\n"
        + _function(f"__init__(self{arguments}) -> None", ["super().__init__()", *block.init])
        + "\n"
        + _function(f"forward(self, {variables.arguments}) -> Tensor", forward)
        + "\n"
    )


def _method(method: Method, taken: set[str]) -> str:
    """A body."""
    names = (*_POOL, *(f"x{i}" for i in range(len(method.inputs))))
    variables = _Variables(dict(zip(method.inputs, names, strict=False)), taken, names[0] if method.inputs else "")
    body = variables.write(method.live)
    return _function(f"{method.name}(self{', ' if method.inputs else ''}{variables.arguments})", body)


def _annotation(name: str) -> str:
    return "float" if name.partition("_")[0] in ("eps", "momentum") else "int"


def _inputs(graph: Graph, writer: Writer, taken: set[str]) -> dict[str, str]:
    """The variables of the graph's inputs, by mark."""
    found: dict[str, str] = {}
    for name in graph.inputs:
        text = re.sub(r"\W+", "_", name, flags=re.ASCII) or "x"
        if not text.isidentifier() or keyword.iskeyword(text) or text.startswith("__"):
            text = f"x_{text.strip('_')}"
        while text in taken or text in found.values():
            text += "_"
        found[writer.value(name)] = text
    return found


def _function(head: str, body: Sequence[str]) -> str:
    lines = (part for line in body for part in line.split("\n"))
    return f"    def {head}:\n" + "".join(f"        {line}\n" for line in lines)


def _returned(graph: Graph) -> str:
    return "Tensor" if len(graph.outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(graph.outputs))}]"


def _signature(graph: Graph) -> str:
    """Inputs and outputs with types and shapes, one a line."""
    lines = []
    for title, names in (("Input", graph.inputs), ("Output", graph.outputs)):
        for name in names:
            value = graph.values[name]
            shape = "" if value.shape is None else f"[{', '.join(str(d) for d in value.shape)}]"
            lines.append(f"{title} {plain(name)}: {plain(value.dtype)}{plain(shape)}")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text from a model file, fit for a docstring: nothing that could end it."""
    return re.sub(r"[^A-Za-z0-9_.,:;/+*()\[\] -]+", "_", text)[:80]


_POOL = ("x", "y", "z", "u", "v", "w")


class _Variables:
    """Python names for values; a name is used again when its value is no longer needed.

    Args:
        inputs: names that are given, by mark.
        taken: names that mean something else.
        first: the one on whose device new tensors are made.
    """

    def __init__(self, inputs: Mapping[str, str], taken: set[str], first: str) -> None:
        self._taken = taken
        self._names = dict(inputs)
        self._busy = set(inputs.values())
        self._device = f"device = {first}.device" if first else 'device = torch.device("cpu")'
        self.arguments = ", ".join(f"{name}: Tensor" for name in inputs.values())

    def write(self, live: Sequence[Statement]) -> list[str]:
        """The statements as lines."""
        live = _nested(live)
        last = {mark: i for i, s in enumerate(live) for mark in MARK.findall(s.code)}
        lines = []
        if any(DEVICE in s.helpers for s in live):
            lines.append(self._device)
        for i, statement in enumerate(live):
            code = MARK.sub(lambda match: self._names[match[0]], statement.code)
            for mark in dict.fromkeys(MARK.findall(statement.code)):
                if last[mark] == i:
                    self._busy.discard(self._names[mark])
            targets = [self._target(mark, mark in last) for mark in statement.targets]
            lines.append(
                f"{', '.join(targets)}{',' if statement.several == 1 else ''} = {code}" if targets else f"return {code}"
            )
        return lines

    def _target(self, mark: str, read: bool) -> str:
        if not read:
            return "_"
        pool = (*_POOL, *(f"x{i}" for i in range(len(_POOL), len(self._busy) + len(self._taken) + 8)))
        name = next(n for n in pool if n not in self._busy and n not in self._taken)
        self._names[mark] = name
        self._busy.add(name)
        return name


_ACTIVATION = re.compile(r"(?:F|torch)\.\w+\((§[0-9]+§)(?:, (?!self\.)[^§]*)?\)")
_WIDEST = 90


def _nested(live: Sequence[Statement]) -> list[Statement]:
    """An activation around the layer that it follows, and what is returned in the `return`."""
    uses = Counter(mark for s in live for mark in MARK.findall(s.code))
    nested: list[Statement] = []
    for statement in live:
        before = nested[-1] if nested else None
        inner = _ACTIVATION.fullmatch(statement.code)
        mark = statement.code if not statement.targets else inner[1] if inner else ""
        if before is not None and before.targets == (mark,) and not before.several and uses[mark] == 1:
            layer = before.code.startswith("self.") and before.code.endswith(")")
            code = statement.code.replace(mark, before.code)
            if not statement.targets or (layer and len(code) <= _WIDEST):
                joined = [{**before.params, **statement.params}, {**before.layers, **statement.layers}]
                helpers = before.helpers | statement.helpers
                nested[-1] = replace(statement, code=code, params=joined[0], layers=joined[1], helpers=helpers)
                continue
        nested.append(statement)
    return nested
