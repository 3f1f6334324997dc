"""The certificate: pure slices equal the original with the removed units' consumers zeroed.

The two sides share as little as possible. The masked original is the user's own file: a zero mask is
multiplied into every operand that is summed over a removed unit, which is the same as zeroing the
consumers' weights, and nothing else is touched. The other side is the shrunk graph. Both run in ONNX
Runtime on the same random inputs. A squashing tail (a saturated softmax, say) could hide a
difference, so the last sums in front of every output are compared too, at the indices that stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.backends.runtime import Session
from amcc.errors import ModelError, VerificationError
from amcc.ir import Array, Graph, Node, Value, frozen
from amcc.passes.channels import Channels, Removal
from amcc.passes.rules import rule_of
from amcc.synthetic import synthetic

if TYPE_CHECKING:
    import onnx

TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
_SAMPLES = 2


@dataclass(frozen=True)
class Certificate:
    """The measured error of a cut.

    Attributes:
        error: the largest difference of any output, relative to that output's largest magnitude.
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
    original: Path | Graph, channels: Channels, removal: Removal, shrunk: Graph, *, seed: int = 0
) -> Certificate:
    """Run the masked original and the shrunk graph side by side.

    Args:
        original: the user's file, or the captured graph of a module.
        channels: the analysis of the original.
        removal: what the plan removes.
        shrunk: pure slices of the original weights (`amcc.passes.rewrite.shrink`).
    """
    inputs = synthetic(channels.graph, _SAMPLES, seed=seed).inputs
    watched = (*shrunk.outputs, *last_sums(shrunk))
    result = Session(shrunk, outputs=watched)
    tolerance = TOLERANCE.get(result.precision, 1e-4)
    masked = _run_masked(original, channels, removal, inputs, watched)
    found, kept = result.run(inputs), channels.kept(removal)
    errors: dict[str, float] = {}
    for name in watched:
        expected = masked[name]
        for axis in range(expected.ndim):
            if (name, axis) in kept:
                expected = expected.take(kept[name, axis], axis)
        errors[name] = difference(found[name], expected)
    return Certificate(max(errors.values(), default=0.0), tolerance, errors, seed)


def last_sums(graph: Graph) -> tuple[str, ...]:
    """The values of the last nodes in front of each output that sum with weights."""
    found: dict[str, None] = {}
    pending, seen = list(graph.outputs), set(graph.outputs)
    while pending:
        node = graph.producers.get(pending.pop())
        if node is None:
            continue
        if all(graph.values[v].shape is not None for v in node.inputs if v) and rule_of(node).contracts(graph, node):
            found[node.outputs[0]] = None
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


def difference(found: Array, expected: Array) -> float:
    """The largest difference relative to the largest magnitude expected; infinite if shapes or non-finites differ."""
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
    largest = float(scale.max(initial=0.0))
    return float(gap.max(initial=0.0)) / largest if largest else float(gap.max(initial=0.0))


# -- the masked original -----------------------------------------------------------------------------


def _masks(channels: Channels, removal: Removal) -> Iterator[tuple[Node, int, Array]]:
    """For each operand that is summed over removed units: node, input, `[..., n, ...]` ones and zeros."""
    kept, graph = channels.kept(removal), channels.graph
    nodes = {node.name: node for node in graph.nodes}
    for place in channels.contractions:
        node = nodes[place.node]
        value = graph.values[node.inputs[place.input]]
        if (value.name, place.axis) in kept:
            shape = graph.shape(value.name)
            line = np.zeros(int(shape[place.axis]), np.dtype(value.dtype))
            line[kept[value.name, place.axis]] = 1
            yield node, place.input, line.reshape([-1 if a == place.axis else 1 for a in range(len(shape))])


def _run_masked(
    original: Path | Graph, channels: Channels, removal: Removal, inputs: Mapping[str, Array], watched: Sequence[str]
) -> Mapping[str, Array]:
    if isinstance(original, Path):
        model = masked_file(original, channels, removal, watched)
        results = None if model is None else _run_file(model, original.parent, inputs)
        if results is not None:
            return results
    return Session(masked_graph(channels, removal), outputs=watched).run(inputs)


