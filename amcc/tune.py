"""`amcc tune`: the weights of an output folder trained, and the folder written anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amcc.artifacts import check_output, hashes, output_folder, tuning_path
from amcc.data import Dataset, Spec, load_data
from amcc.errors import InputError, UsageError
from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.load import Origin, captured
from amcc.ir import Graph, Shape
from amcc.metric import Evaluator
from amcc.passes.channels import Channels, Removal, analyze
from amcc.passes.cost import parameter_count, weight_bytes
from amcc.passes.shapes import infer
from amcc.plan import Plan
from amcc.planning import planned_layers, removal_of
from amcc.progress import Clock, Observer, Silent
from amcc.reopened import free_shapes, spelled
from amcc.search.journal import records
from amcc.settings import REPORT_SAMPLES, Tuning, artifacts
from amcc.shipment import sparsity_line
from amcc.shipping import Result
from amcc.shipping import emit as _emit
from amcc.stages import Notes, model_hash
from amcc.summary import Measured, MetricLine, Summary, TuningLine
from amcc.training import fed
from amcc.tuning.norms import with_room
from amcc.tuning.tuned import Task, tuned
from amcc.tuning.world import joined, rank


@dataclass(frozen=True)
class _Opened:
    """An output folder and the network that it came from."""

    folder: Path
    summary: Summary
    plan: Plan
    channels: Channels
    removal: Removal
    student: Graph
    origin: Origin | None = None

    @property
    def original(self) -> Graph:
        """The network that it came from."""
        return self.channels.graph


def tune(
    folder: str | Path,
    train: Spec | None = None,
    *,
    teacher: Any = None,
    example_inputs: Any = None,
    report_data: Spec | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    metric: str | Callable[..., Any] | None = None,
    tuning: Tuning | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    fresh: bool = False,
    emit: str | Iterable[str] | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    keep_on_interrupt: bool = False,
    observer: Observer | None = None,
) -> Result:
    """Train the weights of an output folder of `compile`; the original teaches.

    Started several times by `torchrun`, the processes train together and the first one writes.

    Args:
        folder: with `model.onnx`, `plan.json` and `summary.json`.
        train: samples, labels optional; inputs are made up without. A part is held out and decides which epoch is kept.
        teacher: the original: by default the file that the summary names, in the working directory or beside the
            folder.
        example_inputs: of the original, if it is a module.
        report_data: what the report quotes; without it the summary has no metric but that of samples held out.
        tuning: how.
        out: folder to write; by default the folder itself is replaced.
        force: replace `out` where it is there.
        fresh: throw away a checkpoint instead of going on from it.
        keep_on_interrupt: Ctrl-C ends the training and ships the best epoch so far.

    Raises:
        InputError, UsageError, OutputError: what was given cannot be used.
        VerificationError: the result differs from the module that was trained.
        Interrupted: Ctrl-C; the same call goes on.
    """
    tuning, folder = tuning or Tuning(), Path(folder)
    target = folder if out is None else Path(out)
    check_output(target, force=force or target == folder)
    wanted = artifacts(emit)
    clock, notes = Clock((observer or Silent()) if rank() == 0 else Silent()), Notes()
    with clock.phase("load", "loading both networks"):
        opened = _open(folder, teacher, example_inputs, input_shapes, notes)
    with clock.phase("data", "loading data"):
        data = fed(train, opened.original, notes, seed, preprocess)
        report = None
        if report_data is not None:
            how: dict[str, Any] = {"preprocess": preprocess, "limit": REPORT_SAMPLES, "seed": seed}
            report = load_data(report_data, opened.original, option="--report-data", **how)
    kept, file = opened.channels.kept(opened.removal), tuning_path(target)
    task = Task(opened.student, opened.original, kept, data, seed, metric, file, fresh)
    with joined(tuning.device) as world:
        with clock.phase("tune", "training"):
            graph, line = tuned(task, tuning, world, notes, clock.observer, keep_on_interrupt=keep_on_interrupt)
        found = (opened.original, graph, opened.removal, opened.plan, opened.summary)
        result = Result(*found, None, channels=opened.channels, origin=opened.origin)
        if not world.first:
            return result
    with clock.phase("report", "measuring on the report's samples"):
        measured, line = _measured(opened, graph, report, metric, tuning, notes, line)
    summary = _summary(opened, graph, line, measured, clock, notes)
    if emit is None and not (folder / "model.py").is_file():
        wanted = ("onnx",)
    clock.observer.phase(f"writing {target}")
    return _write(opened, result, summary, target, wanted, input_shapes, notes, force=force)


def _open(
    folder: Path, teacher: Any, example_inputs: Any, input_shapes: Mapping[str, Shape] | None, notes: Notes
) -> _Opened:
    """Read the folder and the original.

    Raises:
        InputError: a file is missing or broken.
        UsageError: the original is not found.
        PlanError: it is another network.
    """
    if not folder.is_dir():
        raise InputError("no such folder", where=str(folder))
    summary, plan = Summary.read(folder), Plan.read(folder)
    written = folder / "model.onnx"
    if not written.is_file():
        raise InputError("holds no model.onnx", where=str(folder), hint="compile with --emit onnx,torch")
    source = _found(folder, summary) if teacher is None else teacher
    network = captured(source, example_inputs=example_inputs, input_shapes=input_shapes)
    original = network.graph
    if model_hash(source, original) != summary.inputs.get("model"):
        if teacher is None:
            hint = "give --teacher, the original network"
            raise UsageError("is not the file that was compiled", where=str(source), hint=hint)
        notes.add("the teacher is not the very network that was compiled")
    channels = analyze(original, exact=plan.exact)
    removal = removal_of(plan, channels)
    student = infer(from_onnx(written, input_shapes=input_shapes))
    return _Opened(folder, summary, plan, channels, removal, student, network.origin)


def _found(folder: Path, summary: Summary) -> Path:
    """The original by its name, in the working directory or beside the folder."""
    for place in (Path(), folder.parent):
        if (place / summary.model).is_file():
            return place / summary.model
    raise UsageError(f"the original, '{summary.model}', is not here", hint="give it with --teacher")


def _measured(
    opened: _Opened,
    graph: Graph,
    report: Dataset | None,
    metric: str | Callable[..., Any] | None,
    tuning: Tuning,
    notes: Notes,
    line: TuningLine,
) -> tuple[MetricLine, TuningLine]:
    """The metric on the report's samples."""
    if report is None:
        notes.add("the metric was not measured on samples apart from the training's: give --report-data")
        return MetricLine(name=line.metric, search=None, report=None), line
    judge = Evaluator(opened.original, report, metric, threads=tuning.threads)
    found = Measured(samples=len(report), source=report.source, before=judge.original, after=judge.score(graph))
    line = line.model_copy(update={"untrained": judge.score(opened.student)})
    return MetricLine(name=judge.name, search=None, report=found), line


