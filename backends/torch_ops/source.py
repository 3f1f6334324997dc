"""The text of `model.py`."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence

import amcc
from amcc.backends.torch_ops.helpers import HELPERS
from amcc.backends.torch_ops.state import State
from amcc.backends.torch_ops.writer import DEVICE, Statement, Writer
from amcc.ir import Graph

# What the code of a forward pass may speak of beside its values.
_NAMES = ("F", "_", "device", "float", "nn", "self", "torch", "tuple")
MARK = re.compile("§[0-9]+§")

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


def module_source(writer: Writer, live: Sequence[Statement], state: State) -> str:
    """The whole file.

    Args:
        live: the statements of the forward pass; the last one returns.
    """
    graph = writer.graph
    used = sorted({helper for s in live for helper in s.helpers} - {DEVICE})
    variables = _Variables(graph, writer, taken={*used, *_NAMES})
    forward = variables.write(live)
    init = state.lines()
    root = "Scope" if any(re.search(r"self\[", line) for line in (*init, *forward)) else "nn.Module"
    parts = [
        _HEADER.format(title=plain(graph.name) or "A network", version=amcc.__version__, signature=_signature(graph)),
        _SCOPE if root == "Scope" or any(line.endswith("= Scope()") for line in init) else "",
        *(f"{HELPERS[name]}\n" for name in used),
        f"\nclass Model({root}):\n",
        _function("__init__(self) -> None", ["super().__init__()", *init]),
        "\n",
        _function(f"forward(self, {variables.arguments}) -> {_returned(graph)}", forward),
        _LOAD,
    ]
    return "".join(parts)


def _function(head: str, body: Sequence[str]) -> str:
    return f"    def {head}:\n" + "".join(f"        {line}\n" for line in body)


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


class _Variables:
    """Python names for values; a name is used again when its value is no longer needed."""

    _POOL = ("x", "y", "z", "u", "v", "w")

    def __init__(self, graph: Graph, writer: Writer, taken: set[str]) -> None:
        self._taken = taken
        self._names: dict[str, str] = {}
        self._busy: set[str] = set()
        for name in graph.inputs:
            mark = writer.value(name)
            self._names[mark] = self._input(name)
            self._busy.add(self._names[mark])
        self._device = f"device = {self._names[writer.value(graph.inputs[0])]}.device" if graph.inputs else ""
        self.arguments = ", ".join(f"{self._names[writer.value(name)]}: Tensor" for name in graph.inputs)

    def _input(self, name: str) -> str:
        text = re.sub(r"\W+", "_", name, flags=re.ASCII) or "x"
        if not text.isidentifier() or keyword.iskeyword(text) or text.startswith("__"):
            text = f"x_{text.strip('_')}"
        while text in self._taken or text in self._busy:
            text += "_"
        return text

    def write(self, live: Sequence[Statement]) -> list[str]:
        """The statements as lines."""
        last = {mark: i for i, s in enumerate(live) for mark in MARK.findall(s.code)}
        lines = []
        if any(DEVICE in s.helpers for s in live):
            lines.append(self._device or 'device = torch.device("cpu")')
        for i, statement in enumerate(live):
            code = MARK.sub(lambda match: self._names[match[0]], statement.code)
            for mark in dict.fromkeys(MARK.findall(statement.code)):
                if last[mark] == i:
                    self._busy.discard(self._names[mark])
            targets = [self._target(mark, mark in last) for mark in statement.targets]
            lines.append(
                f"{', '.join(targets)}{',' if statement.unpacked and len(targets) == 1 else ''} = {code}"
                if targets
                else f"return {code}"
            )
        return lines

    def _target(self, mark: str, read: bool) -> str:
        if not read:
            return "_"
        pool = (*self._POOL, *(f"x{i}" for i in range(len(self._POOL), len(self._busy) + len(self._taken) + 8)))
        name = next(n for n in pool if n not in self._busy and n not in self._taken)
        self._names[mark] = name
        self._busy.add(name)
        return name