def masked_file(
    path: Path, channels: Channels, removal: Removal, watched: Sequence[str] = ()
) -> onnx.ModelProto | None:
    """The user's file with masks put in; None if it holds other nodes than the graph (functions, old opsets).

    Args:
        watched: values to give back as well.
    """
    import onnx_graphsurgeon as gs

    from amcc.frontends.onnx_file import read_model

    surgeon = gs.import_onnx(read_model(path))
    makers = {output.name: node for node in surgeon.nodes for output in node.outputs}
    for number, (node, operand, mask) in enumerate(_masks(channels, removal)):
        target = makers.get(node.outputs[0])
        if target is None or target.op != node.op or target.inputs[operand].name != node.inputs[operand]:
            return None
        zeroed = gs.Variable(f"amcc_masked_{number}", dtype=mask.dtype)
        constant = gs.Constant(f"amcc_mask_{number}", mask)
        surgeon.nodes.append(gs.Node("Mul", inputs=[target.inputs[operand], constant], outputs=[zeroed]))
        target.inputs[operand] = zeroed
    tensors, given = surgeon.tensors(), {output.name for output in surgeon.outputs}
    for name in watched:
        if name not in tensors:
            return None
        if name not in given:
            tensors[name].dtype = np.dtype(channels.graph.values[name].dtype)
            surgeon.outputs.append(tensors[name])
    surgeon.toposort()
    masked: onnx.ModelProto = gs.export_onnx(surgeon, do_type_check=False)
    return masked


def _run_file(model: onnx.ModelProto, folder: Path, inputs: Mapping[str, Array]) -> Mapping[str, Array] | None:
    """Outputs by name; None where ONNX Runtime lacks the model's precision, or the model is fixed to other batches."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unimplemented

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = {i.name: i.shape for i in session.get_inputs()}
        batch = {shape[0] for shape in wanted.values() if shape}
        if any(isinstance(b, int) and b != _SAMPLES for b in batch):
            return _one_by_one(session, batch, wanted, inputs)
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, {n: inputs[n] for n in wanted}), strict=True))
    except Unimplemented:
        return None
    except Exception as error:  # the runtime's exceptions have no common base but this
        raise ModelError(f"ONNX Runtime cannot run the original: {' '.join(str(error).split())[:400]}") from None


def _one_by_one(
    session: Any, batch: set[object], wanted: Mapping[str, object], inputs: Mapping[str, Array]
) -> Mapping[str, Array] | None:
    """Runs of one sample each, joined, for models fixed to a batch of one."""
    if batch != {1}:
        return None
    names = [o.name for o in session.get_outputs()]
    runs = [session.run(names, {n: inputs[n][i : i + 1] for n in wanted}) for i in range(_SAMPLES)]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*runs, strict=True), strict=True)}


def masked_graph(channels: Channels, removal: Removal) -> Graph:
    """The original graph with masks put in."""
    graph = channels.graph
    values, params = dict(graph.values), dict(graph.params)
    swaps: dict[str, dict[int, str]] = {}
    extra: dict[str, list[Node]] = {}
    for number, (node, operand, mask) in enumerate(_masks(channels, removal)):
        name, source = f"amcc_mask_{number}", graph.values[node.inputs[operand]]
        zeroed = f"amcc_masked_{number}"
        params[name] = frozen(mask)
        values[name] = Value(name, source.dtype, mask.shape)
        values[zeroed] = Value(zeroed, source.dtype, source.shape)
        extra.setdefault(node.name, []).append(Node(f"{zeroed}/Mul", "Mul", (source.name, name), (zeroed,)))
        swaps.setdefault(node.name, {})[operand] = zeroed
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.extend(extra.get(node.name, ()))
        swap = swaps.get(node.name, {})
        nodes.append(node.replace(inputs=tuple(swap.get(i, name) for i, name in enumerate(node.inputs))))
    return graph.replace(nodes=tuple(nodes), values=values, params=params)


__all__ = ["Certificate", "certify", "difference", "last_sums", "masked_file", "masked_graph", "with_original_weights"]
