"""The stages after the search: cut, certificate, repair, measurements, artifacts, report."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amcc.artifacts import hashes, journal_path, output_folder
from amcc.bench import bench
from amcc.certificate import certify
from amcc.deadline import beside
from amcc.errors import AmccError, BudgetError, ModelError, VerificationError
from amcc.finals import recovered
from amcc.ir import Graph
from amcc.latency.device import device_of
from amcc.metric import Evaluator
from amcc.passes.batching import batching
from amcc.passes.channels import Channels, Removal
from amcc.passes.rewrite import check_shapes
from amcc.plan import Plan
from amcc.reopened import Reopened, free_shapes, original_file, reopen, spelled, variants
from amcc.settings import Artifact
from amcc.shipment import Shipment, budget_lines, summarize
from amcc.stages import Notes, described
from amcc.study import Study
from amcc.summary import FreeLine, Latency, Measured, MetricLine, Summary, Timings
from amcc.synthetic import synthetic
from amcc.tuning.norms import with_room

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from amcc.frontends.load import Origin
    from amcc.own_class import Shrunk

_BENCH_RUNS, _BENCH_SECONDS = 200, 2.0
_EXPORT_SAMPLES = 2


@dataclass(frozen=True)
class Result:
    """A compiled network.

    Attributes:
        original: the network as it came.
        graph: what is shipped, at the size that was analysed.
        reopened: the same with those sizes free that `input_shapes` fixed for the analysis, which is what
            `model.onnx` holds; None where it fixed none, or they could not stay free.
        removal: for a group's number, the units that went.
        channels: the analysis of the original.
        origin: the module that it was captured from; None for a file.
        folder: where the artifacts are; None where none were asked for.
    """

    original: Graph
    graph: Graph
    removal: Removal
    plan: Plan
    summary: Summary
    folder: Path | None
    reopened: Graph | None = None
    channels: Channels | None = None
    origin: Origin | None = None

    @cached_property
    def shrunk(self) -> Shrunk:
        """The network as a PyTorch module, made when it is first asked for; see `amcc.own_class`."""
        from amcc.own_class import shrunk_module, standalone

        if self.origin is None or self.channels is None:
            return standalone(self.graph)
        removal = self.removal if self.plan.sparsity is None else {}
        return shrunk_module(self.origin, self.channels, removal, self.graph)

    @property
    def module(self) -> nn.Module:
        """A copy of the user's module, shrunk, where the class allows it, else the standalone form; trainable."""
        from amcc.own_class import told

        return told(self.shrunk) if self.origin is not None else self.shrunk.module

    def onnx(self) -> onnx.ModelProto:
        """The result as an ONNX model."""
        from amcc.backends.to_onnx import to_onnx

        return to_onnx(self.reopened or self.graph)


def ship(shipment: Shipment, out: Path | None, *, force: bool) -> Result:
    """Cut, certify, repair, measure, and write everything.

    Raises:
        VerificationError: the cut network differs from the masked original.
        OutputError: the folder cannot be written.
    """
    result = finish(shipment)
    if out is None:
        return result
    shipment.study.clock.observer.phase(f"writing {out}")
    return write(shipment, result, out, force=force)


def finish(shipment: Shipment) -> Result:
    """Cut, certify, repair and measure.

    Raises:
        VerificationError: the cut network differs from the masked original.
        BudgetError: a latency was asked for, and the result is too slow.
    """
    study = shipment.study
    clock, subject = study.clock, study.subject
    with clock.phase("rewrite", "cutting"):
        pure, (cut, masks) = subject.pure(shipment.removal), subject.cut(shipment.removal)
        check_shapes(pure)
        _check_memory(shipment)
    with clock.phase("certificate", "checking the cut against the masked original"):
        real = None if study.splits.search.synthetic else study.splits.search
        original = subject.file or subject.graph
        certificate = certify(original, subject.channels, cut, pure, samples=real, zeros=masks)
        certificate.demand()
    final = _recovered(shipment, pure)
    if shipment.training is not None:
        final, line = shipment.training.run(study, subject.channels.kept(cut), final)
        shipment = replace(shipment, lines=(*shipment.lines, line))
    with clock.phase("report", "measuring on the report split"):
        metric = _metric(study, pure, final)
    plan = described(
        subject,
        shipment.removal,
        budget=str(shipment.budget),
        policy=shipment.policy,
        seed=study.settings.seed,
        exact=study.settings.exact,
    )
    reopened, free = _reopened(shipment, plan, pure, final)
    with clock.phase("bench", "measuring latency"):
        before, after = _latency(shipment, reopened or final)
    device = str(subject.latency.device if subject.latency is not None else device_of(study.settings.measuring))
    timings = Timings(seconds=clock.seconds, device=device, before=before, after=after)
    summary = summarize(shipment, final, certificate, metric, timings)
    if free:
        summary = summary.model_copy(update={"free": free})
    return Result(
        subject.graph, final, shipment.removal, plan, summary, None, reopened, subject.channels, subject.origin
    )


