"""The JSON Schemas of what amcc reads and writes: `amcc schema ir|plan|summary|pareto|compare`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from amcc.errors import UsageError

_DOCUMENTS = {
    "ir": ("amcc.graph_json", "GraphJson"),
    "plan": ("amcc.plan", "Plan"),
    "summary": ("amcc.summary", "Summary"),
    "pareto": ("amcc.front", "Front"),
    "compare": ("amcc.comparison", "Comparison"),
}
NAMES = tuple(_DOCUMENTS)


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `amcc inspect --json` prints, or of a file that amcc writes.

    Raises:
        UsageError: there is no such schema.
    """
    if name not in _DOCUMENTS:
        raise UsageError(f"there is no schema '{name}'", hint=f"the schemas are {', '.join(NAMES)}")
    module, document = _DOCUMENTS[name]
    found: dict[str, Any] = getattr(import_module(module), document).model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
