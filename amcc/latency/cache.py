"""Where measurements are kept between runs: `$AMCC_CACHE`, or the user's cache folder."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from amcc.errors import InputError
from amcc.jsontext import Document, dumps, read

M = TypeVar("M", bound=Document)


def folder() -> Path:
    """The folder; it need not exist."""
    if given := os.environ.get("AMCC_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "amcc" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "amcc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amcc"


def recall(name: str, kind: type[M]) -> M | None:
    """The document kept under a name; None if there is none that can be read."""
    try:
        return read(folder() / name, kind, InputError)
    except InputError:
        return None


def keep(name: str, document: Document) -> bool:
    """Keep a document; False where nothing can be written. Nothing half-written is ever under its name."""
    path = folder() / name
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(dumps(document), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        return False
    return True


def forget(name: str) -> None:
    """Keep it no longer."""
    with suppress(OSError):
        (folder() / name).unlink()
