"""The user's own class, shrunk: a copy of the module with the weights of the cut, checked against the shrunk graph.

The copy is run beside the shrunk graph, which the certificate speaks of, on made-up inputs. Where forward holds a width
itself (`x.view(n, 64)`), or the class ties widths that the plan has made unlike, no attribute can mend
that: the reason is told, and the standalone form of the graph is given in place of the class.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.backends.runtime import Session
from amcc.backends.torch_class import Choice, Cut, cut_module
from amcc.certificate import TOLERANCE, certify, difference
from amcc.data import Dataset
from amcc.errors import AmccError, ModelError, PlanError
from amcc.frontends.load import Origin, captured
from amcc.frontends.torch_call import Call
from amcc.ir import Array, Graph
from amcc.passes.batching import batching
from amcc.passes.channels import Channels, Removal, analyze
from amcc.passes.rewrite import check_shapes, shrink
from amcc.passes.sparsity import zeroed
from amcc.plan import Plan, PlanInput
from amcc.planning import masks_of, removal_of
from amcc.synthetic import that_runs

if TYPE_CHECKING:
    import torch
    from torch import nn

_SAMPLES = 3  # that no width is a multiple of, so that a reshape by a wrong one fails where it stands
_MOST_TRIES = 64
_MOST_BLAMED = 32


@dataclass(frozen=True)
class Shrunk:
    """A shrunk module.

    Attributes:
        module: ready to train, each submodule in the mode that the original's is in.
        own_class: whether it is a copy of the user's module; else the standalone form.
        error: the largest difference of an output from the shrunk graph's, relative to its largest magnitude.
        notes: why it is not of the user's class, and what became of weights that the module computes.
    """

    module: nn.Module
    own_class: bool
    error: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Failure:
    """How a copy fails: in the submodule `path`, after so many calls, or with outputs that differ by `error`."""

    message: str
    path: str | None
    calls: int
    error: float = float("inf")

    @property
    def reach(self) -> tuple[bool, float]:
        """How far the copy came: the later it stops the better, and the closer its outputs are."""
        return (True, -self.error) if self.path is None else (False, self.calls)


def shrunk_module(origin: Origin, channels: Channels, removal: Removal, final: Graph, *, blame: bool = True) -> Shrunk:
    """A copy of the user's module with the weights and widths of a shrunk graph, or else the standalone form.

    Args:
        channels: the analysis of the module's capture.
        removal: what went, and `final` what is left, with any weights.
        blame: where the class resists, find out which groups it cannot follow, each by itself.

    Raises:
        ModelError: neither form can be made: the class resists, and a node has no counterpart in PyTorch.
    """
    from amcc.frontends.from_torch import unwrapped

    module, reason = unwrapped(origin.module), ""
    try:
        cut = cut_module(module, channels.graph, final)
        trial = _Trial(origin, final)
        failure = _settle(cut, trial)
    except Exception as error:  # copies run code of the user's
        reason = str(error) if isinstance(error, AmccError) else f"{type(error).__name__}: {error}"
    else:
        if failure is None:
            return Shrunk(cut.module, True, trial.error, tuple(cut.notes))
        reason = failure.message
        if blame and (blamed := _blamed(origin, channels, removal)):
            reason += f"; it follows the plan without {blamed}"
    resists = f"{type(module).__name__} cannot take these widths"
    try:
        return standalone(final, f"{resists}, so this is the standalone form: {reason}")
    except ModelError as error:
        raise ModelError(f"{resists}: {reason}; and there is no standalone form: {error}") from error


def standalone(graph: Graph, *notes: str) -> Shrunk:
    """The graph as a module of a class made for it.

    Raises:
        ModelError: an operator has no counterpart in PyTorch; names the node.
    """
    from amcc.backends.torch_module import torch_module

    return Shrunk(torch_module(graph)[0], False, 0.0, notes)


def is_module(model: object) -> bool:
    """Whether it is a PyTorch module, found out without importing torch where it cannot be one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def shrunk_by(plan: Plan, module: nn.Module, example_inputs: Any, *, seed: int = 0) -> Shrunk:
    """A module by a plan, with slices of its own weights.

    Raises:
        PlanError: the plan belongs to another network.
        VerificationError: the cut fails its certificate.
    """
    found = captured(module, example_inputs=example_inputs)
    assert found.origin is not None
    channels = analyze(found.graph, exact=plan.exact)
    removal, masks = removal_of(plan, channels), masks_of(plan, found.graph)
    pure = zeroed(shrink(channels, removal), masks)
    check_shapes(pure)
    certify(found.graph, channels, removal, pure, seed=seed, zeros=masks).demand()
    return shrunk_module(found.origin, channels, removal, pure)


def inputs_of(plan: Plan, module: nn.Module) -> Call:
    """Example inputs by what the plan says of the network's inputs: by name where forward has these names.

    Raises:
        PlanError: it says nothing.
    """
    import torch

    if not plan.inputs:
        raise PlanError("says nothing of the network's inputs", hint="give example inputs")
    own = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)

    def zeros(given: PlanInput) -> torch.Tensor:
        kind = getattr(torch, given.dtype)
        shape = [dim if isinstance(dim, int) else _SAMPLES for dim in given.shape]
        return torch.zeros(shape, dtype=own if kind.is_floating_point else kind)

    names = inspect.signature(module.forward).parameters
    if all(name in names for name in plan.inputs):
        return Call(**{name: zeros(given) for name, given in plan.inputs.items()})
    return Call(*map(zeros, plan.inputs.values()))


def told(shrunk: Shrunk) -> nn.Module:
    """The module, with what there is to say of it as warnings."""
    for note in shrunk.notes:
        warnings.warn(note, stacklevel=3)
    return shrunk.module


