"""What amcc makes of one ONNX file: analysis, reach, and half its MACs with `--search uniform --recover none`.

The stages are those of `amcc compile`, on one capture of the network; fidelity and latency are not measured.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from _coverage.blame import failing_side, first_difference, inputs_of
from _coverage.jobs import Found, Reporter, memory

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from amcc.ir import Array, Graph
    from amcc.passes.channels import Channels, Removal
    from amcc.stages import Subject

BUDGET = "flops=0.5"
TOLERANCE = 1e-4
_REASONS = 12


def run(path: Path, report: Reporter) -> None:
    """Measure one file; every end is reported as a status.

    ok: a valid smaller network within the budget; exit3: out of reach, with a bound that was reached; wrong: the
    result differs, is invalid, not finite or over the budget; refused: amcc or ONNX Runtime cannot read the file.
    """
    from amcc.errors import AmccError, BudgetError, VerificationError

    report(stage="import", mb=round(path.stat().st_size / 1e6, 2))
    import amcc.certificate  # noqa: F401

    _warm_up()
    try:
        _measure(path, report)
    except BudgetError as error:
        report(status="exit3", cause=str(error)[:600])
    except VerificationError as error:
        report(status="wrong", cause=str(error)[:600])
    except AmccError as error:
        report(status="wrong" if report.found.get("original") == "runs" else "refused", cause=str(error)[:600])
    except Exception as error:
        report.crashed(error)


def _warm_up() -> None:
    """Analyse two convolutions, so that imports are not measured."""
    from onnx import TensorProto, helper, numpy_helper

    from amcc.frontends.from_onnx import from_proto
    from amcc.passes.channels import analyze
    from amcc.passes.shapes import infer

    weights = [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), name) for name in "ab"]
    nodes = [helper.make_node("Conv", ["x", "a"], ["y"]), helper.make_node("Conv", ["y", "b"], ["z"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in "xz"]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    analyze(infer(from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))))


def _measure(path: Path, report: Reporter) -> None:
    from amcc.frontends.load import load
    from amcc.passes.channels import analyze
    from amcc.passes.cost import node_macs, parameter_count
    from amcc.stages import Subject

    base = memory("VmRSS")
    report(stage="load")
    begin = time.process_time()
    graph = load(path)
    report(load=_since(begin), base=base, load_peak=memory())
    report(stage="analyse", nodes=len(graph.nodes), macs=sum(node_macs(graph).values()), params=parameter_count(graph))
    begin = time.process_time()
    channels = analyze(graph)
    report(analysis=_since(begin), analysis_peak=memory(), **_facts(channels))
    report(stage="reach")
    reach = _reach(channels)
    report(reach=reach)
    inexact = any(group.inexact for group in channels.groups)
    report(reach_exact=_reach(analyze(graph, exact=True)) if inexact else reach)
    report(stage="original")
    _compile(Subject(path.name, path, "", channels), path, _run_original(path, graph, report), report)


def _since(begin: float) -> float:
    return round(time.process_time() - begin, 4)


def _reach(channels: Channels) -> float:
    """The smallest share of the MACs that a plan can leave: one unit of every group."""
    from amcc.problems import within_reach

    return round(1 - within_reach(channels), 6)


def _facts(channels: Channels) -> Found:
    """Groups, units, and the ledger summed up by operator and reason, shares of all MACs."""
    from amcc.passes.cost import node_macs

    whole = max(sum(node_macs(channels.graph).values()), 1)
    shares: dict[tuple[str, str], float] = {}
    for lock in channels.ledger:
        key = (lock.op, lock.reason)
        shares[key] = shares.get(key, 0.0) + lock.macs / whole
    costly = sorted(shares.items(), key=lambda item: -item[1])[:_REASONS]
    return {
        "groups": len(channels.groups),
        "inexact_groups": sum(group.inexact for group in channels.groups),
        "units": channels.units,
        "locks": len(channels.ledger),
        "ledger": [[op, reason, round(share, 4)] for (op, reason), share in costly],
    }


@dataclass(frozen=True)
class _Sample:
    """Inputs, and what the file itself gives for them."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    def difference(self, outputs: Mapping[str, Array]) -> float:
        """Largest relative difference of any output."""
        from amcc.certificate import difference

        return max((difference(np.asarray(outputs[n]), np.asarray(a)) for n, a in self.outputs.items()), default=0.0)


