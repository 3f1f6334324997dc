"""`amcc pareto`: several budgets from one search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amcc.console import (
    PROVIDER,
    Calib,
    CalibSamples,
    Data,
    Emit,
    EvalSamples,
    Exact,
    Force,
    Fresh,
    InputShapes,
    Json,
    LatencyBatch,
    LatencyHook,
    LatencyProvider,
    LatencyThreads,
    LatencyTimeout,
    Locks,
    Metric,
    MinKeep,
    Model,
    Preprocess,
    Quiet,
    Ray,
    Recover,
    ReportData,
    Round,
    Seed,
    ShipOnInterrupt,
    Threads,
    TrustPickle,
    Weights,
    Workers,
    answering,
    given,
    input_shapes,
    measuring,
    network,
    print_json,
    stdout,
    watching,
)


def pareto_command(
    model: Model,
    budgets: Annotated[list[str], typer.Option("--budgets", help="0.3,0.5,0.7 or 100M,150M, of --resource.")],
    resource: Annotated[str, typer.Option("--resource", help="flops, params, size, memory or latency.")] = "flops",
    data: Data = None,
    calib: Calib = None,
    report_data: ReportData = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    search: Annotated[str, typer.Option("--search", help="refine, evolutionary, random, or a rule.")] = "refine",
    episodes: Annotated[
        int | None, typer.Option("--episodes", help="As for one budget; all of them have a sixth more.")
    ] = None,
    seed: Seed = 0,
    round: Round = None,
    lock: Locks = None,
    exact: Exact = False,
    min_keep: MinKeep = 0.0,
    recover: Recover = "full",
    emit: Emit = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write; by default MODEL.pareto.")
    ] = None,
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
    json: Json = False,
) -> None:
    """Make a network smaller to several sizes from one search."""
    with answering():
        from amcc import api
        from amcc.artifacts import default_output
        from amcc.front_report import print_front

        with watching(quiet) as observer:
            found = api.pareto(
                network(model, weights, trust_pickle),
                budgets=budgets,
                resource=resource,
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
                out=output or default_output(model).with_suffix(".pareto"),
                force=force,
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
        if json:
            print_json(found.front)
        else:
            print_front(found.front, [result.summary for result in found.results], found.folder, stdout())