def _check_memory(shipment: Shipment) -> None:
    """Of plans the search counts memory quickly, and too low where nodes come or go with the units that stay."""
    for line in budget_lines(shipment) if shipment.search is not None else ():
        if line.resource == "memory" and line.reached > line.limit:
            least = line.limit - (line.reached - line.limit)
            raise BudgetError(
                f"{line.asked}: the plan found takes {line.reached} bytes, counted on the network that it leaves; "
                f"{line.limit} were asked",
                hint=f"what the search goes by was too low for this network: ask for memory={max(least, 1)}B",
            )


def _recovered(shipment: Shipment, pure: Graph) -> Graph:
    study = shipment.study
    if shipment.graph is not None:
        return shipment.graph
    if study.learned.statistics is None:
        return pure
    return recovered(study, shipment.removal, shipment.finalists[0].graph if shipment.finalists else None)


def _reopened(shipment: Shipment, plan: Plan, pure: Graph, final: Graph) -> tuple[Graph | None, tuple[FreeLine, ...]]:
    """What is shipped with sizes free that a number fixed for the analysis; nothing where that cannot be."""
    study = shipment.study
    subject, given, settings = study.subject, study.subject.input_shapes, study.settings
    if not given or not (settings.emit is None or "onnx" in settings.emit):
        return None, ()
    why, takes = "", {name: final.shape(name) for name in given}
    found: tuple[Graph | None, tuple[FreeLine, ...]] = (None, ())

    def told(error: Exception) -> str:
        if not isinstance(error, AmccError):  # the fixed network is sound, whatever went wrong here
            return f"a fault of amcc, {type(error).__name__}: {error}"
        return f"{error.message} ({error.where})" if error.where else error.message

    with study.clock.phase("sizes", "keeping sizes free"), ExitStack() as files:
        try:
            file = files.enter_context(original_file(subject.file, subject.origin))
        except Exception as error:
            study.notes.add(f"model.onnx takes {spelled(takes)} only: {told(error)}")
            return found
        if file is None or not (free := free_shapes(file, given)):
            return found
        for variant in variants(given, free):
            try:
                how: dict[str, Any] = {"locked": settings.lock, "exact": settings.exact, "masks": plan.masks}
                cut = reopen(file, given, variant, plan, **how)
                found = _checked(cut, study, pure, final)
            except Exception as error:
                why = why or told(error)
            else:
                takes = cut.inputs
                break
    if why:
        study.notes.add(f"model.onnx takes {spelled(takes)} only: {why}")
    return found


def _checked(cut: Reopened, study: Study, pure: Graph, final: Graph) -> tuple[Graph, tuple[FreeLine, ...]]:
    pure, cut = with_room(pure, final), replace(cut, pure=with_room(cut.pure, final))
    graph = cut.with_weights(pure, final)
    cut.demand_same(graph, final, samples=None if study.splits.search.synthetic else study.splits.search)
    others = cut.elsewhere()
    for sizes in others:
        cut.certify(cut.pure, sizes).demand()
    _check_as_file(graph, cut.file)
    lines = (
        FreeLine(input=n, shape=s, checked=tuple(at[n] for at in (cut.given, *others))) for n, s in cut.inputs.items()
    )
    return graph, tuple(lines)


def _check_as_file(graph: Graph, original: Path) -> None:
    from amcc.backends.to_onnx import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        write_onnx(graph, Path(folder) / "model.onnx")
        _check(Path(folder) / "model.onnx", original)


def _metric(study: Study, pure: Graph, final: Graph) -> MetricLine:
    """On both splits; the pure slices, which interest few, on the search's alone."""
    evaluator = study.evaluator
    searched = _measured(evaluator, final, None if final is pure else evaluator.score(pure))
    return MetricLine(name=evaluator.name, search=searched, report=_measured(study.reporter, final))


def _measured(evaluator: Evaluator, final: Graph, pure: float | None = None) -> Measured:
    return Measured(
        samples=len(evaluator.data),
        source=evaluator.data.source,
        before=evaluator.original,
        after=evaluator.score(final),
        pure=pure,
    )


