"""Weights that PyTorch computes from other parameters: weight norm, spectral norm, any parametrisation, pruning masks.

A capture has the weight itself, under the name that it has in the module: `conv.weight`, not
`conv.parametrizations.weight.original0`. Everything here works on copies; a user's module is never changed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.errors import ModelError
from amcc.ir import Array

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Computed:
    """A tensor that a submodule computes.

    Attributes:
        path: of the submodule, and `name` that of the tensor in it.
        kind: what computes it, for people.
        plain: put the tensor itself in the place of what computes it.
        again: compute it once more, from the tensor as it is then.
    """

    path: str
    part: nn.Module
    name: str
    kind: str
    plain: Callable[[], None]
    again: Callable[[], None] | None = None

    @property
    def key(self) -> str:
        """The name of the tensor in the whole module."""
        return f"{self.path}.{self.name}" if self.path else self.name

    def keep(self, exact: Callable[[torch.Tensor, torch.Tensor], bool]) -> bool:
        """Compute the tensor again if that gives what it is now.

        Args:
            exact: whether two tensors count as the same.
        """
        import torch

        if self.again is None:
            return False
        wanted = getattr(self.part, self.name).detach().clone()
        try:
            self.again()
            with torch.no_grad():
                found = getattr(self.part, self.name).detach()
        except Exception:  # code of the user's may be among it
            found = None
        if found is not None and found.shape == wanted.shape and exact(found, wanted):
            return True
        for computed in computed_tensors(self.part):
            if computed.path == "" and computed.name == self.name:
                computed.plain()
        with torch.no_grad():
            kept = getattr(self.part, self.name)
            setattr(self.part, self.name, torch.nn.Parameter(wanted, requires_grad=kept.requires_grad))
        return False


def duplicate(module: nn.Module) -> nn.Module:
    """A deep copy, tensors that old-style weight norm leaves in its submodules included.

    Raises:
        ModelError: something in it cannot be copied.
    """
    import torch

    memo: dict[int, Any] = {
        id(tensor): tensor.detach().clone()
        for part in module.modules()
        for tensor in vars(part).values()
        if isinstance(tensor, torch.Tensor) and not tensor.is_leaf
    }
    try:
        made: nn.Module = copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied: {error}",
            hint="it holds something that copy.deepcopy refuses; a __deepcopy__ of its own would help",
        ) from error
    for part in made.modules():
        if hasattr(part, "parametrizations"):
            _with_class_of_its_own(part)
    return made


def _with_class_of_its_own(part: nn.Module) -> None:
    """torch gives each parametrised module a class, which its copies share: to change one would change all."""
    kind = type(part)
    own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    part.__class__ = type(kind.__name__, kind.__bases__, own)


def plain(module: nn.Module) -> nn.Module:
    """The module, or, where it computes weights, a copy that holds these weights themselves."""
    if not any(True for _ in computed_tensors(module)):
        return module
    made = duplicate(module)
    for computed in list(computed_tensors(made)):
        computed.plain()
    return made


def computed_tensors(module: nn.Module) -> Iterator[Computed]:
    """All tensors that a module computes from other parameters, in an order that it can undo."""
    for path, part in module.named_modules():
        yield from _parametrised(path, part)
        yield from _hooked(path, part)


def _parametrised(path: str, part: nn.Module) -> Iterator[Computed]:
    from torch.nn.utils import parametrize

    if not parametrize.is_parametrized(part):
        return
    for name, steps in list(part.parametrizations.items()):  # type: ignore[union-attr, operator]
        how = list(steps)

        def simple(name: str = name, trained: bool = any(True for _ in steps.parameters())) -> None:
            parametrize.remove_parametrizations(part, name)
            _settle(part, name, trained)

        def again(name: str = name, how: list[nn.Module] = how) -> None:
            for step in how:
                parametrize.register_parametrization(part, name, step)

        kind = " of ".join(type(step).__name__.strip("_") for step in reversed(how))
        yield Computed(path, part, name, kind, simple, again)


def _hooked(path: str, part: nn.Module) -> Iterator[Computed]:
    from torch.nn.utils import prune, spectral_norm, weight_norm

    kinds = {"WeightNorm": weight_norm, "SpectralNorm": spectral_norm}
    for number, hook in list(part._forward_pre_hooks.items()):
        kind = next((k for k in type(hook).__mro__ if k.__module__.startswith("torch.nn.utils.")), None)
        if kind is None:
            continue
        pruned = issubclass(kind, prune.BasePruningMethod)
        if kind.__name__ not in kinds and not pruned:
            continue
        name = str(hook._tensor_name if pruned else hook.name)  # type: ignore[attr-defined]

        def simple(number: int = number, hook: Any = hook, name: str = name) -> None:
            hook.remove(part)
            part._forward_pre_hooks.pop(number, None)
            _settle(part, name, True)

        def again(hook: Any = hook, name: str = name) -> None:
            import torch

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch would rather have the new form
                torch.nn.utils.weight_norm(part, name, hook.dim)

        yield Computed(path, part, name, kind.__name__, simple, again if kind.__name__ == "WeightNorm" else None)


def _settle(part: nn.Module, name: str, trained: bool) -> None:
    """What was computed as a parameter that is a leaf, whichever way torch left it."""
    import torch

    tensor = getattr(part, name)
    if trained and not isinstance(tensor, torch.nn.Parameter):
        delattr(part, name)
        part.register_parameter(name, torch.nn.Parameter(tensor.detach()))


def as_tensor(array: Array) -> torch.Tensor:
    """A copy of an array as a tensor, bfloat16 and float8 included."""
    import torch

    if array.dtype.kind in "biufc":
        return torch.from_numpy(np.array(array, order="C"))
    kind = getattr(torch, array.dtype.name)
    raw = np.array(array, order="C").view(f"i{array.dtype.itemsize}")
    return torch.from_numpy(raw).view(kind).reshape(array.shape)
