"""What the written module holds: layers, parameters, buffers, and the tree they hang in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from amcc.backends.torch_notes import tied
from amcc.backends.torch_ops.names import attribute, keys, path, quoted
from amcc.backends.torch_ops.writer import Layer, Statement, Writer, call
from amcc.ir import Array


class State:
    """The state dict of the written module, and the code that makes it.

    Attributes:
        arrays: what `model.safetensors` holds, by key.
        layers: by the prefix of their keys.
        ties: further keys of arrays: key -> key.
    """

    def __init__(self, writer: Writer, live: Sequence[Statement]) -> None:
        graph = writer.graph
        self._writer = writer
        self.layers: dict[str, Layer] = {p: writer.layers[p] for s in live for p in s.layers}
        owned = {key for layer in self.layers.values() for key in layer.params}
        names = dict.fromkeys(name for s in live for name in s.params)
        self._loose = {name: None for name in names if writer.keys[name] not in owned}
        statistics = {i for node in graph.nodes if node.op == "BatchNormalization" for i in node.inputs[3:5]}
        self._buffers = statistics | writer.buffers
        held = {writer.keys[name]: array for name, array in graph.params.items()}
        self.arrays: dict[str, Array] = {key: held[key] for key in owned | {writer.keys[n] for n in self._loose}}
        for prefix, layer in self.layers.items():
            if layer.code.startswith("nn.BatchNorm"):
                self.arrays[f"{prefix}.num_batches_tracked"] = np.array(0, np.int64)
        self.ties = self._tied(held)
        self.arrays.update((alias, self.arrays[key]) for alias, key in self.ties.items())

    def held(self, statement: Statement) -> list[str]:
        """The keys of the layers and of the loose parameters that a statement speaks of."""
        loose = (self._writer.keys[name] for name in statement.params if name in self._loose)
        return [*statement.layers, *loose]

    def _tied(self, held: Mapping[str, Array]) -> dict[str, str]:
        """Other keys of the arrays, where PyTorch can hold them: key -> key."""
        found: dict[str, str] = {}
        for alias, name in tied(self._writer.graph).items():
            key = self._writer.keys[name]
            if key in self.arrays and alias and alias not in held and keys([*held, alias])[alias] == alias:
                found[alias] = key
        return found

    def lines(self, live: Sequence[Statement], layers: Mapping[str, Layer], below: str = "") -> list[str]:
        """The body of `__init__`, in the order in which the forward pass meets its parts.

        Args:
            layers: what stands at prefixes.
            below: of a part of the tree: its own prefix.
        """
        loose = {self._writer.keys[name]: name for name in self._loose}
        met = list(dict.fromkeys(key for s in live for key in self.held(s)))
        start = len(below) + 1 if below else 0
        every = [key[start:] for key in (*met, *([] if below else self.ties))]
        lines: list[str] = []
        made: set[str] = {key[start:] for key in met if key in layers}
        for key in met:
            own = key[start:]
            lines += _scopes(own, made, every)
            code = layers[key].code if key in layers else None
            lines.append(self._loose_line(loose[key], own) if code is None else f"{path(own)} = {code}")
        if not below:
            for alias, key in self.ties.items():
                lines += _scopes(alias, made, every)
                lines.append(f"{path(alias)} = {path(key)}")
        return lines

    def _loose_line(self, name: str, key: str) -> str:
        array = self._writer.graph.params[name]
        dtype = array.dtype.name
        zeros = call(
            "torch.zeros",
            *(str(size) for size in array.shape) if array.ndim else ("()",),
            dtype=None if dtype == "float32" else self._writer.torch_dtype(dtype),
        )
        comment = f"  # {quoted(name)} in the source" if self._writer.keys[name] != name else ""
        if array.dtype.kind in "iub" or name in self._buffers:
            above, _, last = key.rpartition(".")
            return f"{path(above)}.register_buffer({quoted(last)}, {zeros}){comment}"
        return f"{path(key)} = nn.Parameter({zeros}){comment}"


def _scopes(key: str, made: set[str], every: Iterable[str]) -> list[str]:
    """The parts of the tree above a key that are not there yet."""
    lines = []
    steps = key.split(".")
    for depth in range(1, len(steps)):
        above = ".".join(steps[:depth])
        if above not in made:
            made.add(above)
            below = {other[len(above) + 1 :].split(".")[0] for other in every if other.startswith(f"{above}.")}
            named = all(attribute(step).startswith(".") for step in below)
            lines.append(f"{path(above)} = {'nn.Module' if named else 'Scope'}()")
    return lines
