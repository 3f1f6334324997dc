"""PyTorch modules into the IR: captured by `torch.export`, translated to ONNX operators."""

from __future__ import annotations

import functools
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from amcc.errors import ModelError
from amcc.frontends.torch_call import Call, teach, tensors
from amcc.frontends.torch_errors import failing, traced_line, uncaptured
from amcc.frontends.torch_names import named
from amcc.frontends.torch_parametrised import plain
from amcc.ir import Graph

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

# The newest that torch's exporter translates to without conversion: GroupNormalization stays a node.
OPSET = 21
# What wraps a module for running it: the attribute that holds the module.
_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}


Free = Mapping[int, Mapping[int, str]]
"""Dimensions to keep free: for the number of an input, names by axis."""


def from_torch(
    module: nn.Module, example_inputs: Any, *, dynamic_batch: bool = True, free: Free | None = None
) -> Graph:
    """Capture a module as it is in evaluation mode.

    Parameters keep their state-dict names and shapes; one that the module holds under several names
    has the first. Weights that the module computes from others (weight norm, say) are captured as the weights
    themselves. BatchNorm stays a node. Nodes are called after the submodule that they come from. Inputs and
    outputs are the tensors in the arguments and in what forward returns, in order.
    The module is not changed; the graph holds copies of its weights.

    Args:
        example_inputs: a tensor, the positional arguments of one call, its keyword arguments, or a `Call`.
        dynamic_batch: keep the leading dimension of the inputs open where the module allows it.
        free: other dimensions to keep open.

    Raises:
        ModelError: the module fails on the example inputs, torch cannot capture it, or ONNX has no operator for a
            call in it; names the line of the module's code where known.
    """
    call, module = Call.of(example_inputs), plain(unwrapped(module))
    with evaluating(module), _quiet():
        _try_out(module, call)
        program = _captured(module, call, dynamic_batch, free or {})
        return _translated(program, type(module).__name__, free or {})


def from_exported(program: ExportedProgram) -> Graph:
    """The graph of a program that `torch.export.export` made from a module in evaluation mode.

    Raises:
        ModelError: ONNX has no operator for a call in it.
    """
    with _quiet():
        return _translated(program, "ExportedProgram")


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, where `torch.compile` or data parallelism wraps it."""
    while (inner := _WRAPPERS.get(type(module).__name__)) and hasattr(module, inner):
        module = getattr(module, inner)
    return module


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
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


def _try_out(module: nn.Module, call: Call) -> None:
    """Run the module as it is: what fails here is no matter of capturing it."""
    import torch

    name = type(module).__name__
    try:
        with torch.no_grad():
            outputs = call.on(module)
    except Exception as error:
        raise failing(error, name) from error
    if not any(True for _ in tensors(outputs)):
        raise ModelError(
            f"{name} gives no tensor but a {type(outputs).__name__}",
            hint="let forward return tensors, or tuples, lists, dicts or dataclasses of them",
        )


@contextmanager
def _giving_tensors(module: nn.Module) -> Iterator[None]:
    """The module with a forward that gives its tensors alone, whatever they are wrapped in."""
    own, forward = vars(module).get("forward"), module.forward

    @functools.wraps(forward)
    def flat(*args: Any, **kwargs: Any) -> Any:
        found = tuple(tensors(forward(*args, **kwargs)))
        return found[0] if len(found) == 1 else found

    module.forward = flat
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _captured(module: nn.Module, call: Call, dynamic_batch: bool, free: Free) -> ExportedProgram:
    """The exported program, with an open leading dimension if that can be, and all that are to be free."""
    import torch

    teach((call.args, call.kwargs))

    def export(call: Call, shapes: Any) -> ExportedProgram:
        with torch.no_grad(), _giving_tensors(module):
            return torch.export.export(module, call.args, call.kwargs, dynamic_shapes=shapes)

    sizes = [a.shape[0] for a in call.tensors if a.ndim]
    if dynamic_batch and sizes and sizes[0]:
        size, batch, shapes = sizes[0], torch.export.Dim("batch"), torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
        several = call.map(lambda a: _repeated(a, size))  # to torch a 1 is a constant
        dims = {name: torch.export.Dim(name) for axes in free.values() for name in axes.values()}
        for number, tensor in enumerate(several.tensors):
            open_ = {axis: dims[name] for axis, name in free.get(number, {}).items()}
            if tensor.ndim and tensor.shape[0] == max(size, 2):
                open_[0] = batch
            if open_:
                shapes[tensor] = open_
        try:
            return export(several, shapes)
        except Exception as error:  # whatever stands in the way: a fixed batch is tried next, and its error told
            if free:
                raise uncaptured(error, type(module).__name__) from error
    try:
        return export(call, None)
    except Exception as error:
        raise uncaptured(error, type(module).__name__) from error


def _repeated(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """The tensor as one object of its own, with two samples in place of one."""
    import torch

    if batch == 1 and tensor.ndim and tensor.shape[0] == 1:
        return torch.cat([tensor, tensor])
    return tensor.view_as(tensor)


def _translated(program: ExportedProgram, name: str, free: Free | None = None) -> Graph:
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
    return named(onnx_program.model_proto, program, name, free or {})


# Calls that draw random numbers when their argument at this place says "training".
_RANDOM = {"aten.dropout": 2, "aten.feature_dropout": 2, "aten.alpha_dropout": 2, "aten.rrelu": 3}


def _check_mode(program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        place = _RANDOM.get(str(node.target).removesuffix(".default"), -1)
        if 0 <= place < len(node.args) and node.args[place] is True:
            raise ModelError(
                f"{str(node.target).split('.')[1]} is called in training mode, so the outputs are random",
                where=traced_line(node.meta),
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
        where=traced_line(next(traced, {})),
        hint="spell it in simpler operators",
    )
