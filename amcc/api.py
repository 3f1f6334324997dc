"""What users call: compile, tune, pareto, compare, plan, apply, convert, verify, inspect, bench, load.

`import amcc` offers the same functions. Nothing is written unless `out` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from amcc.artifacts import check_output, output_file
from amcc.bench import CPU, Timing, check_provider
from amcc.bench import bench as _bench
from amcc.budget import Budget
from amcc.compare import Compared, compare
from amcc.conversion import Converted, convert
from amcc.data import Spec
from amcc.deadline import choose, timed
from amcc.errors import InputError, UsageError
from amcc.frontends.load import load
from amcc.frontends.torch_files import Stored
from amcc.gradual import check_training, narrowed, step_journals
from amcc.graph_json import GraphJson, graph_json
from amcc.guarantee import guarantee, joined, level_journals
from amcc.ir import Shape
from amcc.own_class import inputs_of, is_module, shrunk_by, told
from amcc.pareto import Pareto, pareto
from amcc.passes.channels import analyze
from amcc.plan import Plan, masks_file
from amcc.problems import check_reachable
from amcc.progress import Clock, Observer, Silent
from amcc.settings import CALIB_SAMPLES, EPISODES, EVAL_SAMPLES, POLICY, Measuring, Settings, Tuning, artifacts
from amcc.shipment import Shipment
from amcc.shipping import Result, ship
from amcc.stages import DataSpec, Notes, described, planned
from amcc.study import find, journal_for, open_subject, prepare
from amcc.target import CONFIDENCE, Target
from amcc.training import training_asked
from amcc.tune import tune
from amcc.verification import Verified
from amcc.verification import verify as _verify

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Compared",
    "Converted",
    "Pareto",
    "Result",
    "Verified",
    "apply",
    "bench",
    "compare",
    "compile",
    "convert",
    "inspect",
    "load",
    "pareto",
    "plan",
    "tune",
    "verify",
]


def compile(
    model: Any,
    example_inputs: Any = None,
    *,
    budget: str | Sequence[str] | None = None,
    min_metric: str | float | None = None,
    max_drop: str | float | None = None,
    confidence: float = CONFIDENCE,
    minimise: str = "flops",
    data: Spec | None = None,
    calib: Spec | None = None,
    report_data: Spec | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    metric: str | Callable[..., Any] | None = None,
    search: str = POLICY,
    episodes: int = EPISODES,
    seed: int = 0,
    round: int | None = None,
    granularity: str = "channel",
    lock: Iterable[str] = (),
    exact: bool = False,
    min_keep: float = 0.0,
    recover: str = "full",
    out: str | Path | None = None,
    force: bool = False,
    emit: str | Iterable[str] | None = None,
    fresh: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
    calib_samples: int = CALIB_SAMPLES,
    eval_samples: int = EVAL_SAMPLES,
    threads: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    measuring: Measuring | None = None,
    ship_on_interrupt: bool = False,
    tune: Tuning | bool = False,
    train: Spec | None = None,
    steps: int = 1,
    observer: Observer | None = None,
) -> Result:
    """Make a network smaller.

    Args:
        model: an ONNX file, a torch module, `module:factory`, a factory, or a `.pt2` file.
        example_inputs: of a torch module: a tensor, a tuple of the arguments of one call, a dict of its keyword
            arguments, or an `amcc.Call` with both.
        budget: `flops=0.5`, `params=150k`, `size=4MB`, `memory=0.6`, `latency=3ms`, or several; in its place:
        min_metric: what the metric is to be at least (0.92 or "92%"), on samples that nothing else saw.
        max_drop: by how much it may fall at most, absolute: 0.005 or "0.5%".
        confidence: how sure that is to be.
        minimise: `"flops"`, `"params"`, `"size"`, `"memory"` or `"latency"`, as small as the guarantee lets it be.
        data: for the search's score, labels optional; see `amcc.data.load_data`.
        calib: inputs for recovery, by default a part of `data`.
        report_data: what the report quotes, by default a part of `data` that the search does not see.
        round: kept units are a multiple of it; by default 8 in groups of at least 64 units.
        granularity: what goes at once: `"channel"`, or, set to zero, `"weight"`, `"2:4"` and the like or
            `"block=4x1"` and the like.
        lock: parameters, nodes or values whose channels, or weights, all stay.
        exact: cut no channels whose removal changes what others hold (those behind a LayerNorm, say).
        min_keep: of every group at least this share (below 1) or this many units stay.
        recover: `"full"`; `"layers"`, which fits each layer by itself and no blocks; or `"none"`, which ships
            pure slices of the original weights.
        out: folder for the artifacts; a search's journal lies beside it and is gone on with.
        threads: of ONNX Runtime, 0 for all cores; of each worker, 0 for its share of them.
        workers: processes that score plans side by side; the result does not depend on them.
        ray: do so on a Ray cluster, at an address as `ray.init` takes it, or on one started here, `"local"`.
        fresh: throw away a journal instead, and measure latency again.
        measuring: how latency is measured: one thread of ONNX Runtime's CPU provider, unless told otherwise.
        ship_on_interrupt: Ctrl-C during the search ends it and ships the best plan so far, during the training the
            best epoch.
        tune: train the weights after they are recovered, the original teaching; how, or `True` for the defaults.
        train: samples for that, labels optional; by default the calibration's.
        steps: reach the budget in so many, training after each.

    Raises:
        BudgetError: the budget is out of reach, nothing can be pruned, or no plan was shown to keep the guarantee.
        VerificationError: the result failed its certificate; nothing is written.
        InputError, UsageError, OutputError: what was given cannot be used.
        WorkerError: workers cannot be started, or die again and again.
        Interrupted: Ctrl-C during the search.
    """
    target = Target.parse(min_metric, max_drop, confidence, minimise)
    asked = _asked(budget, target, some_data=data is not None or calib is not None)
    settings = Settings(
        search=search,
        episodes=episodes,
        seed=seed,
        round=round,
        granularity=granularity,
        lock=tuple(lock),
        exact=exact,
        min_keep=min_keep,
        recover=recover,
        metric=metric,
        guarded=target is not None,
        emit=artifacts(emit),
        calib_samples=calib_samples,
        eval_samples=eval_samples,
        threads=threads,
        workers=workers,
        ray=ray,
        measuring=measuring or Measuring(),
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        check_output(folder, force=force)
    training = training_asked(tune, train, steps, preprocess, folder, fresh=fresh, interruptible=ship_on_interrupt)
    if training is not None:
        check_training(asked, target, training)
    journal = journal_for(folder, settings, fresh=fresh)
    clock, notes = Clock(observer or Silent()), Notes()
    subject = open_subject(model, example_inputs, input_shapes, settings, clock)
    subject = timed(subject, asked, settings, clock, notes, fresh=fresh)
    check_reachable(subject, asked, settings)
    study = prepare(subject, DataSpec(data, calib, report_data, preprocess), settings, clock, notes)
    training = training and training.of(study)
    if training is not None and steps > 1:
        with step_journals(journal, steps, fresh=fresh):
            went = narrowed(study, asked, training, journal, ship_on_interrupt=ship_on_interrupt)
            more: dict[str, Any] = {"graph": went.graph, "training": training, "lines": went.lines}
            return ship(Shipment(study, went.removal, asked, went.policy, None, **more), folder, force=force)
    if target is not None:
        with study, level_journals(journal, fresh=fresh):
            kept = guarantee(study, target, journal, ship_on_interrupt=ship_on_interrupt)
            removal = subject.removal(kept.record.keep, study.learned.orders)
            policy, seen = kept.record.policy, kept.search
            shipment = Shipment(study, removal, kept.budget, policy, seen, graph=kept.graph, guarantee=kept.line)
            with joined(journal):
                return ship(shipment, folder, force=force)
    with study:
        chosen = choose(study, asked, find(study, asked, journal, ship_on_interrupt=ship_on_interrupt))
    removal = subject.removal(chosen.record.keep, study.learned.orders)
    shipment = Shipment(study, removal, asked, chosen.record.policy, chosen.search, chosen.finalists, training=training)
    return ship(shipment, folder, force=force)


def _asked(budget: str | Sequence[str] | None, target: Target | None, *, some_data: bool) -> Budget:
    if target is None:
        if not budget:
            raise UsageError("nothing is asked for", hint="give --budget, --min-metric or --max-drop")
        return Budget.parse(budget)
    if budget:
        raise UsageError(f"--budget and --{target.kind} exclude each other", hint="give one of them")
    if not some_data:
        raise UsageError(f"--{target.kind} needs samples to be checked on", hint="give --data")
    return Budget.parse(f"{target.minimise}=1")


def plan(
    model: Any,
    example_inputs: Any = None,
    *,
    budget: str | Sequence[str],
    out: str | Path | None = None,
    force: bool = False,
    data: Spec | None = None,
    calib: Spec | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    metric: str | Callable[..., Any] | None = None,
    search: str = POLICY,
    episodes: int = EPISODES,
    seed: int = 0,
    round: int | None = None,
    granularity: str = "channel",
    lock: Iterable[str] = (),
    exact: bool = False,
    min_keep: float = 0.0,
    recover: str = "full",
    fresh: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
    calib_samples: int = CALIB_SAMPLES,
    eval_samples: int = EVAL_SAMPLES,
    threads: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    measuring: Measuring | None = None,
    ship_on_interrupt: bool = False,
    observer: Observer | None = None,
) -> Plan:
    """Search only; `out` is a file for the plan. See `compile` for the rest."""
    asked = Budget.parse(budget)
    settings = Settings(
        search=search,
        episodes=episodes,
        seed=seed,
        round=round,
        granularity=granularity,
        lock=tuple(lock),
        exact=exact,
        min_keep=min_keep,
        recover=recover,
        metric=metric,
        calib_samples=calib_samples,
        eval_samples=eval_samples,
        threads=threads,
        workers=workers,
        ray=ray,
        measuring=measuring or Measuring(),
    )
    file = None if out is None else Path(out)
    beside = [] if file is None or granularity == "channel" else [masks_file(file)]
    for target in () if file is None else (file, *beside):
        check_output(target, force=force, folder=False)
    journal = journal_for(file, settings, fresh=fresh)
    clock, notes = Clock(observer or Silent()), Notes()
    subject = open_subject(model, example_inputs, input_shapes, settings, clock)
    subject = timed(subject, asked, settings, clock, notes, fresh=fresh)
    check_reachable(subject, asked, settings)
    with prepare(subject, DataSpec(data, calib, None, preprocess), settings, clock, notes) as study:
        best = choose(study, asked, find(study, asked, journal, ship_on_interrupt=ship_on_interrupt)).record
    removal = subject.removal(best.keep, study.learned.orders)
    made = described(subject, removal, budget=str(asked), policy=best.policy, seed=seed, exact=exact)
    if file is not None:
        with ExitStack() as files:
            parts = [files.enter_context(output_file(target, force=force)) for target in (file, *beside)]
            made.write(*parts)
        if journal is not None:
            journal.unlink(missing_ok=True)
    return made


class ApplyOptions(TypedDict, total=False):
    """The options of `apply`, for type checkers."""

    data: Spec | None
    calib: Spec | None
    report_data: Spec | None
    preprocess: str | Callable[..., Any] | None
    metric: str | Callable[..., Any] | None
    recover: str | None
    seed: int
    out: str | Path | None
    force: bool
    emit: str | Iterable[str] | None
    input_shapes: Mapping[str, Shape] | None
    calib_samples: int
    eval_samples: int
    threads: int
    measuring: Measuring | None
    observer: Observer | None


@overload
def apply(  # type: ignore[overload-overlap]  # a module can be called too
    plan: str | Path | Plan, model: nn.Module, example_inputs: Any = None, **options: Unpack[ApplyOptions]
) -> nn.Module: ...


@overload
def apply(
    plan: str | Path | Plan,
    model: str | Path | Stored | Callable[[], Any],
    example_inputs: Any = None,
    **options: Unpack[ApplyOptions],
) -> Result: ...


def apply(
    plan: str | Path | Plan,
    model: Any,
    example_inputs: Any = None,
    *,
    data: Spec | None = None,
    calib: Spec | None = None,
    report_data: Spec | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    metric: str | Callable[..., Any] | None = None,
    recover: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    emit: str | Iterable[str] | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    calib_samples: int = CALIB_SAMPLES,
    eval_samples: int = EVAL_SAMPLES,
    threads: int = 0,
    measuring: Measuring | None = None,
    observer: Observer | None = None,
) -> Result | nn.Module:
    """Put a plan on a network, without a search. See `compile` for the rest.

    Args:
        plan: `plan.json`, an output folder, or a plan, made for this network in whatever form.
        model: as `compile` takes it.
        example_inputs: of a torch module; by default made by the names and shapes in the plan.
        recover: by default `"full"` where data were given, else `"none"`.

    Returns:
        For a torch module a copy of it, shrunk, of its own class, which `Result.module` describes; where the class
        cannot take the plan's widths, the standalone form, with a warning that says why. For anything else, a
        factory that gives a module included, the `Result`.

    Raises:
        PlanError: the plan is broken or belongs to another network.
        VerificationError: the result failed its certificate.
    """
    given = plan if isinstance(plan, Plan) else Plan.read(Path(plan))
    if is_module(model):
        example_inputs = inputs_of(given, model) if example_inputs is None else example_inputs
        if data is None and calib is None and out is None:
            return told(shrunk_by(given, model, example_inputs, seed=seed))
    settings = Settings(
        search="uniform",
        seed=seed,
        granularity="channel" if given.sparsity is None else given.sparsity.granularity,
        exact=given.exact,
        recover=recover or ("none" if data is None and calib is None else "full"),
        metric=metric,
        emit=artifacts(emit),
        calib_samples=calib_samples,
        eval_samples=eval_samples,
        threads=threads,
        measuring=measuring or Measuring(),
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        check_output(folder, force=force)
    clock, notes = Clock(observer or Silent()), Notes()
    subject = open_subject(model, example_inputs, input_shapes, settings, clock)
    removal, sources = planned(given, subject), DataSpec(data, calib, report_data, preprocess)
    study = prepare(subject, sources, settings, clock, notes, searching=False)
    asked = Budget.parse(given.budget)
    result = ship(Shipment(study, removal, asked, given.policy, None), folder, force=force)
    return told(result.shrunk) if is_module(model) else result


def verify(
    original: Any,
    folder: str | Path,
    example_inputs: Any = None,
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    data: Spec | None = None,
) -> Verified:
    """Repeat the certificate of an output folder from the files alone; see `amcc.verification`."""
    return _verify(original, Path(folder), example_inputs, input_shapes=input_shapes, data=data)


def inspect(
    model: Any,
    example_inputs: Any = None,
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    lock: Iterable[str] = (),
    exact: bool = False,
) -> GraphJson:
    """Nodes, groups and the ledger of locks of a network, as plain data."""
    graph = load(model, example_inputs=example_inputs, input_shapes=input_shapes)
    return graph_json(analyze(graph, locked=tuple(lock), exact=exact))


def bench(
    models: Sequence[str | Path],
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 0,
    batch: int = 1,
    provider: str = CPU,
    input_shapes: Mapping[str, Shape] | None = None,
) -> list[Timing]:
    """Latency of ONNX files (or output folders) in ONNX Runtime, taking turns; see `amcc.bench`."""
    files = {}
    for model in models:
        path = Path(model) / "model.onnx" if Path(model).is_dir() else Path(model)
        if not path.is_file():
            raise InputError("no such file", where=str(path))
        files[str(model)] = path
    check_provider(provider, "--provider")
    return _bench(
        files, runs=runs, warmup=warmup, threads=threads, batch=batch, provider=provider, input_shapes=input_shapes
    )
