"""What the commands share: their options, their streams, and errors as one message with an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from amcc.errors import AmccError

if TYPE_CHECKING:
    from rich.console import Console

    from amcc.ir import Shape
    from amcc.settings import Measuring, Tuning

MODEL = "An ONNX file, a .pt2 file, or module:factory of a PyTorch network."
Model = Annotated[str, typer.Argument(help=MODEL, metavar="MODEL")]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="A state dict for what module:factory makes: .safetensors or .pt.")
]
TrustPickle = Annotated[
    bool, typer.Option("--trust-pickle", help="Read files that run code when they are read; of sources you trust.")
]
_BUDGET = "flops=0.5, params=150k, size=4MB, memory=20MB, latency=3ms; repeat for several."
Budgets = Annotated[list[str], typer.Option("--budget", "-b", help=_BUDGET)]
OptionalBudgets = Annotated[list[str] | None, typer.Option("--budget", "-b", help=_BUDGET)]
MinMetric = Annotated[
    str | None, typer.Option("--min-metric", help="In place of a budget: the metric to keep, 0.92 or 92%.")
]
MaxDrop = Annotated[
    str | None, typer.Option("--max-drop", help="In place of a budget: the most it may fall, 0.005 or 0.5% (absolute).")
]
Confidence = Annotated[float, typer.Option("--confidence", help="Of --min-metric and --max-drop.")]
Minimise = Annotated[
    str, typer.Option("--minimise", help="Under --min-metric and --max-drop: flops, params, size, memory or latency.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", help=".npz with input and label, folder of class folders, or module:function."),
]
Calib = Annotated[str | None, typer.Option("--calib", help="Inputs for recovery; by default a part of --data.")]
ReportData = Annotated[
    str | None, typer.Option("--report-data", help="What the report quotes; by default a part of --data.")
]
Preprocess = Annotated[
    str | None, typer.Option("--preprocess", help="For pictures: imagenet, half, unit, or module:function.")
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help="top1, fidelity or module:function(outputs, labels); higher is better."),
]
_POLICIES = "refine, ddpg, amc, evolutionary, greedy, random, uniform, shallow, deep, magnitude, lagrange"
Policy = Annotated[str, typer.Option("--search", help=f"{_POLICIES}.")]
Episodes = Annotated[int | None, typer.Option("--episodes", help="Plans that the search tries at most.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Round = Annotated[
    int | None,
    typer.Option("--round", help="Keep multiples of this; by default 8 in groups of 64 units or more."),
]
Grain = Annotated[
    str,
    typer.Option("--granularity", help="What goes: channel; or, set to zero, weight, 2:4 (any N:M), block=4x1 (any)."),
]
Locks = Annotated[
    list[str] | None, typer.Option("--lock", help="A parameter, node or value whose channels all stay; repeat.")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Cut nothing that changes other channels (behind a LayerNorm, say).")
]
MinKeep = Annotated[
    float, typer.Option("--min-keep", help="Of every group keep this share (below 1) or this many units.")
]
Recover = Annotated[str, typer.Option("--recover", help="full; layers, without blocks; none: pure slices.")]
Emit = Annotated[list[str] | None, typer.Option("--emit", help="onnx, torch, pt2; by default onnx, torch if possible.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write; by default MODEL.amcc.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that is already there.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew, without the journal, and measure latency again.")]
InputShapes = Annotated[
    list[str] | None, typer.Option("--input-shape", help="name=1x3x224x224 for dynamic dimensions; repeat.")
]
CalibSamples = Annotated[int | None, typer.Option("--calib-samples", help="Samples for recovery, at most.")]
EvalSamples = Annotated[int | None, typer.Option("--eval-samples", help="Samples the search scores, at most.")]
Threads = Annotated[
    int, typer.Option("--threads", help="Of ONNX Runtime; 0 for all cores, shared out among --workers.")
]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes that score plans side by side.")]
Ray = Annotated[
    str | None,
    typer.Option("--ray", help="Workers on a Ray cluster: its address, auto, or local for one started here."),
]
LatencyProvider = Annotated[
    str, typer.Option("--latency-provider", help="Of ONNX Runtime, for budgets of latency and the report.")
]
LatencyThreads = Annotated[int, typer.Option("--latency-threads", help="Of ONNX Runtime there; 0 for all cores.")]
LatencyBatch = Annotated[int, typer.Option("--latency-batch", help="Samples in a run, where that is free.")]
LatencyHook = Annotated[
    str | None,
    typer.Option("--latency-hook", help="module:function from the path of an ONNX file to milliseconds elsewhere."),
]
LatencyTimeout = Annotated[float, typer.Option("--latency-timeout", help="Seconds that it may take for one network.")]
PROVIDER = "CPUExecutionProvider"
ShipOnInterrupt = Annotated[
    bool, typer.Option("--ship-on-interrupt", help="Ctrl-C ends the search and ships the best plan so far.")
]
Tune = Annotated[bool, typer.Option("--tune", help="Train the weights after the cut, the original teaching.")]
Train = Annotated[
    str | None, typer.Option("--train", help="Samples to train on, as --data; by default the calibration's.")
]
TuneEpochs = Annotated[int | None, typer.Option("--tune-epochs", help="Of the training, 10 by default.")]
Steps = Annotated[int, typer.Option("--steps", help="With --tune: reach the budget in so many, training after each.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@contextmanager
def answering() -> Iterator[None]:
    """Turn errors into one message and an exit code."""
    try:
        yield
    except AmccError as error:
        _fail(str(error), error.exit_code, error)
    except KeyboardInterrupt as error:
        _fail("interrupted", 130, error)
    except MemoryError as error:
        _fail("out of memory: try smaller --calib-samples and --eval-samples", 2, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}", 2, error)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        _fail(
            f"a fault of amcc: {type(error).__name__}: {lines[0]} (run with `amcc --debug ...`, and report it)",
            1,
            error,
        )


def _fail(message: str, code: int, error: BaseException) -> NoReturn:
    if os.environ.get("AMCC_DEBUG"):
        import traceback

        traceback.print_exception(error)
    typer.echo(f"amcc: {message}", err=True)
    raise typer.Exit(code) from None


@contextmanager
def watching(quiet: bool) -> Iterator[Any]:
    """An observer that shows what is done on standard error, or nothing."""
    from amcc.progress import Silent, Terminal

    if quiet:
        yield Silent()
        return
    from rich.console import Console

    with Terminal(Console(stderr=True)) as terminal:
        yield terminal


def stdout() -> Console:
    """The terminal, or a wide console for a file or pipe."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=120)


