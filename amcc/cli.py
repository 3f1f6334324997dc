"""The command line: `amcc compile model.onnx --budget flops=0.5`.

Results go to standard output, everything else to standard error. Exit codes: 0 done; 2 usage or bad
input; 3 budget out of reach or guarantee not shown; 4 verification failed; 130 interrupted; 1 a fault of amcc.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from amcc.cli_convert import convert_command
from amcc.cli_pareto import pareto_command
from amcc.cli_search import search_command
from amcc.cli_tune import tune_command
from amcc.console import (
    MODEL,
    PROVIDER,
    Budgets,
    Calib,
    CalibSamples,
    Confidence,
    Data,
    Emit,
    Episodes,
    EvalSamples,
    Exact,
    Force,
    Fresh,
    Grain,
    InputShapes,
    Json,
    LatencyBatch,
    LatencyHook,
    LatencyProvider,
    LatencyThreads,
    LatencyTimeout,
    Locks,
    MaxDrop,
    Metric,
    Minimise,
    MinKeep,
    MinMetric,
    Model,
    OptionalBudgets,
    Output,
    Policy,
    Preprocess,
    Quiet,
    Ray,
    Recover,
    ReportData,
    Round,
    Seed,
    ShipOnInterrupt,
    Steps,
    Threads,
    Train,
    TrustPickle,
    Tune,
    TuneEpochs,
    Weights,
    Workers,
    answering,
    given,
    input_shapes,
    measuring,
    network,
    print_json,
    stdout,
    tuning,
    watching,
)
from amcc.errors import UsageError
from amcc.settings import POLICY

app = typer.Typer(
    name="amcc",
    help="Make a trained neural network smaller: a network and a budget in, an exact smaller network out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


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
    budget: OptionalBudgets = None,
    min_metric: MinMetric = None,
    max_drop: MaxDrop = None,
    confidence: Confidence = 0.95,
    minimise: Minimise = "flops",
    data: Data = None,
    calib: Calib = None,
    report_data: ReportData = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    search: Policy = POLICY,
    episodes: Episodes = None,
    seed: Seed = 0,
    round: Round = None,
    granularity: Grain = "channel",
    lock: Locks = None,
    exact: Exact = False,
    min_keep: MinKeep = 0.0,
    recover: Recover = "full",
    emit: Emit = None,
    output: Output = None,
    force: Force = False,
    fresh: Fresh = False,
    input_shape: InputShapes = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    calib_samples: CalibSamples = None,
    eval_samples: EvalSamples = None,
    threads: Threads = 0,
    workers: Workers = None,
    ray: Ray = None,
    latency_provider: LatencyProvider = PROVIDER,
    latency_threads: LatencyThreads = 1,
    latency_batch: LatencyBatch = 1,
    latency_hook: LatencyHook = None,
    latency_timeout: LatencyTimeout = 600.0,
    ship_on_interrupt: ShipOnInterrupt = False,
    tune: Tune = False,
    train: Train = None,
    tune_epochs: TuneEpochs = None,
    steps: Steps = 1,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a network smaller until it meets a budget, or as small as a guarantee lets it, and write it."""
    with answering():
        from amcc import api
        from amcc.artifacts import default_output
        from amcc.report import print_summary

        with watching(quiet) as observer:
            result = api.compile(
                network(model, weights, trust_pickle),
                budget=budget,
                min_metric=min_metric,
                max_drop=max_drop,
                confidence=confidence,
                minimise=minimise,
                data=data,
                calib=calib,
                report_data=report_data,
                preprocess=preprocess,
                metric=metric,
                search=search,
                seed=seed,
                round=round,
                granularity=granularity,
                lock=lock or (),
                exact=exact,
                min_keep=min_keep,
                recover=recover,
                emit=emit,
                out=output or default_output(model),
                force=force,
                fresh=fresh,
                input_shapes=input_shapes(input_shape),
                threads=threads,
                workers=workers,
                ray=ray,
                measuring=measuring(latency_provider, latency_threads, latency_batch, latency_hook, latency_timeout),
                ship_on_interrupt=ship_on_interrupt,
                tune=tuning(tune, tune_epochs, threads),
                train=train,
                steps=steps,
                observer=observer,
                **given(episodes=episodes, calib_samples=calib_samples, eval_samples=eval_samples),
            )
        if json:
            print_json(result.summary)
        else:
            print_summary(result.summary, result.folder, stdout())


app.command("tune")(tune_command)
app.command("pareto")(pareto_command)
app.command("search")(search_command)
app.command("convert")(convert_command)


