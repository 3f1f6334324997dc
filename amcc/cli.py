"""The command line: `amcc compile model.onnx --budget flops=0.5`.

Results go to standard output, everything else to standard error. Exit codes: 0 done; 2 usage or bad
input; 3 budget out of reach; 4 verification failed; 130 interrupted; 1 a fault of amcc.
"""

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

app = typer.Typer(
    name="amcc",
    help="Make a trained neural network smaller: a network and a budget in, an exact smaller network out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

MODEL = "An ONNX file, or module:factory of a PyTorch network."
Model = Annotated[str, typer.Argument(help=MODEL, metavar="MODEL")]
Budgets = Annotated[
    list[str], typer.Option("--budget", "-b", help="flops=0.5, params=150k, size=4MB; repeat for several.")
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
Policy = Annotated[str, typer.Option("--search", help="ddpg, uniform, magnitude, lagrange, refine, random.")]
Episodes = Annotated[int | None, typer.Option("--episodes", help="Plans that the search tries at most.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Round = Annotated[
    int | None,
    typer.Option("--round", help="Keep multiples of this; by default 8 in groups of 64 units or more."),
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
Recover = Annotated[str, typer.Option("--recover", help="full, or none for pure slices of the weights.")]
Emit = Annotated[list[str] | None, typer.Option("--emit", help="onnx, torch; by default whatever is possible.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write; by default MODEL.amcc.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that is already there.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin the search anew instead of going on from its journal.")]
InputShapes = Annotated[
    list[str] | None, typer.Option("--input-shape", help="name=1x3x224x224 for dynamic dimensions; repeat.")
]
CalibSamples = Annotated[int | None, typer.Option("--calib-samples", help="Samples for recovery, at most.")]
EvalSamples = Annotated[int | None, typer.Option("--eval-samples", help="Samples the search scores, at most.")]
Threads = Annotated[int, typer.Option("--threads", help="Of ONNX Runtime; 0 for all cores.")]
ShipOnInterrupt = Annotated[
    bool, typer.Option("--ship-on-interrupt", help="Ctrl-C ends the search and ships the best plan so far.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where a fault of amcc happened.")] = False,
) -> None:
    if version:
        from amcc import __version__

        typer.echo(f"amcc {__version__}")
        raise typer.Exit
    if debug:
        os.environ["AMCC_DEBUG"] = "1"


@app.command("compile")
def compile_command(
    model: Model,
    budget: Budgets,
    data: Data = None,
    calib: Calib = None,
    report_data: ReportData = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    search: Policy = "ddpg",
    episodes: Episodes = None,
    seed: Seed = 0,
    round: Round = None,
    lock: Locks = None,
    exact: Exact = False,
    min_keep: MinKeep = 0.0,
    recover: Recover = "full",
    emit: Emit = None,
    output: Output = None,
    force: Force = False,
    fresh: Fresh = False,
    input_shape: InputShapes = None,
    calib_samples: CalibSamples = None,
    eval_samples: EvalSamples = None,
    threads: Threads = 0,
    ship_on_interrupt: ShipOnInterrupt = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a network smaller until it meets a budget, and write it with its plan and report."""
    with _answering():
        from amcc import api
        from amcc.artifacts import default_output
        from amcc.report import print_summary

        with _watching(quiet) as observer:
            result = api.compile(
                model,
                budget=budget,
                data=data,
                calib=calib,
                report_data=report_data,
                preprocess=preprocess,
                metric=metric,
                search=search,
                seed=seed,
                round=round,
                lock=lock or (),
                exact=exact,
                min_keep=min_keep,
                recover=recover,
                emit=emit,
                out=output or default_output(model),
                force=force,
                fresh=fresh,
                input_shapes=_shapes(input_shape),
                threads=threads,
                ship_on_interrupt=ship_on_interrupt,
                observer=observer,
                **_given(episodes=episodes, calib_samples=calib_samples, eval_samples=eval_samples),
            )
        if json:
            _print_json(result.summary)
        else:
            print_summary(result.summary, result.folder, _stdout())


@app.command("plan")
def plan_command(
    model: Model,
    budget: Budgets,
    data: Data = None,
    calib: Calib = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    search: Policy = "ddpg",
    episodes: Episodes = None,
    seed: Seed = 0,
    round: Round = None,
    lock: Locks = None,
    exact: Exact = False,
    min_keep: MinKeep = 0.0,
    recover: Recover = "full",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File; by default standard output.")] = None,
    force: Force = False,
    fresh: Fresh = False,
    input_shape: InputShapes = None,
    calib_samples: CalibSamples = None,
    eval_samples: EvalSamples = None,
    threads: Threads = 0,
    ship_on_interrupt: ShipOnInterrupt = False,
    quiet: Quiet = False,
) -> None:
    """Search only: write the plan, not the network."""
    with _answering():
        from amcc import api

        with _watching(quiet) as observer:
            found = api.plan(
                model,
                budget=budget,
                out=output,
                force=force,
                data=data,
                calib=calib,
                preprocess=preprocess,
                metric=metric,
                search=search,
                seed=seed,
                round=round,
                lock=lock or (),
                exact=exact,
                min_keep=min_keep,
                recover=recover,
                fresh=fresh,
                input_shapes=_shapes(input_shape),
                threads=threads,
                ship_on_interrupt=ship_on_interrupt,
                observer=observer,
                **_given(episodes=episodes, calib_samples=calib_samples, eval_samples=eval_samples),
            )
        if output is None:
            _print_json(found)
        elif not quiet:
            typer.echo(f"written {output}")


@app.command("apply")
def apply_command(
    plan: Annotated[Path, typer.Argument(help="plan.json, or an output folder.", metavar="PLAN")],
    model: Model,
    data: Data = None,
    calib: Calib = None,
    report_data: ReportData = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    recover: Annotated[
        str | None, typer.Option("--recover", help="full or none; by default full where data are given.")
    ] = None,
    seed: Seed = 0,
    emit: Emit = None,
    output: Output = None,
    force: Force = False,
    input_shape: InputShapes = None,
    calib_samples: CalibSamples = None,
    eval_samples: EvalSamples = None,
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Put a plan on a network: the same file, its PyTorch twin or a retrained checkpoint."""
    with _answering():
        from amcc import api
        from amcc.artifacts import default_output
        from amcc.report import print_summary

        with _watching(quiet) as observer:
            result = api.apply(
                plan,
                model,
                data=data,
                calib=calib,
                report_data=report_data,
                preprocess=preprocess,
                metric=metric,
                recover=recover,
                seed=seed,
                out=output or default_output(model),
                force=force,
                emit=emit,
                input_shapes=_shapes(input_shape),
                threads=threads,
                observer=observer,
                **_given(calib_samples=calib_samples, eval_samples=eval_samples),
            )
        if json:
            _print_json(result.summary)
        else:
            print_summary(result.summary, result.folder, _stdout())


@app.command("verify")
def verify_command(
    original: Annotated[str, typer.Argument(help=MODEL, metavar="ORIGINAL")],
    folder: Annotated[Path, typer.Argument(help="An output folder.", metavar="DIR")],
    input_shape: InputShapes = None,
    data: Annotated[
        str | None, typer.Option(help="Samples for a model that runs on nothing random.", metavar="DATA")
    ] = None,
) -> None:
    """Repeat the certificate of an output folder from the files alone."""
    with _answering():
        from amcc import api

        for check in api.verify(original, folder, input_shapes=_shapes(input_shape), data=data).checks:
            typer.echo(check)


@app.command("inspect")
def inspect_command(
    model: Model, input_shape: InputShapes = None, lock: Locks = None, exact: Exact = False, json: Json = False
) -> None:
    """Show nodes, groups of channels, and the ledger of locks with what each costs."""
    with _answering():
        from amcc import api

        found = api.inspect(model, input_shapes=_shapes(input_shape), lock=lock or (), exact=exact)
        if json:
            _print_json(found)
        else:
            from amcc.report import print_inspection

            print_inspection(found, _stdout())


@app.command("bench")
def bench_command(
    models: Annotated[list[str], typer.Argument(help="ONNX files or output folders.", metavar="MODEL...")],
    runs: Annotated[int, typer.Option("--runs", help="Of each model.", min=1)] = 50,
    warmup: Annotated[int, typer.Option("--warmup", help="Runs that do not count.", min=0)] = 5,
    batch: Annotated[int, typer.Option("--batch", help="Size of a dynamic first dimension.", min=1)] = 1,
    threads: Threads = 0,
    input_shape: InputShapes = None,
    json: Json = False,
) -> None:
    """Measure latency in ONNX Runtime, the models taking turns."""
    with _answering():
        from dataclasses import asdict

        from amcc import api

        shapes = _shapes(input_shape)
        found = api.bench(models, runs=runs, warmup=warmup, threads=threads, batch=batch, input_shapes=shapes)
        if json:
            _print_json([asdict(timing) for timing in found])
        else:
            from amcc.report import print_timings

            print_timings(found, _stdout())


@app.command("schema")
def schema_command(name: Annotated[str, typer.Argument(help="ir, plan or summary.", metavar="NAME")]) -> None:
    """Print the JSON Schema of `inspect --json`, plan.json or summary.json."""
    with _answering():
        from amcc.schema import schema

        _print_json(schema(name))


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _answering() -> Iterator[None]:
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
def _watching(quiet: bool) -> Iterator[Any]:
    from amcc.progress import Silent, Terminal

    if quiet:
        yield Silent()
        return
    from rich.console import Console

    with Terminal(Console(stderr=True)) as terminal:
        yield terminal


def _stdout() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=120)


def _print_json(content: Any) -> None:
    from amcc.jsontext import dumps

    typer.echo(dumps(content), nl=False)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the others keep the defaults of the Python interface."""
    return {name: value for name, value in options.items() if value is not None}


def _shapes(texts: list[str] | None) -> dict[str, Shape] | None:
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


if __name__ == "__main__":
    main()
