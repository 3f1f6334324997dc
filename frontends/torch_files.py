"""PyTorch's files: exported programs, state dicts, and pickles, which run code and are read only if that is trusted."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.errors import ModelError
from amcc.frontends.torch_errors import first_line

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

PROGRAM = ".pt2"
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
STATE = (".safetensors", *PICKLED)
SUFFIXES = (PROGRAM, *STATE)
_TRUST = "--trust-pickle reads it all the same, and runs whatever code it holds"
# Where training scripts put the state dict in a checkpoint.
_STATES = ("state_dict", "model_state_dict", "model_state", "model", "net", "module", "params", "weights")
# What wrappers put in front of every key.
_PREFIXES = ("module.", "_orig_mod.")
# What an archive holds where loading it would run code, and the switch with which torch.load never does.
_OBJECTS = ("opaque_obj_", "custom_obj_")
_SAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Stored:
    """A network that is in several files, or in one that has to be trusted.

    Attributes:
        model: as the user names it: a file, or `module:factory`.
        weights: a file with the state dict of what the factory makes.
        trust_pickle: whether files may run code.
    """

    model: str
    weights: Path | None = None
    trust_pickle: bool = False


def is_torch_file(path: str | Path) -> bool:
    """Whether a file's name says that PyTorch wrote it."""
    return Path(path).suffix.lower() in SUFFIXES


def read_program(path: Path, *, trust_pickle: bool = False) -> ExportedProgram:
    """Read what `torch.export.save` wrote.

    Raises:
        ModelError: it cannot be read, or not without running code.
    """
    import torch

    _check_there(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(name).name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(
            f"is no exported program: {error}", where=str(path), hint="write it by torch.export.save"
        ) from None
    if not trust_pickle and any(name.startswith(_OBJECTS) for name in names):
        raise ModelError("holds pickled objects beside its tensors", where=str(path), hint=_TRUST)
    try:
        with _without_code(not trust_pickle):
            return torch.export.load(path)
    except pickle.UnpicklingError:
        raise ModelError("holds pickled objects beside its tensors", where=str(path), hint=_TRUST) from None
    except Exception as error:
        raise ModelError(
            f"torch.export cannot load it: {first_line(error)}",
            where=str(path),
            hint="export it again by this version of torch",
        ) from error


@contextmanager
def _without_code(safe: bool) -> Iterator[None]:
    """torch.load reads tensors alone, whatever its callers ask for."""
    before = os.environ.get(_SAFE)
    if safe:
        os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SAFE, None)
        else:
            os.environ[_SAFE] = before


def read_module(path: Path, *, trust_pickle: bool = False) -> nn.Module:
    """Read a module that was saved whole.

    Raises:
        ModelError: it holds something else, or pickles are not trusted.
    """
    from torch import nn

    _check_there(path)
    factory = (
        f"give the function that makes the network, and this file's weights: package.module:factory --weights {path}"
    )
    if path.suffix == ".safetensors":
        raise ModelError("holds weights and no network", where=str(path), hint=factory)
    if not trust_pickle:
        try:
            _load(path, trust_pickle=False)
        except ModelError:
            raise ModelError(
                "is a pickle, which runs code when it is read", where=str(path), hint=f"{factory}; {_TRUST}"
            ) from None
        raise ModelError("holds weights and no network", where=str(path), hint=factory)
    found = _load(path, trust_pickle=True)
    if not isinstance(found, nn.Module):
        raise ModelError(f"holds a {type(found).__name__} and no network", where=str(path), hint=factory)
    return found


def read_state(path: Path, *, trust_pickle: bool = False) -> dict[str, torch.Tensor]:
    """Read a state dict: a `.safetensors` file, or a `.pt` one, in which it may be a part of a checkpoint.

    Raises:
        ModelError: it holds none, or not without running code.
    """
    import torch

    _check_there(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"is no safetensors file: {error}", where=str(path)) from None
    if path.suffix not in PICKLED:
        raise ModelError(f"is none of {', '.join(STATE)}", where=str(path), hint="give a state dict to --weights")
    found = _load(path, trust_pickle=trust_pickle)
    if isinstance(found, torch.nn.Module):
        found = found.state_dict()
    state = _state_in(found, path)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _load(path: Path, *, trust_pickle: bool) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError:
        raise ModelError(
            "holds more than tensors, in a pickle, which runs code when it is read",
            where=str(path),
            hint=f"save module.state_dict() alone; {_TRUST}",
        ) from None
    except Exception as error:
        raise ModelError(f"torch.load cannot read it: {first_line(error)}", where=str(path)) from error


def _state_in(found: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    def is_state(value: Any) -> bool:
        return isinstance(value, Mapping) and bool(value) and all(isinstance(t, torch.Tensor) for t in value.values())

    if is_state(found):
        return dict(found)
    if isinstance(found, Mapping):
        inside = [key for key in _STATES if is_state(found.get(key))]
        if len(inside) == 1:
            return dict(found[inside[0]])
        keys = ", ".join(repr(str(key)) for key in list(found)[:8])
        which = f"several: {', '.join(map(repr, inside))}" if inside else f"none; its keys are {keys}"
        raise ModelError(f"of state dicts it holds {which}", where=str(path), hint="save module.state_dict() alone")
    raise ModelError(f"holds a {type(found).__name__} and no state dict", where=str(path))


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Give a module the weights of a state dict.

    Raises:
        ModelError: keys are missing or left over, or shapes differ; says which.
    """
    own = module.state_dict()
    unlike = [
        f"'{key}' is {list(tensor.shape)} in the file and {list(own[key].shape)} in the network"
        for key, tensor in state.items()
        if key in own and tensor.shape != own[key].shape
    ]
    problems = [
        *_listed("missing", [repr(key) for key in own if key not in state]),
        *_listed("not in the network", [repr(key) for key in state if key not in own]),
        *_listed("of another shape", unlike),
    ]
    if problems:
        raise ModelError(
            f"does not fit {type(module).__name__}: {'; '.join(problems)}",
            where=str(path),
            hint="the factory must make the network that the weights were saved from",
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"does not fit {type(module).__name__}: {first_line(error)}", where=str(path)) from None


def _listed(what: str, items: list[str], most: int = 4) -> list[str]:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return [f"{len(items)} {what} ({', '.join(items[:most])}{more})"] if items else []


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise ModelError("no such file", where=str(path))
