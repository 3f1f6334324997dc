"""`amcc search`: policies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amcc.console import (
    PROVIDER,
    Budgets,
    Calib,
    CalibSamples,
    Data,
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
from amcc.settings import POLICY


def search_command(
    model: Model,
    budget: Budgets,
    compare: Annotated[bool, typer.Option("--compare", help="All policies against each other.")] = False,
    policies: Annotated[
        list[str] | None, typer.Option("--policies", help="Only these, joined by commas; by default the default one.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Searches of each policy, with --seed and the next ones.")] = 3,
    ship: Annotated[
        str,
        typer.Option(
            "--ship", help="Repair and report on the best plan of each policy (best), of each search, or none."
        ),
    ] = "best",
    data: Data = None,
    calib: Calib = None,
    report_data: ReportData = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    episodes: Episodes = None,
    seed: Seed = 0,
    round: Round = None,
    granularity: Grain = "channel",
    lock: Locks = None,
    exact: Exact = False,
    min_keep: MinKeep = 0.0,
    recover: Recover = "full",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write; by default MODEL.search.")
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
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Search with several seeds, and compare policies on the same network, data, budget and evaluations."""
    with answering():
        from amcc import api
        from amcc.artifacts import default_output
        from amcc.comparison_report import print_comparison

        with watching(quiet) as observer:
            found = api.compare(
                network(model, weights, trust_pickle),
                budget=budget,
                policies=policies or (None if compare else POLICY),
                seeds=seeds,
                ship=ship,
                data=data,
                calib=calib,
                report_data=report_data,
                preprocess=preprocess,
                metric=metric,
                seed=seed,
                round=round,
                granularity=granularity,
                lock=lock or (),
                exact=exact,
                min_keep=min_keep,
                recover=recover,
                out=output or default_output(model).with_suffix(".search"),
                force=force,
                fresh=fresh,
                input_shapes=input_shapes(input_shape),
                threads=threads,
                workers=workers,
                ray=ray,
                measuring=measuring(latency_provider, latency_threads, latency_batch, latency_hook, latency_timeout),
                observer=observer,
                **given(episodes=episodes, calib_samples=calib_samples, eval_samples=eval_samples),
            )
        if json:
            print_json(found.comparison)
        else:
            print_comparison(found.comparison, found.folder, stdout())
