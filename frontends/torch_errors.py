"""What torch says when it cannot run or capture a module, at the user's own line and with what to change there."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from amcc.errors import ModelError

_ADVICE = (
    (
        re.compile(r"data-dependent|Eq\(u\d|UnbackedSymInt|\.item\(\)|_local_scalar_dense"),
        "the code decides by the values of a tensor; use torch.where, or make the decision before the forward pass",
    ),
    (re.compile(r"numpy\(\)|to numpy|__array__"), "compute with torch inside forward, not with numpy"),
    (re.compile(r"mark_dynamic|Constraints violated"), "give example inputs with other sizes"),
    (
        re.compile(r"assigned during export|[Mm]utat\w+ (?:a )?(?:module )?attribute"),
        "forward sets an attribute to a tensor; return it instead, or register a buffer and write into that",
    ),
    (
        re.compile(r"[Uu]nsupported input type|not registered|register_dataclass|register_pytree"),
        "pass tensors, numbers, tuples, lists, dicts or dataclasses; "
        "other classes need torch.utils._pytree.register_pytree_node",
    ),
    (
        re.compile(r"fake ?tensor|FakeTensor|constant tensors|lifted"),
        "keep tensors that forward uses as parameters or buffers of the module, and make others inside forward",
    ),
    (
        re.compile(r"ScriptModule|ScriptFunction|torch\.jit"),
        "capture the module before torch.jit scripts or traces it",
    ),
)


def failing(error: Exception, name: str) -> ModelError:
    """A module that does not even run."""
    return ModelError(
        f"{name} fails on the example inputs: {type(error).__name__}: {first_line(error)}",
        where=user_line(error.__traceback__),
        hint="check that module(*example_inputs) runs",
    )


def uncaptured(error: Exception, name: str) -> ModelError:
    """A module that runs and that torch cannot capture."""
    text = str(error).strip()
    hint = next((advice for pattern, advice in _ADVICE if pattern.search(text)), None)
    return ModelError(
        f"torch.export cannot capture {name}: {first_line(error)}",
        where=user_line(error.__traceback__) or _quoted_line(text),
        hint=hint or "rewrite the line in plain tensor operations, or move it out of forward",
    )


def first_line(error: BaseException) -> str:
    """The first line of a message that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def user_line(trace: TracebackType | None) -> str | None:
    """The innermost frame outside torch and amcc: `net.py:12 (if x.sum() > 0:)`."""
    frames = [f for f in traceback.extract_tb(trace) if is_users(f.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno} ({(frames[-1].line or '').strip()})" if frames else None


def traced_line(meta: Mapping[str, Any]) -> str | None:
    """The user's line that a node of the captured graph came from."""
    return _quoted_line(meta.get("stack_trace") or "")


def _quoted_line(text: str) -> str | None:
    """The innermost of the user's lines in a text that quotes a traceback."""
    users = [(file, line) for file, line in re.findall(r'File "([^"]+)", line (\d+)', text) if is_users(file)]
    return f"{users[-1][0]}:{users[-1][1]}" if users else None


def is_users(filename: str) -> bool:
    """Whether a file belongs neither to torch nor to amcc."""
    import torch

    import amcc

    inside = (Path(torch.__file__).parent, *(Path(p) for p in amcc.__path__), Path(__file__).parent)
    path = Path(filename)
    return not filename.startswith("<") and not any(path.is_relative_to(folder.resolve()) for folder in inside)
