"""State-dict keys as Python: where a parameter lives in the module tree and how code spells it."""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from functools import cache

from amcc.errors import ModelError


@cache
def reserved() -> frozenset[str]:
    """Names that a `torch.nn.Module` already gives a meaning."""
    from torch import nn

    return frozenset(dir(nn.Module()))


def attribute(segment: str) -> str:
    """One step down the module tree, as code: `.conv1`, `[0]` or `["a b"]`."""
    if segment.isdecimal() and segment.isascii() and str(int(segment)) == segment:
        return f"[{segment}]"
    if segment.isidentifier() and segment.isascii() and not keyword.iskeyword(segment) and segment[:2] != "__":
        return f".{segment}"
    return f"[{quoted(segment)}]"


def quoted(text: str) -> str:
    """A string literal, ASCII alone."""
    literal = ascii(text)
    return f'"{literal[1:-1]}"' if literal == f"'{text}'" and '"' not in text else literal


def path(key: str) -> str:
    """The module or parameter at a state-dict key, as code: `self.layer1[0].conv1.weight`."""
    return "self" + "".join(attribute(segment) for segment in key.split(".")) if key else "self"


def keys(names: Iterable[str]) -> dict[str, str]:
    """The state-dict key of every parameter: its own name wherever PyTorch can hold it.

    A key cannot have an empty step, a step that `torch.nn.Module` uses itself, or go on below another
    parameter; such names are respelled with underscores.

    Raises:
        ModelError: a name is empty.
    """
    names = list(names)
    tensors = set(names)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if not name:
            raise ModelError("a parameter without a name cannot be written for PyTorch")
        key = name if _holds(name, tensors) else _respelled(name, tensors)
        while key in taken or (key != name and key in tensors):
            key += "_"
        taken.add(key)
        found[name] = key
    return found


def _holds(name: str, tensors: set[str]) -> bool:
    steps = name.split(".")
    above = {".".join(steps[:depth]) for depth in range(1, len(steps))}
    return all(steps) and not reserved().intersection(steps) and not above & tensors


def _respelled(name: str, tensors: set[str]) -> str:
    steps = name.split(".")
    above = {".".join(steps[:depth]) for depth in range(1, len(steps))}
    if above & tensors or not all(steps):
        steps = ["_".join(steps)]
    return ".".join(f"{step}_" if step in reserved() else step for step in steps)
