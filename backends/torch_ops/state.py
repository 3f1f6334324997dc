"""What the written module holds: layers, parameters, buffers, and the tree they hang in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amcc.backends.torch_notes import tied
from amcc.backends.torch_ops.names import keys, path, quoted
from amcc.backends.torch_ops.writer import Statement, Writer, call
from amcc.ir import Array


class State:
    """The state dict of the written module, and the code that makes it.

    Attributes:
        arrays: what `model.safetensors` holds, by key.
    """

    def __init__(self, writer: Writer, live: Sequence[Statement]) -> None:
        graph = writer.graph
        self._writer = writer
        self._layers = {p: writer.layers[p] for s in live for p in s.layers}
        owned = {key for layer in self._layers.values() for key in layer.params}
        names = dict.fromkeys(name for s in live for name in s.params)
        self._loose = [name for name in names if writer.keys[name] not in owned]
        statistics = {i for node in graph.nodes if node.op == "BatchNormalization" for i in node.inputs[3:5]}
        self._buffers = statistics | writer.buffers
        held = {writer.keys[name]: array for name, array in graph.params.items()}
        self._order = self._first_use(live)
        self.arrays: dict[str, Array] = {key: held[key] for key in owned | {writer.keys[n] for n in self._loose}}
        for prefix, layer in self._layers.items():
            if layer.code.startswith("nn.BatchNorm"):
                self.arrays[f"{prefix}.num_batches_tracked"] = np.array(0, np.int64)
        self._ties = self._tied(held)
        self.arrays.update((alias, self.arrays[key]) for alias, key in self._ties.items())

    def _first_use(self, live: Sequence[Statement]) -> list[str]:
        """Prefixes of layers and names of loose parameters, as the forward pass meets them."""
        loose = set(self._loose)
        met = (item for s in live for item in (*s.layers, *(n for n in s.params if n in loose)))
        return list(dict.fromkeys(met))

    def _tied(self, held: Mapping[str, Array]) -> dict[str, str]:
        """Other keys of the arrays, where PyTorch can hold them: key -> key."""
        found: dict[str, str] = {}
        for alias, name in tied(self._writer.graph).items():
            key = self._writer.keys[name]
            if key in self.arrays and alias and alias not in held and keys([*held, alias])[alias] == alias:
                found[alias] = key
        return found

    def lines(self) -> list[str]:
        """The body of `__init__`, in the order in which the forward pass meets its parts."""
        lines: list[str] = []
        made: set[str] = set(self._layers)
        for item in self._order:
            layer = self._layers.get(item)
            key = item if layer is not None else self._writer.keys[item]
            lines += _scopes(key, made)
            lines.append(f"{path(key)} = {layer.code}" if layer is not None else self._loose_line(item, key))
        for alias, key in self._ties.items():
            lines += _scopes(alias, made)
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
        comment = f"  # {quoted(name)} in the source" if key != name else ""
        if array.dtype.kind in "iub" or name in self._buffers:
            above, _, last = key.rpartition(".")
            return f"{path(above)}.register_buffer({quoted(last)}, {zeros}){comment}"
        return f"{path(key)} = nn.Parameter({zeros}){comment}"


def _scopes(key: str, made: set[str]) -> list[str]:
    """The parts of the tree above a key that are not there yet."""
    lines = []
    steps = key.split(".")
    for depth in range(1, len(steps)):
        above = ".".join(steps[:depth])
        if above not in made:
            made.add(above)
            lines.append(f"{path(above)} = Scope()")
    return lines
