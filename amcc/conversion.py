"""`amcc convert`: a network as PyTorch or ONNX, nothing cut.

What is written for PyTorch is run beside the original in ONNX Runtime on made-up inputs. Where the outputs differ,
nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import numpy as np

from amcc.artifacts import check_output, hashes, output_folder
from amcc.backends.readable import readable
from amcc.backends.runtime import LITERAL, Session
from amcc.backends.torch_ops import chance
from amcc.certificate import STEPS, TOLERANCE, difference, rounds
from amcc.errors import AmccError, RunError, UsageError, VerificationError
from amcc.frontends.load import load
from amcc.ir import Array, Graph, Shape
from amcc.jsontext import Filed
from amcc.passes.batching import batching
from amcc.stages import model_file
from amcc.synthetic import that_runs

if TYPE_CHECKING:
    from torch import fx, nn
    from torch.export import ExportedProgram

    from amcc.data import Dataset

Form = Literal["torch", "pt2", "onnx"]
CHANCE = frozenset(chance.EMITTERS)
_SAMPLES = 2
_TRIES = 3
_NOISE = 10  # times what the last bit of the inputs does to the outputs


class Conversion(Filed):
    """`convert.json`: the error that was measured, or why none was, and the SHA-256 of the files."""

    FILE: ClassVar[str] = "convert.json"

    version: int = 1
    error: float | None
    unchecked: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Converted:
    """A converted network.

    Attributes:
        graph: as amcc reads it.
        error: the largest difference of an output to the original's, relative to that output's largest magnitude;
            None where it was not compared.
        unchecked: why it was not.
        folder: where the files are; None where none were asked for.
    """

    graph: Graph
    error: float | None
    unchecked: str = ""
    folder: Path | None = None

    @cached_property
    def feeds(self) -> Mapping[str, Array]:
        """Made-up inputs, by name, on which the network runs."""
        return _original(None, self.graph)[0]

    def module(self) -> nn.Module:
        """The class of `model.py` with its weights: in evaluation mode, trainable, on the CPU."""
        from amcc.backends.torch_module import torch_module

        return torch_module(readable(self.graph))[0]

    def graph_module(self) -> fx.GraphModule:
        """The same as a `torch.fx.GraphModule`, layers and state dict under the same names.

        Raises:
            ModelError: it holds an If, Loop or Scan.
        """
        from amcc.backends.torch_fx import graph_module

        return graph_module(readable(self.graph))

    def program(self) -> ExportedProgram:
        """The same as `torch.export` captures it, which is what `model.pt2` holds.

        Raises:
            ModelError: torch cannot capture what depends on the data.
        """
        from amcc.backends.torch_program import torch_program

        return torch_program(readable(self.graph), self.feeds)


def convert(
    model: Any,
    example_inputs: Any = None,
    *,
    emit: str | Iterable[str] = "torch",
    out: str | Path | None = None,
    force: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
) -> Converted:
    """Convert a network without changing what it computes.

    Args:
        model: an ONNX file, a torch module, `module:factory`, or a factory.
        example_inputs: of a torch module: a tensor or a tuple of arguments.
        emit: `"torch"` (`model.py`, `model.safetensors`), `"pt2"` (`model.pt2`), `"onnx"` (`model.onnx`), or several.
        out: folder for the files; nothing is written without.
        input_shapes: for ONNX files, sizes for dynamic dimensions.

    Raises:
        ModelError: an operator has no counterpart; names the node.
        VerificationError: the written form gives other outputs than the original.
        UsageError, OutputError: what was given cannot be used.
    """
    wanted, folder = forms(emit), None if out is None else Path(out)
    if folder is not None:
        check_output(folder, force=force)
    graph = load(model, example_inputs=example_inputs, input_shapes=input_shapes, tidied=False)
    converted = _checked(model, graph) if {"torch", "pt2"}.intersection(wanted) else Converted(graph, None, "")
    if folder is None:
        return converted
    with output_folder(folder, force=force) as partial:
        _write(converted, partial, wanted)
    return replace(converted, folder=folder)


def forms(names: str | Iterable[str]) -> tuple[Form, ...]:
    """Read `torch,pt2`, or a list.

    Raises:
        UsageError: something that is not written.
    """
    listed = [n.strip() for text in ([names] if isinstance(names, str) else names) for n in text.split(",")]
    for name in listed:
        if name not in get_args(Form):
            raise UsageError(f"'{name}' is not torch, pt2 or onnx", where="--emit")
    return cast("tuple[Form, ...]", tuple(dict.fromkeys(listed)))


def _checked(model: Any, graph: Graph) -> Converted:
    """The network with the error of its PyTorch form.

    Raises:
        ModelError: it cannot be written for PyTorch.
        VerificationError: the error is too large.
    """
    import torch

    from amcc.backends.torch_module import array, tensor, torch_module

    module, _ = torch_module(readable(graph))
    if drawn := sorted({node.op for node in graph.nodes if not node.domain} & CHANCE):
        return Converted(graph, None, f"{drawn[0]} gives other numbers every time")
    allowed = TOLERANCE.get(next((v.dtype for v in graph.values.values() if "float" in v.dtype), ""), 1e-4)
    allowed, tries = (STEPS, _TRIES) if rounds(graph) else (allowed, 1)
    worst, error = "", float("inf")
    for seed in range(tries):
        try:
            feeds, expected = _original(model, graph, seed)
        except AmccError as failure:
            return Converted(graph, None, failure.message)
        with torch.no_grad():
            found = array(module(*(tensor(feeds[name]) for name in graph.inputs)))
        errors = dict(zip(graph.outputs, map(_error, _listed(graph, found), expected), strict=True))
        if max(errors.values()) < error:
            worst = max(errors, key=lambda name: errors[name])
            error = errors[worst]
        if error <= allowed or error <= min(_NOISE * _rounding(module, graph, feeds, found), STEPS):
            return Converted(graph, error)
    raise VerificationError(
        f"output '{worst}' of the PyTorch form differs from ONNX Runtime's by {error:.2e}, more than {allowed:.0e}",
        hint="this is a fault of amcc: please report the model",
    )


def _rounding(module: nn.Module, graph: Graph, feeds: Mapping[str, Array], found: Any) -> float:
    """By how much outputs change with the last bit of the inputs: what rounding does in a network that enlarges it."""
    import torch

    from amcc.backends.torch_module import array, tensor

    chance = torch.Generator().manual_seed(0)

    def moved(t: Any) -> Any:
        if not isinstance(t, torch.Tensor) or not t.is_floating_point():
            return t
        return t * (1 + torch.finfo(t.dtype).eps * torch.randint(-1, 2, t.shape, generator=chance)).to(t.dtype)

    with torch.no_grad():
        other = array(module(*(moved(tensor(feeds[name])) for name in graph.inputs)))
    return max(map(_error, _listed(graph, other), _listed(graph, found)), default=0.0)


def _listed(graph: Graph, found: Any) -> list[Any]:
    return [found] if len(graph.outputs) == 1 else list(found)


def _error(found: Any, expected: Any) -> float:
    """The largest difference; of lists, of any of their parts."""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return float("inf")
        return max(map(_error, found, expected), default=0.0)
    if expected is None or found is None:
        return 0.0 if found is expected else float("inf")
    return difference(found, np.asarray(expected))


def _original(model: Any, graph: Graph, seed: int = 0) -> tuple[Mapping[str, Array], list[Any]]:
    """Made-up inputs, and what ONNX Runtime gives for them: of the file itself, or of a module's graph.

    Raises:
        ModelError: it does not run the network.
        DataError: inputs of this type cannot be made up.
    """
    run = _runner(model, graph)

    def once(data: Dataset) -> tuple[Mapping[str, Array], list[Any]]:
        feeds = data.runs()[0]
        return feeds, run(feeds)

    return that_runs(graph, batching(graph).size or _SAMPLES, once, seed=seed)


def _runner(model: Any, graph: Graph) -> Callable[[Mapping[str, Array]], list[Any]]:
    file = model_file(model)
    if file is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry(LITERAL, "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # the file as it is
        with suppress(Exception):  # what this runtime refuses may still run as amcc writes it
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            return lambda feeds: _run(session, graph, feeds)
    session_ = Session(graph, literal=True)

    def run(feeds: Mapping[str, Array]) -> list[Any]:
        found = session_.run(feeds)
        return [found[name] for name in graph.outputs]

    return run


def _run(session: Any, graph: Graph, feeds: Mapping[str, Array]) -> list[Any]:
    try:
        return list(session.run(list(graph.outputs), {i.name: feeds[i.name] for i in session.get_inputs()}))
    except Exception as error:  # the runtime's exceptions have no common base but this
        raise RunError(f"ONNX Runtime fails: {' '.join(str(error).split())[:300]}") from None


def _write(converted: Converted, folder: Path, wanted: Sequence[Form]) -> None:
    if "torch" in wanted:
        from amcc.backends.to_torch import write_torch

        write_torch(converted.graph, folder)
    if "pt2" in wanted:
        from amcc.backends.torch_program import write_program

        write_program(readable(converted.graph), folder / "model.pt2", converted.feeds)
    if "onnx" in wanted:
        from amcc.backends.to_onnx import write_onnx

        write_onnx(converted.graph, folder / "model.onnx")
    facts = Conversion(error=converted.error, unchecked=converted.unchecked, files=hashes(folder))
    facts.write(folder / Conversion.FILE)