def _latency(shipment: Shipment, shipped: Graph) -> tuple[Latency | None, Latency | None]:
    """The times of the original and of what ships; under a budget of latency, in a process of their own.

    Raises:
        BudgetError: a latency was asked for, and what ships is too slow.
    """
    from amcc.backends.to_onnx import write_onnx

    subject, how = shipment.study.subject, shipment.study.settings.measuring
    shapes = {name: subject.graph.shape(name) for name in subject.graph.inputs}
    with tempfile.TemporaryDirectory() as name:
        files = {which: Path(name) / f"{which}.onnx" for which in ("before", "after")}
        try:
            write_onnx(subject.graph, files["before"])
            write_onnx(shipped, files["after"])
            if subject.file is not None and how.hook is None:
                files["before"] = subject.file
            if subject.latency is None and how.hook is not None:
                found = device_of(how).compare(files, shapes)
            elif subject.latency is not None:
                asked = None if shipment.guarantee is not None else shipment.budget
                found = [*beside(subject.latency, files, shapes, asked)]
            else:
                found = bench(
                    files,
                    runs=_BENCH_RUNS,
                    warmup=2,
                    threads=how.threads,
                    batch=how.batch,
                    provider=how.provider,
                    input_shapes=shapes,
                    seconds=_BENCH_SECONDS,
                )
        except (AmccError, OSError):
            if subject.latency is not None or how.hook is not None:
                raise
            return None, None
    before, after = (Latency(low=t.low, median=t.median, spread=t.spread, runs=t.runs) for t in found)
    return before, after


def write(shipment: Shipment, result: Result, out: Path, *, force: bool) -> Result:
    """Write the folder of a finished compilation.

    Raises:
        OutputError: the folder cannot be written.
    """
    from amcc.report_html import html

    journal = journal_path(out)
    with output_folder(out, force=force) as folder:
        emit(result.graph, folder, shipment.study.settings.emit, shipment.study.notes, result.reopened)
        if (folder / "model.onnx").is_file():
            _check(folder / "model.onnx", shipment.study.subject.file)
        result.plan.write(folder / "plan.json")
        if journal.is_file():
            shutil.copyfile(journal, folder / "journal.jsonl")
        warnings = tuple(shipment.study.notes.texts)
        summary = result.summary.model_copy(update={"warnings": warnings, "files": hashes(folder)})
        episodes = shipment.search.records if shipment.search else ()
        (folder / "report.html").write_text(html(summary, episodes), encoding="utf-8")
        summary.write(folder / "summary.json")
    journal.unlink(missing_ok=True)
    if shipment.training is not None:
        shipment.training.clean()
    return replace(result, summary=summary, folder=out)


def _check(written: Path, original: Path | None) -> None:
    """Let onnx's own checker, inference included, look at the result; a file that it refused before may fail again.

    Raises:
        VerificationError: it refuses the result and did not refuse the original.
    """
    if (objection := objection_to(written)) and (original is None or not objection_to(original)):
        raise VerificationError(
            f"onnx's checker refuses the result: {objection}", hint="this is a fault of amcc: please report the model"
        )


def objection_to(model: Path) -> str:
    """What onnx's checker says against a file; nothing if it is well."""
    import onnx

    try:
        onnx.checker.check_model(str(model), full_check=True)
    except Exception as error:  # the checker's errors have no common base
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""


def emit(
    graph: Graph, folder: Path, wanted: Sequence[Artifact] | None, notes: Notes, reopened: Graph | None = None
) -> None:
    """Write `model.onnx`, `model.py` with `model.safetensors`, and `model.pt2`.

    Args:
        reopened: the graph for `model.onnx` with sizes free.

    Raises:
        ModelError: something that was asked for by name cannot be written.
    """
    if wanted is None or "onnx" in wanted:
        from amcc.backends.to_onnx import write_onnx

        write_onnx(reopened or graph, folder / "model.onnx")
    if wanted is None or "torch" in wanted:
        from amcc.backends.to_torch import write_torch

        try:
            write_torch(graph, folder)
        except ModelError as error:
            if wanted is not None:
                raise
            notes.add(f"no PyTorch artifact: {error}")
    if wanted is not None and "pt2" in wanted:
        from amcc.backends.readable import readable
        from amcc.backends.torch_program import write_program

        samples = synthetic(graph, batching(graph).size or _EXPORT_SAMPLES)
        write_program(readable(graph), folder / "model.pt2", samples.runs()[0])
