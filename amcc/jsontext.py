"""JSON files that are the same bytes for the same content, read well, and fail with the place that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from amcc.errors import AmccError, InputError

M = TypeVar("M", bound="Document")

_WIDTH = 100


class Document(BaseModel):
    """Base of everything amcc writes as JSON: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")


class Filed(Document):
    """A document that is a file of its own in an output folder.

    Attributes:
        FILE: its name there.
        ERROR: what is raised when it cannot be read.
    """

    FILE: ClassVar[str]
    ERROR: ClassVar[type[AmccError]] = InputError

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_text(dumps(self), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file, or the one in an output folder.

        Raises:
            InputError, PlanError: it cannot be read or breaks the schema; names the place in it.
        """
        return read(path / cls.FILE if path.is_dir() else path, cls, cls.ERROR)


def dumps(content: Any) -> str:
    """Text of a document or of plain data.

    What fits in a line stands on one, so do lists of plain values; everything else takes two spaces a level.
    """
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json")
    return _render(content, "") + "\n"


def _render(value: Any, margin: str) -> str:
    items = list(value.items()) if isinstance(value, dict) else value
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    flat = isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)
    if not isinstance(value, dict | list) or flat or len(margin) + len(line) <= _WIDTH:
        return line
    inner = margin + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_render(item, inner)}" for key, item in items]
    else:
        parts = [_render(item, inner) for item in items]
    joined = f",\n{inner}".join(parts)
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n{inner}{joined}\n{margin}{end}"


def read(path: Path, kind: type[M], error: type[AmccError]) -> M:
    """Read a document.

    Raises:
        error: the file cannot be read, is not JSON, or breaks the schema; names the place in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise error("not a text file", where=str(path)) from None
    except OSError as problem:
        raise error(f"cannot be read: {problem.strerror}", where=str(path)) from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as problem:
        raise error(explain(problem), where=str(path)) from None


def explain(problem: ValidationError) -> str:
    """The first thing that is wrong, with its place: `groups[3].removed: ...`."""
    first = problem.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    more = problem.error_count() - 1
    return (f"{place}: {message}" if place else message) + (f", and {more} more" if more else "")