def print_json(content: Any) -> None:
    """Print a document or plain data."""
    from amcc.jsontext import dumps

    typer.echo(dumps(content), nl=False)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given; the others keep the defaults of the Python interface."""
    return {name: value for name, value in options.items() if value is not None}


def network(model: str, weights: Path | None, trust_pickle: bool) -> Any:
    """The network that the options name."""
    if weights is None and not trust_pickle:
        return model
    from amcc.frontends.torch_files import Stored

    return Stored(model, weights, trust_pickle)


def measuring(provider: str, threads: int, batch: int, hook: str | None, timeout: float) -> Measuring:
    """How latency is measured."""
    from amcc.settings import Measuring

    return Measuring(provider, threads, batch, hook, timeout)


def tuning(tune: bool, epochs: int | None, threads: int) -> Tuning | bool:
    """How a compilation trains, if it does.

    Raises:
        UsageError: epochs without a training.
    """
    from amcc.errors import UsageError
    from amcc.settings import Tuning

    if not tune:
        if epochs is not None:
            raise UsageError("there is no training", where="--tune-epochs", hint="give --tune")
        return False
    return Tuning(threads=threads, **given(epochs=epochs))


def input_shapes(texts: list[str] | None) -> dict[str, Shape] | None:
    """Read `name=1x3x224x224`; a dimension may also be a name, which keeps it dynamic."""
    from amcc.errors import UsageError

    found: dict[str, Shape] = {}
    for text in texts or ():
        name, equals, dims = text.rpartition("=")
        parts = [part.strip() for part in dims.replace(",", "x").split("x")]
        if not equals or not name or not all(part.isidentifier() or part.isdecimal() for part in parts):
            raise UsageError(f"'{text}' is not of the form name=1x3x224x224", where="--input-shape")
        shape = tuple(int(part) if part.isdecimal() else part for part in parts)
        if any(dim == 0 for dim in shape):
            raise UsageError(f"'{text}' has a dimension of 0", where="--input-shape")
        found[name] = shape
    return found or None