@app.command("plan")
def plan_command(
    model: Model,
    budget: Budgets,
    data: Data = None,
    calib: Calib = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    search: Policy = POLICY,
    episodes: Episodes = None,
    seed: Seed = 0,
    round: Round = None,
    granularity: Grain = "channel",
    lock: Locks = None,
    exact: Exact = False,
    min_keep: MinKeep = 0.0,
    recover: Recover = "full",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File; by default standard output.")] = None,
    force: Force = False,
    fresh: Fresh = False,
    input_shape: InputShapes = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    calib_samples: CalibSamples = None,
    eval_samples: EvalSamples = None,
    threads: Threads = 0,
    workers: Workers = None,
    ray: Ray = None,
    latency_provider: LatencyProvider = PROVIDER,
    latency_threads: LatencyThreads = 1,
    latency_batch: LatencyBatch = 1,
    latency_hook: LatencyHook = None,
    latency_timeout: LatencyTimeout = 600.0,
    ship_on_interrupt: ShipOnInterrupt = False,
    quiet: Quiet = False,
) -> None:
    """Search only: write the plan, not the network."""
    with answering():
        from amcc import api

        if output is None and granularity != "channel":
            raise UsageError("the masks need a file beside the plan's", where="--granularity", hint="give -o")

        with watching(quiet) as observer:
            found = api.plan(
                network(model, weights, trust_pickle),
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
                granularity=granularity,
                lock=lock or (),
                exact=exact,
                min_keep=min_keep,
                recover=recover,
                fresh=fresh,
                input_shapes=input_shapes(input_shape),
                threads=threads,
                workers=workers,
                ray=ray,
                measuring=measuring(latency_provider, latency_threads, latency_batch, latency_hook, latency_timeout),
                ship_on_interrupt=ship_on_interrupt,
                observer=observer,
                **given(episodes=episodes, calib_samples=calib_samples, eval_samples=eval_samples),
            )
        if output is None:
            print_json(found)
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
        str | None, typer.Option("--recover", help="full, layers or none; by default full where data are given.")
    ] = None,
    seed: Seed = 0,
    emit: Emit = None,
    output: Output = None,
    force: Force = False,
    input_shape: InputShapes = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    calib_samples: CalibSamples = None,
    eval_samples: EvalSamples = None,
    threads: Threads = 0,
    latency_provider: LatencyProvider = PROVIDER,
    latency_threads: LatencyThreads = 1,
    latency_batch: LatencyBatch = 1,
    latency_hook: LatencyHook = None,
    latency_timeout: LatencyTimeout = 600.0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Put a plan on a network: the same file, its PyTorch twin or a retrained checkpoint."""
    with answering():
        from amcc import api
        from amcc.artifacts import default_output
        from amcc.report import print_summary

        with watching(quiet) as observer:
            result = api.apply(
                plan,
                network(model, weights, trust_pickle),
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
                input_shapes=input_shapes(input_shape),
                threads=threads,
                measuring=measuring(latency_provider, latency_threads, latency_batch, latency_hook, latency_timeout),
                observer=observer,
                **given(calib_samples=calib_samples, eval_samples=eval_samples),
            )
        if json:
            print_json(result.summary)
        else:
            print_summary(result.summary, result.folder, stdout())


@app.command("verify")
def verify_command(
    original: Annotated[str, typer.Argument(help=MODEL, metavar="ORIGINAL")],
    folder: Annotated[Path, typer.Argument(help="An output folder.", metavar="DIR")],
    input_shape: InputShapes = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    data: Annotated[
        str | None, typer.Option(help="Samples for a model that runs on nothing random.", metavar="DATA")
    ] = None,
) -> None:
    """Repeat the certificate of an output folder from the files alone."""
    with answering():
        from amcc import api

        model = network(original, weights, trust_pickle)
        for check in api.verify(model, folder, input_shapes=input_shapes(input_shape), data=data).checks:
            typer.echo(check)


@app.command("inspect")
def inspect_command(
    model: Model,
    input_shape: InputShapes = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    lock: Locks = None,
    exact: Exact = False,
    json: Json = False,
) -> None:
    """Show nodes, groups of channels, and the ledger of locks with what each costs."""
    with answering():
        from amcc import api

        stored = network(model, weights, trust_pickle)
        found = api.inspect(stored, input_shapes=input_shapes(input_shape), lock=lock or (), exact=exact)
        if json:
            print_json(found)
        else:
            from amcc.report import print_inspection

            print_inspection(found, stdout())


@app.command("bench")
def bench_command(
    models: Annotated[list[str], typer.Argument(help="ONNX files or output folders.", metavar="MODEL...")],
    runs: Annotated[int, typer.Option("--runs", help="Of each model.", min=1)] = 50,
    warmup: Annotated[int, typer.Option("--warmup", help="Runs that do not count.", min=0)] = 5,
    batch: Annotated[int, typer.Option("--batch", help="Size of a dynamic first dimension.", min=1)] = 1,
    threads: Threads = 0,
    provider: Annotated[str, typer.Option("--provider", help="Of ONNX Runtime.")] = PROVIDER,
    input_shape: InputShapes = None,
    json: Json = False,
) -> None:
    """Measure latency in ONNX Runtime, the models taking turns."""
    with answering():
        from dataclasses import asdict

        from amcc import api

        shapes, how = input_shapes(input_shape), {"threads": threads, "batch": batch}
        found = api.bench(models, runs=runs, warmup=warmup, provider=provider, input_shapes=shapes, **how)
        if json:
            print_json([asdict(timing) for timing in found])
        else:
            from amcc.report import print_timings

            print_timings(found, stdout())


@app.command("schema")
def schema_command(
    name: Annotated[str, typer.Argument(help="ir, plan, summary, pareto or compare.", metavar="NAME")],
) -> None:
    """Print the JSON Schema of `inspect --json`, or of plan.json, summary.json, pareto.json or compare.json."""
    with answering():
        from amcc.schema import schema

        print_json(schema(name))


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