def _run_original(path: Path, graph: Graph, report: Reporter) -> _Sample:
    """The user's file in ONNX Runtime, untouched.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    from amcc.backends.runtime import Session
    from amcc.errors import ModelError, RunError

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return _outputs(session, feeds)
        except Exception as error:  # the runtime's exceptions have no common base but this
            raise RunError(_cannot_run(error)) from None

    try:
        session = _session(path)
        inputs, outputs = inputs_of(graph, 1, run)
    except ModelError:
        report(original="fails")
        raise
    except Exception as error:  # as above
        report(original="fails")
        raise ModelError(_cannot_run(error)) from None
    sample = _Sample(inputs, outputs)
    report(original="runs", original_finite=_finite(outputs), captured=sample.difference(Session(graph).run(inputs)))
    return sample


def _cannot_run(error: Exception) -> str:
    return f"ONNX Runtime cannot run the original: {' '.join(str(error).split())[:300]}"


def _session(path: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _outputs(session: InferenceSession, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {i.name: inputs[i.name] for i in session.get_inputs()}), strict=True))


def _finite(outputs: Mapping[str, Any]) -> bool:
    arrays = [a for a in outputs.values() if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    return all(bool(np.isfinite(a).all()) for a in arrays)


def _compile(subject: Subject, path: Path, sample: _Sample, report: Reporter) -> None:
    """Find the plan, cut, certify, write, and look at what was written."""
    from amcc.budget import Budget
    from amcc.errors import BudgetError
    from amcc.problems import problem_of
    from amcc.search import search
    from amcc.settings import Settings
    from amcc.stages import check_prunable, learn

    report(stage="plan")
    channels, settings = subject.channels, Settings(search="uniform", recover="none")
    check_prunable(channels)
    begin = time.process_time()
    learned = learn(subject, cast("Any", None), settings)  # magnitudes alone: no calibration
    problem = problem_of(subject, learned, Budget.parse(BUDGET), settings, lambda graph: 0.0)
    report(floor=round(problem.floor.flops / max(problem.original.flops, 1), 6))
    try:
        problem.check_reachable()
    except BudgetError:
        report(stage="bound")
        _check(subject, channels.removal(problem.smallest, learned.orders), path, sample, problem.floor.flops, report)
        report(bound="true" if report.found["left"] == problem.floor.flops else "false")
        if report.found.get("status") == "wrong":
            return
        raise
    keep = search(problem, "uniform", episodes=1, seed=0).best.keep
    report(plan=_since(begin))
    limit = problem.limits.flops
    assert limit is not None
    _check(subject, channels.removal(keep, learned.orders), path, sample, limit, report)
    if "status" not in report.found:
        report(status="ok")


def _check(subject: Subject, removal: Removal, path: Path, sample: _Sample, limit: int, report: Reporter) -> None:
    """Cut and certify; reports status `wrong` with its cause where something does not hold."""
    from amcc.backends.to_onnx import write_onnx
    from amcc.certificate import certify
    from amcc.errors import ModelError
    from amcc.passes.cost import node_macs
    from amcc.passes.rewrite import check_shapes, shrink

    channels = subject.channels
    report(stage="cut")
    begin = time.process_time()
    shrunk = shrink(channels, removal)
    check_shapes(shrunk)
    used = [channels.groups[i] for i, gone in removal.items() if len(gone)]
    left = sum(node_macs(shrunk).values())
    report(cut=_since(begin), left=left, ratio=round(left / max(report.found["macs"], 1), 6))
    report(used_groups=len(used), used_inexact=sum(group.inexact for group in used))
    report(stage="certificate")
    begin = time.process_time()
    try:
        certificate = certify(path, channels, removal, shrunk)
    except ModelError as error:
        report(status="wrong", cause=str(error)[:400], stage="blame")
        report(cause=failing_side(channels, removal, shrunk)[:600])
        return
    report(certificate=certificate.error, certify=_since(begin))
    if not certificate.passed:
        _wrong(channels, removal, shrunk, f"certificate {certificate.error:.1e}", report)
        return
    if left > limit:
        report(status="wrong", cause=f"{left} MACs left, {limit} allowed")
        return
    report(stage="result")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.onnx"
        write_onnx(shrunk, written)
        report(result_mb=round(written.stat().st_size / 1e6, 2))
        if fault := _fault(written, path, sample, left):
            report(status="wrong", cause=fault)


def _fault(written: Path, path: Path, sample: _Sample, macs: int) -> str:
    """What is wrong with the file that was written; nothing if it is well."""
    from amcc.frontends.load import load
    from amcc.passes.cost import node_macs
    from amcc.shipping import objection_to

    if (objection := objection_to(written)) and not objection_to(path):
        return f"onnx's checker refuses the result: {objection}"
    try:
        outputs = _outputs(_session(written), sample.inputs)
    except Exception as error:  # the runtime's exceptions have no common base but this
        return f"ONNX Runtime refuses the result: {' '.join(str(error).split())[:300]}"
    if list(outputs) != list(sample.outputs):
        return f"outputs {list(outputs)} instead of {list(sample.outputs)}"
    if not _finite(outputs) and _finite(sample.outputs):
        return "outputs are not finite"
    counted = sum(node_macs(load(written)).values())
    return "" if counted == macs else f"the file has {counted} MACs, the plan {macs}"


def _wrong(channels: Channels, removal: Removal, shrunk: Graph, fault: str, report: Reporter) -> None:
    report(status="wrong", cause=fault, stage="blame")
    try:
        where = first_difference(channels, removal, shrunk, TOLERANCE)
    except Exception as error:  # a search for a fault may meet the fault
        where = f"not found: {type(error).__name__}: {str(error)[:200]}"
    report(cause=f"{fault}; {where}")