def _summary(
    opened: _Opened, graph: Graph, line: TuningLine, metric: MetricLine, clock: Clock, notes: Notes
) -> Summary:
    """The folder's summary with what the training changed."""
    before = opened.summary
    if before.guarantee is not None:
        notes.add("the guarantee was shown for the weights before the training, and is gone")
    totals = before.totals
    more = {
        name: getattr(totals, name).after + count(graph) - count(opened.student)
        for name, count in (("params", parameter_count), ("bytes", weight_bytes))
    }
    totals = totals.model_copy(
        update={name: getattr(totals, name).model_copy(update={"after": after}) for name, after in more.items()}
    )
    sparsity = before.sparsity
    if opened.plan.sparsity is not None:
        sparsity = sparsity_line(planned_layers(opened.plan.sparsity, opened.original), graph)
    seconds = {**before.timings.seconds, "tune": clock.seconds["tune"]}
    return before.model_copy(
        update={
            "metric": metric,
            "totals": totals,
            "sparsity": sparsity,
            "guarantee": None,
            "tuning": (*before.tuning, line),
            "warnings": (*before.warnings, *(text for text in notes.texts if text not in before.warnings)),
            "timings": before.timings.model_copy(update={"seconds": seconds}),
        }
    )


def _write(
    opened: _Opened,
    result: Result,
    summary: Summary,
    target: Path,
    wanted: Any,
    input_shapes: Mapping[str, Shape] | None,
    notes: Notes,
    *,
    force: bool,
) -> Result:
    """Write the folder.

    Raises:
        OutputError: it cannot be written.
    """
    from amcc.report_html import html

    reopened = _reopened(opened, result.graph, input_shapes, notes)
    with output_folder(target, force=force or target == opened.folder) as folder:
        _emit(result.graph, folder, wanted, notes, reopened)
        for name in ("plan.json", "masks.safetensors", "journal.jsonl"):
            if (opened.folder / name).is_file():
                shutil.copyfile(opened.folder / name, folder / name)
        summary = summary.model_copy(
            update={"files": hashes(folder), "warnings": tuple(dict.fromkeys((*summary.warnings, *notes.texts)))}
        )
        (folder / "report.html").write_text(html(summary, records(folder / "journal.jsonl")), encoding="utf-8")
        summary.write(folder / "summary.json")
    tuning_path(target).unlink(missing_ok=True)
    return replace(result, summary=summary, folder=target, reopened=reopened)


def _reopened(opened: _Opened, graph: Graph, input_shapes: Mapping[str, Shape] | None, notes: Notes) -> Graph | None:
    """The trained weights in the file's own graph, whose sizes are free; None where all are fixed."""
    written = opened.folder / "model.onnx"
    if not input_shapes or not (free := free_shapes(written, input_shapes)):
        return None
    whole = with_room(infer(from_onnx(written, input_shapes=free)), graph)
    before = with_room(opened.student, graph)
    changed = {name: a for name, a in graph.params.items() if not np.array_equal(a, before.params[name])}
    if any(name not in whole.params or whole.params[name].shape != a.shape for name, a in changed.items()):
        notes.add(f"model.onnx takes {spelled({n: graph.shape(n) for n in free})} only: a trained weight is computed")
        return None
    return whole.with_params(changed)
