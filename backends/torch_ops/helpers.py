"""The functions of `library`, as text."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

LIBRARY = "amcc.backends.torch_ops.library"


@cache
def _functions() -> dict[str, tuple[str, frozenset[str]]]:
    """The text of each function, and the names that it reads."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for file in files(LIBRARY).iterdir():
        if not file.name.endswith(".py"):
            continue
        text = file.read_text(encoding="utf-8")
        for part in ast.parse(text).body:
            if isinstance(part, ast.FunctionDef):
                reads = frozenset(n.id for n in ast.walk(part) if isinstance(n, ast.Name))
                found[part.name] = (ast.get_source_segment(text, part) or "", reads)
    return found


def definitions(names: Iterable[str]) -> dict[str, str]:
    """The named functions and all that they call, by name, each behind what it calls."""
    known, made = _functions(), dict[str, str]()

    def add(name: str) -> None:
        text, reads = known[name]
        for other in sorted(reads & known.keys() - made.keys() - {name}):
            add(other)
        made.setdefault(name, text)

    for name in sorted(names):
        add(name)
    return made