class _Trial:
    """Runs copies on the inputs of the shrunk graph, beside what that gives."""

    def __init__(self, origin: Origin, graph: Graph) -> None:
        self.error = float("inf")
        self._origin = origin
        session = Session(graph, literal=True)

        def run(data: Dataset) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
            feeds = next(iter(data.runs()))
            return feeds, session.run(feeds)

        if len(graph.inputs) != len(origin.call.tensors):
            raise ModelError(f"its capture has {len(graph.inputs)} inputs and the call {len(origin.call.tensors)}")
        feeds, outputs = that_runs(graph, batching(graph).size or _SAMPLES, run)
        self._call = origin.call.holding(
            _as(feeds[name], like) for name, like in zip(graph.inputs, origin.call.tensors, strict=True)
        )
        self._expected = [outputs[name] for name in graph.outputs]
        kinds = {value.dtype for value in graph.values.values()} & TOLERANCE.keys()
        self._tolerance = max((TOLERANCE[kind] for kind in kinds), default=1e-4)

    def __call__(self, module: nn.Module) -> _Failure | None:
        """Run a copy: None where it gives what the graph gives."""
        import torch

        from amcc.frontends.from_torch import evaluating
        from amcc.frontends.torch_call import tensors
        from amcc.frontends.torch_errors import first_line, user_line

        with evaluating(module), torch.no_grad(), _followed(module) as seen:
            try:
                found = [_array(tensor) for tensor in tensors(self._call.on(module))]
            except Exception as error:  # any code of the user's may meet a width that it did not expect
                line = user_line(error.__traceback__)
                place = seen.inside
                message = f"{f'{line}: ' if line else ''}{first_line(error)}{f' (in {place})' if place else ''}"
                return _Failure(message, place, seen.calls)
        if len(found) != len(self._expected):
            return _Failure(f"it gives {len(found)} tensors, the graph {len(self._expected)}", None, seen.calls)
        self.error = max((difference(a, b) for a, b in zip(found, self._expected, strict=True)), default=0.0)
        if self.error <= self._tolerance:
            return None
        return _Failure(f"its outputs would differ by {self.error:.1e}", None, seen.calls, self.error)


def _as(array: Array, like: torch.Tensor) -> torch.Tensor:
    from amcc.frontends.torch_parametrised import as_tensor

    return as_tensor(array).to(like.device, like.dtype)


def _array(tensor: torch.Tensor) -> Array:
    import torch

    kind = tensor.dtype
    narrow = kind.is_floating_point and kind not in (torch.float16, torch.float32, torch.float64)
    return np.asarray((tensor.float() if narrow else tensor).cpu().numpy())


class _Seen:
    """Which submodules run, and how many have run."""

    def __init__(self) -> None:
        self.calls = 0
        self.open: list[str] = []

    @property
    def inside(self) -> str:
        """The innermost that runs."""
        return self.open[-1] if self.open else ""


@contextmanager
def _followed(module: nn.Module) -> Iterator[_Seen]:
    """What runs in a module, while it does."""
    seen = _Seen()

    def enter(path: str) -> Any:
        return lambda part, args: seen.open.append(path)

    def leave(part: nn.Module, args: Any, outputs: Any) -> None:
        seen.calls += 1
        seen.open.pop()

    handles = []
    for path, part in module.named_modules():
        handles += [part.register_forward_pre_hook(enter(path)), part.register_forward_hook(leave)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _settle(cut: Cut, trial: _Trial) -> _Failure | None:
    """Try other values of the attributes that may have several, near where the copy fails, as long as that helps."""
    failure = trial(cut.module)
    tries = _MOST_TRIES
    while failure is not None and tries > 0:
        better = None
        for chosen in _alternatives(cut.choices, failure.path):
            before = [(choice, getattr(choice.part, choice.name)) for choice, _ in chosen]
            _take(chosen)
            found, tries = trial(cut.module), tries - 1
            if found is None:
                return None
            if found.reach > failure.reach:
                better = found
                break
            _take(before)
            if not tries:
                break
        if better is None:
            return failure
        failure = better
    return failure


def _alternatives(choices: list[Choice], path: str | None) -> Iterator[list[tuple[Choice, Any]]]:
    """Other values for one attribute, then for several at once: near a submodule, or anywhere."""
    near = [c for c in choices if path is None or path == c.path or _within(path, c.path) or _within(c.path, path)]
    near.sort(key=lambda choice: -len(choice.path))
    for choice in near:
        yield from ([(choice, value)] for value in choice.values if value != getattr(choice.part, choice.name))
    if path is not None and 1 < len(near):
        for values in itertools.product(*(choice.values for choice in near)):
            yield list(zip(near, values, strict=True))


def _within(path: str, outer: str) -> bool:
    return not outer or path.startswith(f"{outer}.")


def _take(chosen: list[tuple[Choice, Any]]) -> None:
    for choice, value in chosen:
        choice.take(value)


def _blamed(origin: Origin, channels: Channels, removal: Removal) -> str:
    """The groups of which the class cannot follow the cut even if it is the only one, for people."""
    from amcc.frontends.from_torch import unwrapped

    gone = [index for index, units in removal.items() if len(units)]
    found = []
    for index in gone if 1 < len(gone) <= _MOST_BLAMED else ():
        pure = shrink(channels, {index: removal[index]})
        try:
            resists = _settle(cut_module(unwrapped(origin.module), channels.graph, pure), _Trial(origin, pure))
        except AmccError:
            continue
        if resists is not None:
            found.append(channels.groups[index].name)
    if not found or len(found) == len(gone):
        return ""
    return f"what it removes of {', '.join(map(repr, found[:5]))}" + (
        f" and {len(found) - 5} more" if found[5:] else ""
    )
