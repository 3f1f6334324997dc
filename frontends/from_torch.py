"""PyTorch modules into the IR: captured by `torch.export`, translated to ONNX operators."""

from __future__ import annotations

import inspect
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from amcc.errors import ModelError
from amcc.frontends.torch_names import named
from amcc.ir import Graph

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

# The newest that torch's exporter translates to without conversion: GroupNormalization stays a node.
OPSET = 21


def from_torch(
    module: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any] | Mapping[str, Any],
    *,
    dynamic_batch: bool = True,
) -> Graph:
    """Capture a module as it is in evaluation mode.

    Parameters keep their state-dict names and shapes; one that the module holds under several names
    has the first. BatchNorm stays a node. Nodes are called after the submodule that they come from.
    The module is not changed; the graph holds copies of its weights.

    Args:
        example_inputs: a tensor, the positional arguments of one call, or its keyword arguments.
        dynamic_batch: keep the leading dimension of the inputs open where the module allows it.

    Raises:
        ModelError: torch cannot capture the module, or ONNX has no operator for a call in it; names
            the line of the module's code where known.
    """
    args, kwargs = _arguments(example_inputs)
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    with _evaluating(module), _quiet():
        program = _captured(module, args, kwargs, dynamic_batch)
        return _translated(program, type(module).__name__)


def from_exported(program: ExportedProgram) -> Graph:
    """The graph of a program that `torch.export.export` made from a module in evaluation mode.

    Raises:
        ModelError: ONNX has no operator for a call in it.
    """
    with _quiet():
        return _translated(program, "ExportedProgram")


def _arguments(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    def tensor(value: Any) -> Any:
        return torch.as_tensor(value) if hasattr(value, "__array__") else value

    kwargs = {name: tensor(value) for name, value in given.items()} if isinstance(given, Mapping) else {}
    several = given if isinstance(given, tuple | list) else () if isinstance(given, Mapping) else (given,)
    args = tuple(map(tensor, several))
    if not any(True for _ in _tensors((args, kwargs))):
        raise ModelError(
            f"the example inputs hold no tensor: {type(given).__name__}",
            hint="pass a tensor, a tuple of the arguments of one call, or a dict of keyword arguments",
        )
    return args, kwargs


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; every submodule's own mode is restored."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings and log lines: what matters becomes an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _captured(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_batch: bool) -> ExportedProgram:
    """The exported program, with an open leading dimension if that can be."""
    import torch

    def export(args: Any, kwargs: Any, shapes: Any) -> ExportedProgram:
        with torch.no_grad():
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes)

    tensors = list(_tensors((args, kwargs)))
    batches = {a.shape[0] for a in tensors if a.ndim}
    if dynamic_batch and len(batches) == 1:
        several = _doubled if batches == {1} else lambda a: a  # to torch a 1 is a constant
        batch = torch.export.Dim("batch")
        try:
            given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            shapes = _mapped(lambda a: {0: batch} if a.ndim else None, given, lambda other: None)
            return export(_mapped(several, args), _mapped(several, kwargs), shapes)
        except Exception:  # whatever stands in the way: a fixed batch is tried next, and its error told
            pass
    try:
        return export(args, kwargs, None)
    except Exception as error:
        raise _explained(error, type(module).__name__) from error


def _doubled(value: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([value, value]) if value.ndim else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested arguments."""
    found: list[torch.Tensor] = []
    _mapped(found.append, value)
    yield from found


def _mapped(
    function: Callable[[torch.Tensor], Any], value: Any, otherwise: Callable[[Any], Any] = lambda other: other
) -> Any:
    """Nested arguments with a function of every tensor in its place."""
    import torch

    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _mapped(function, item, otherwise) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_mapped(function, item, otherwise) for item in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return otherwise(value)


_ADVICE = (
    (
        re.compile(r"data-dependent|Eq\(u\d|UnbackedSymInt"),
        "the code decides by the values of a tensor; use torch.where, or make the decision before the forward pass",
    ),
    (
        re.compile(r"numpy\(\)|to numpy|__array__"),
        "compute with torch inside forward, not with numpy",
    ),
    (re.compile(r"mark_dynamic|Constraints violated"), "give example inputs with other sizes"),
)


def _explained(error: Exception, name: str) -> ModelError:
    """What torch said, at the line of the user's code that it was about."""
    text = str(error).strip()
    message = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    hint = next((advice for pattern, advice in _ADVICE if pattern.search(text)), None)
    hint = hint or "check that the module runs on the example inputs"
    return ModelError(
        f"torch.export cannot capture {name}: {message}", where=_user_line(error.__traceback__), hint=hint
    )


def _user_line(trace: TracebackType | None) -> str | None:
    """The innermost frame outside torch and amcc: `net.py:12 (if x.sum() > 0:)`."""
    frames = [f for f in traceback.extract_tb(trace) if _is_users(f.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno} ({(frames[-1].line or '').strip()})" if frames else None


def _is_users(filename: str) -> bool:
    import torch

    import amcc

    inside = (Path(torch.__file__).parent, *(Path(p) for p in amcc.__path__), Path(__file__).parent)
    path = Path(filename)
    return not filename.startswith("<") and not any(path.is_relative_to(folder.resolve()) for folder in inside)


def _translated(program: ExportedProgram, name: str) -> Graph:
    import torch
    from onnx_ir.passes.common import NameFixPass

    _check_mode(program)
    try:
        onnx_program = torch.onnx.export(
            program, dynamo=True, optimize=False, opset_version=OPSET, verbose=False, external_data=False
        )
    except Exception as error:
        raise _untranslated(error, program, name) from error
    assert onnx_program is not None
    NameFixPass()(onnx_program.model)  # a buffer called `index` and the call `aten.index` share a name
    return named(onnx_program.model_proto, program, name)


# Calls that draw random numbers when their argument at this place says "training".
_RANDOM = {"aten.dropout": 2, "aten.feature_dropout": 2, "aten.alpha_dropout": 2, "aten.rrelu": 3}


def _check_mode(program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        place = _RANDOM.get(str(node.target).removesuffix(".default"), -1)
        if 0 <= place < len(node.args) and node.args[place] is True:
            raise ModelError(
                f"{str(node.target).split('.')[1]} is called in training mode, so the outputs are random",
                where=_traced_line(node.meta),
                hint="pass self.training to it, and export in evaluation mode",
            )


def _untranslated(error: Exception, program: ExportedProgram, name: str) -> ModelError:
    """Which call has no counterpart among ONNX's operators, and where it is."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", "\n".join(chain))
    if operator is None:
        last = next((line.strip() for line in reversed(chain[-1].splitlines()) if line.strip()), type(error).__name__)
        return ModelError(f"torch.onnx cannot translate {name}: {last}", hint="spell the call in simpler operators")
    stem = operator[1].split(".")[1].strip("_")
    traced = (n.meta for n in program.graph.nodes if str(n.target).split(".")[1:2] and stem in n.name)
    return ModelError(
        f"ONNX has no operator for {operator[1]}, which {name} calls",
        where=_traced_line(next(traced, {})),
        hint="spell it in simpler operators",
    )


def _traced_line(meta: Mapping[str, Any]) -> str | None:
    """The user's line that a node of the captured graph came from."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', meta.get("stack_trace") or "")
    users = [(file, line) for file, line in frames if _is_users(file)]
    return f"{users[-1][0]}:{users[-1][1]}" if users else None
