"""One call of a PyTorch module: its arguments, however they are nested, and the tensors in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amcc.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, init=False)
class Call:
    """The example arguments of one call: `Call(tokens, mask=mask)`.

    Arguments are tensors or arrays, numbers, or tuples, lists, dicts, named tuples and dataclasses of these.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, "args", tuple(mapped(_tensor, a) for a in args))
        object.__setattr__(self, "kwargs", {name: mapped(_tensor, a) for name, a in kwargs.items()})

    @staticmethod
    def of(given: Any) -> Call:
        """A call from a tensor, the positional arguments of one, its keyword arguments, or a `Call`.

        Raises:
            ModelError: there is no tensor in it.
        """
        if isinstance(given, Call):
            call = given
        elif isinstance(given, Mapping):
            call = Call(**{str(name): value for name, value in given.items()})
        elif isinstance(given, tuple | list) and not hasattr(given, "_fields"):
            call = Call(*given)
        else:
            call = Call(given)
        if not call.tensors:
            raise ModelError(
                f"the example inputs hold no tensor: {type(given).__name__}",
                hint="pass a tensor, a tuple of the arguments of one call, a dict of keyword arguments, or amcc.Call",
            )
        return call

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors, in the order in which they become inputs of the graph."""
        return [*tensors((self.args, self.kwargs))]

    def map(self, function: Callable[[torch.Tensor], Any]) -> Call:
        """The call with a function of every tensor in its place."""
        return Call(
            *(mapped(function, a) for a in self.args), **{n: mapped(function, a) for n, a in self.kwargs.items()}
        )

    def holding(self, new: Iterable[torch.Tensor]) -> Call:
        """The call with other tensors, in the order of `tensors`."""
        given = iter(new)
        return self.map(lambda _: next(given))

    def on(self, module: nn.Module) -> Any:
        """What the module gives for it."""
        return module(*self.args, **self.kwargs)


def _tensor(value: Any) -> Any:
    import torch

    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested arguments or outputs, in order."""
    import torch

    found: list[torch.Tensor] = []

    def note(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            found.append(leaf)
        return leaf

    mapped(note, value)
    yield from found


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Nested arguments with a function of every tensor, or array, in its place; whatever else stays.

    Raises:
        ModelError: a container that neither amcc nor torch can take apart.
    """
    import torch

    if isinstance(value, torch.Tensor) or (hasattr(value, "__array__") and not isinstance(value, type)):
        return function(value)
    if value is None or isinstance(value, str | bytes | int | float | complex | torch.dtype | torch.device):
        return value
    if isinstance(value, tuple | list):
        items = [mapped(function, item) for item in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if type(value) is dict:
        return {key: mapped(function, item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Mapping):
        fields = {f.name: mapped(function, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)
    if type(value) in _registered():
        return _mapped_by_torch(function, value)
    if isinstance(value, Mapping):
        return {key: mapped(function, item) for key, item in value.items()}
    return value


def _registered() -> Mapping[type, Any]:
    from torch.utils import _pytree

    return _pytree.SUPPORTED_NODES


def _mapped_by_torch(function: Callable[[Any], Any], value: Any) -> Any:
    """Of a container that somebody taught torch to take apart."""
    from torch.utils import _pytree

    leaves, spec = _pytree.tree_flatten(value)
    return _pytree.tree_unflatten([mapped(function, leaf) if leaf is not value else leaf for leaf in leaves], spec)


def teach(values: Any) -> None:
    """Register the dataclasses in nested arguments with torch, which captures no others."""
    import torch

    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        if type(values) not in _registered():
            kind = type(values)
            torch.export.register_dataclass(kind, serialized_type_name=f"{kind.__module__}.{kind.__qualname__}")
        values = [getattr(values, field.name) for field in dataclasses.fields(values)]
    if isinstance(values, Mapping):
        values = values.values()
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | torch.Tensor):
        for item in values:
            teach(item)
