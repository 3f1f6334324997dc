"""The certificate: pure slices equal the original with the removed units' consumers zeroed.

The two sides share as little as possible. The masked original (`amcc.masking`) is the user's own file: a zero
mask is multiplied into every operand that is summed over a removed unit, which is the same as zeroing the
consumers' weights, a node that computes statistics over an axis of which units go computes them over the
survivors, and nothing else is touched. The other side is the shrunk graph. Both run in ONNX
Runtime on the same random inputs. A squashing tail (a saturated softmax, say) could hide a
difference, so the last sums in front of every output are compared too, at the indices that stay. What such
a tail gives is measured against its range: the runtime's approximations of it have no smaller error.

A network that rounds what it computes can turn a difference in the last bit, between two sums of the same numbers,
into a whole step. It gets several inputs, of which the best counts: a fault shows with every one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.backends.draws import settle
from amcc.backends.runtime import LITERAL, Session
from amcc.data import Dataset
from amcc.errors import ModelError, RunError, VerificationError
from amcc.ir import Array, Graph
from amcc.masking import masked_file, masked_graph
from amcc.passes.batching import Batching, batching
from amcc.passes.channels import Channels, Removal
from amcc.passes.recovery.masked import NO_MASKS, Masks
from amcc.passes.regions import closed
from amcc.passes.rules import rule_of
from amcc.synthetic import that_runs

if TYPE_CHECKING:
    import onnx

TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
# What a network that rounds is allowed: some steps of eight bits.
STEPS = 5e-2
# Operators with values in [-1, 1], and those that stay in it with one operand, or several, that are.
_SQUASHING = frozenset({"Sigmoid", "HardSigmoid", "Softmax", "Tanh", "Erf", "Softsign"})
_STAYING = frozenset(
    {
        *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather"),
        *("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceMin"),
    }
)
_STAYING_TOGETHER = frozenset({"Concat", "Max", "Min", "Mul"})
_TRIES = 3
_SAMPLES = 2


@dataclass(frozen=True)
class Certificate:
    """The measured error of a cut.

    Attributes:
        error: the largest difference of any output, relative to that output's largest magnitude, or to 1 where
            the output is squashed into [-1, 1].
        tolerance: what the network's precision allows.
        outputs: the error of each output, and of each last sum in front of one.
        seed: of the random inputs.
    """

    error: float
    tolerance: float
    outputs: Mapping[str, float]
    seed: int

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; never with NaN on one side only."""
        return self.error <= self.tolerance

    def demand(self) -> None:
        """Raise `VerificationError` unless the check passed."""
        if not self.passed:
            worst = max(self.outputs, key=lambda name: self.outputs[name])
            raise VerificationError(
                f"output '{worst}' of the shrunk network differs from the masked original by {self.error:.2e}, "
                f"more than {self.tolerance:.0e}",
                hint="this is a fault of amcc: please report the model",
            )


def certify(
    original: Path | Graph,
    channels: Channels,
    removal: Removal,
    shrunk: Graph,
    *,
    seed: int = 0,
    samples: Dataset | None = None,
    zeros: Masks = NO_MASKS,
) -> Certificate:
    """Run the masked original and the shrunk graph side by side.

    Args:
        original: the user's file, or the captured graph of a module.
        channels: the analysis of the original.
        removal: what the plan removes.
        shrunk: pure slices of the original weights (`amcc.passes.rewrite.shrink`).
        samples: for a network that runs on nothing random, of which the first are taken.
        zeros: masks of parameters, false where the masked original reads zeros.

    Raises:
        ModelError: ONNX Runtime cannot run one of the two.
    """
    watched = (*shrunk.outputs, *last_sums(shrunk))
    result = Session(shrunk, outputs=watched, literal=True)
    precise = TOLERANCE.get(result.precision, 1e-4)
    ranges = {name: 1.0 for name in shrunk.outputs if _is_squashed(shrunk, name) and last_sums(shrunk, name)}
    steps = rounds(shrunk)

    def expected(data: Dataset) -> list[tuple[Mapping[str, Array], Mapping[str, Array] | RunError]]:
        """What each run feeds, and what the masked original gives; an error where only the mask is to blame."""
        return [(feeds, _masked_outputs(original, channels, removal, feeds, watched, zeros)) for feeds in data.runs()]

    best: dict[str, float] = {}
    for attempt in range(_TRIES if steps else 1):
        try:
            runs = that_runs(channels.graph, _SAMPLES, expected, seed=seed + attempt)
        except RunError:
            if samples is None:
                raise
            runs = expected(samples.take(np.arange(min(_SAMPLES, len(samples)))))
        errors: dict[str, float] = {}
        for feeds, masked in runs:
            if isinstance(masked, RunError):
                raise masked
            found = _errors(channels, removal, result.run(feeds), masked, ranges)
            errors = {name: max(error, errors.get(name, 0.0)) for name, error in found.items()}
        if not best or max(errors.values()) < max(best.values()):
            best = errors
        if max(best.values(), default=0.0) <= precise:
            break
    return Certificate(max(best.values(), default=0.0), max(precise, STEPS) if steps else precise, best, seed)


def rounds(graph: Graph) -> bool:
    """Whether a network rounds what it computes: a difference in the last bit can become a whole step."""
    return any("Quantize" in node.op or node.op.startswith("QLinear") for node in graph.nodes)


def _errors(
    channels: Channels,
    removal: Removal,
    found: Mapping[str, Array],
    masked: Mapping[str, Array],
    ranges: Mapping[str, float],
) -> dict[str, float]:
    """The difference of each value at the indices that stay."""
    kept = channels.kept(removal)
    errors: dict[str, float] = {}
    for name, own in found.items():
        expected = masked[name]
        for axis in range(expected.ndim):
            if (name, axis) in kept:
                period = np.arange(0, expected.shape[axis], len(channels.axes[name, axis]))
                expected = expected.take((period[:, None] + kept[name, axis]).ravel(), axis)
        errors[name] = difference(own, expected, ranges.get(name, 0.0))
    return errors


