"""The user's own functions, named on the command line as `module:function`.

This is the only place where amcc runs code that it was given: the module is imported as Python
imports it, with the working directory on the path, and what it raises becomes one clear error.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amcc.errors import DataError, UsageError

_NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_named(text: str) -> bool:
    """Whether the text has the form `package.module:function`."""
    return _NAMED.fullmatch(text) is not None


def named_function(text: str, *, option: str) -> Callable[..., Any]:
    """Import `package.module:function`.

    Args:
        option: what the user called it, for the message (`"--metric"`).

    Raises:
        UsageError: the module or the function does not exist, or importing it fails.
    """
    if not is_named(text):
        raise UsageError(f"'{text}' is not of the form module:function", where=option)
    module_name, _, path = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(
            f"cannot import '{module_name}': {describe(error)}",
            where=option,
            hint="modules are looked for in the working directory and the Python path",
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module '{module_name}' has no '{path}'", where=option)
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"'{text}' is not a function", where=option)
    return found  # type: ignore[no-any-return]


def call(function: Callable[..., Any], *arguments: Any, name: str) -> Any:
    """Call a function of the user's.

    Raises:
        DataError: the function raised; the message holds what.
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise DataError(f"{name} raised {describe(error)}", hint="run it alone to see where") from error


def describe(error: BaseException) -> str:
    """`ValueError: first line of the message`, for one-line reports."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