def last_sums(graph: Graph, *outputs: str) -> tuple[str, ...]:
    """The values of the last nodes that sum with weights, in front of these outputs or, without any, of each one.

    Those of loops, and of branches that may not fit the inputs, are passed over.
    """
    found: dict[str, None] = {}
    pending, shut = list(outputs or graph.outputs), closed(graph)
    seen = set(pending)
    while pending:
        node = graph.producers.get(pending.pop())
        if node is None:
            continue
        known = node.name not in shut and all(graph.values[v].shape is not None for v in node.inputs if v)
        if known and rule_of(node).contracts(graph, node):
            found[next(filter(None, node.outputs))] = None
        else:
            fresh = [name for name in node.reads if name not in seen]
            pending.extend(fresh)
            seen.update(fresh)
    return tuple(sorted(name for name in found if name not in graph.outputs))


def with_original_weights(shipped: Graph, pure: Graph) -> Graph:
    """The shipped graph with repaired weights put back to the pure slices: what the certificate speaks of.

    Raises:
        VerificationError: the two differ in more than the values of weights.
    """
    for name in shipped.params.keys() - pure.params.keys():
        raise VerificationError(f"the shipped model holds a parameter '{name}' that the plan does not give")
    return shipped.with_params({name: pure.params[name] for name in shipped.params})


def _is_squashed(graph: Graph, name: str) -> bool:
    """Whether a value comes out of squashing operators and stays in their range."""
    node = graph.producers.get(name)
    if node is None or node.domain:
        return False
    if node.op in _STAYING:
        return _is_squashed(graph, node.inputs[0])
    if node.op in _STAYING_TOGETHER:
        return all(_is_squashed(graph, value) for value in node.inputs)
    return node.op in _SQUASHING


def difference(found: Array, expected: Array, least: float = 0.0) -> float:
    """The largest difference relative to the largest magnitude expected; infinite if shapes or non-finites differ.

    Args:
        least: the magnitude that the difference is relative to, at least.
    """
    if found.shape != expected.shape:
        return float("inf")
    if found.dtype.kind not in "fV" and expected.dtype.kind not in "fV":
        return float((found != expected).mean()) if found.size else 0.0
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    gap, scale = np.abs(a - b, where=finite, out=np.zeros_like(b)), np.abs(b, where=finite, out=np.zeros_like(b))
    if not np.isfinite(gap).all():
        return float("inf")
    largest = max(float(scale.max(initial=0.0)), least)
    return float(gap.max(initial=0.0)) / largest if largest else float(gap.max(initial=0.0))


def _masked_outputs(
    original: Path | Graph,
    channels: Channels,
    removal: Removal,
    inputs: Mapping[str, Array],
    watched: Sequence[str],
    zeros: Masks,
) -> Mapping[str, Array] | RunError:
    """Outputs by name, or the error if the original itself runs on these inputs.

    Raises:
        RunError: neither runs.
    """
    try:
        return _run_masked(original, channels, removal, inputs, watched, zeros)
    except RunError as error:
        try:
            Session(channels.graph).run(inputs)
        except RunError:
            raise error from None
        return error


def _run_masked(
    original: Path | Graph,
    channels: Channels,
    removal: Removal,
    inputs: Mapping[str, Array],
    watched: Sequence[str],
    zeros: Masks,
) -> Mapping[str, Array]:
    """Both sides of a condition are watched by running both; the file itself runs one."""
    results: Mapping[str, Array] = {}
    if isinstance(original, Path):
        model = masked_file(original, channels, removal, watched, zeros)
        found = None if model is None else _run_file(model, original.parent, inputs, batching(channels.graph))
        results = found or results
    if results.keys() >= set(watched):
        return results
    masked = masked_graph(channels, removal, zeros)
    return {**Session(masked, outputs=watched, literal=True).run(inputs), **results}


def _run_file(
    model: onnx.ModelProto, folder: Path, inputs: Mapping[str, Array], how: Batching
) -> Mapping[str, Array] | None:
    """Outputs by name; None where ONNX Runtime lacks the model's precision, or the model is fixed to other batches."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unimplemented

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(LITERAL, "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    settle(model)
    kind = ModelError
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        kind = RunError
        wanted = {i.name: i.shape for i in session.get_inputs()}
        batch = {wanted[name][0] for name in wanted if wanted[name] and how.axis(name) == 0}
        if not how.alone and any(isinstance(b, int) and b != _SAMPLES for b in batch):
            return _one_by_one(session, batch, wanted, inputs, how)
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, {n: inputs[n] for n in wanted}), strict=True))
    except Unimplemented:
        return None
    except Exception as error:  # the runtime's exceptions have no common base but this
        raise kind(f"ONNX Runtime cannot run the original: {' '.join(str(error).split())[:400]}") from None


def _one_by_one(
    session: Any, batch: set[object], wanted: Mapping[str, object], inputs: Mapping[str, Array], how: Batching
) -> Mapping[str, Array] | None:
    """Runs of one sample each, joined, for models fixed to a batch of one."""
    if batch != {1}:
        return None
    names = [o.name for o in session.get_outputs()]
    feeds = (how.feeds(inputs, i, i + 1) for i in range(how.count(inputs)))
    runs = [map(np.atleast_1d, session.run(names, {n: one[n] for n in wanted})) for one in feeds]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*runs, strict=True), strict=True)}


__all__ = ["Certificate", "certify", "difference", "last_sums", "rounds", "with_original_weights"]
