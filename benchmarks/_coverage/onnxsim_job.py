"""What onnxsim's `apply_structured_pruning` makes of one ONNX file, as it is and simplified first.

The better of the two counts. MACs and parameters are counted by amcc, before and after. The result must load and run
in ONNX Runtime, and agree with what it claims: the original with the removed channels' consumers zeroed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from _coverage.jobs import Found, Reporter, memory

if TYPE_CHECKING:
    import onnx

RATIO, DEEPEST = 0.5, 0.99
TOLERANCE = 1e-3
_LEAST = 0.999  # of the MACs: above it nothing was found
_RANK = ("ok", "nothing", "wrong", "broken", "crash")


def run(path: Path, report: Reporter) -> None:
    """Measure one file."""
    report(stage="import", mb=round(path.stat().st_size / 1e6, 2))
    import onnx
    import onnxsim

    try:
        report(stage="load")
        model = onnx.load(path)
        report(base=memory("VmRSS"), macs=_counted(model)[0])
    except Exception as error:
        report.crashed(error)
        return
    best: Found = {}
    forms: dict[str, Callable[[], onnx.ModelProto]] = {
        "as it is": lambda: model,
        "simplified": lambda: onnxsim.simplify(model)[0],
    }
    for form, make in forms.items():
        report(stage=form)
        try:
            found = _measure(make())
        except Exception as error:
            found = {"status": "crash", "cause": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        order = (_RANK.index(found["status"]), found.get("ratio", 1.0))
        if not best or order < (_RANK.index(best["status"]), best.get("ratio", 1.0)):
            best = {**found, "form": form}
        report(**best)


def _measure(model: onnx.ModelProto) -> Found:
    import onnx
    import onnxsim

    before, parameters = _counted(model)
    given = onnx.ModelProto()
    given.CopyFrom(model)
    begin = time.process_time()
    pruned = onnxsim.apply_structured_pruning(given, sparsity=RATIO)
    seconds = round(time.process_time() - begin, 4)
    if _same_weights(model, pruned):
        return {"status": "nothing", "analysis": seconds, "ratio": 1.0, "reach": 1.0}
    found: Found = {"analysis": seconds}
    try:
        after, left = _counted(pruned)
        found |= {"ratio": round(after / max(before, 1), 6), "params": round(left / max(parameters, 1), 6)}
        error = _difference(model, pruned)
    except Exception as failure:  # the result cannot be read or run
        return {**found, "status": "broken", "cause": " ".join(str(failure).split())[:300]}
    found["certificate"] = error
    if error is not None and not error <= TOLERANCE:
        return {**found, "status": "wrong", "cause": f"differs from the masked original by {error:.1e}"}
    given.CopyFrom(model)
    try:
        found["reach"] = round(_counted(onnxsim.apply_structured_pruning(given, sparsity=DEEPEST))[0] / before, 6)
    except Exception:
        found["reach"] = found["ratio"]
    return {**found, "status": "ok" if found["ratio"] < _LEAST else "nothing"}


def _counted(model: onnx.ModelProto) -> tuple[int, int]:
    """MACs and parameters as amcc counts them; raises what amcc says of a broken file."""
    import onnx

    from amcc.frontends.load import load
    from amcc.passes.cost import node_macs, parameter_count

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        graph = load(path)
    return sum(node_macs(graph).values()), parameter_count(graph)


def _weights(model: onnx.ModelProto) -> dict[str, Any]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _same_weights(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    shapes = [{t.name: tuple(t.dims) for t in model.graph.initializer} for model in (one, other)]
    return shapes[0] == shapes[1]


def _difference(model: onnx.ModelProto, pruned: onnx.ModelProto) -> float | None:
    """Largest relative difference of an output from the masked original; None where that cannot be built."""
    masked = _masked(model, pruned)
    found = _run(pruned)
    if masked is None:
        return None
    expected = _run(masked)
    if any(found[name].shape != expected[name].shape for name in expected):
        raise ValueError("the outputs have other shapes than before")
    errors = [
        float(np.abs(found[n] - expected[n]).max() / (np.abs(expected[n]).max() + 1e-30))
        for n in expected
        if expected[n].dtype.kind == "f" and expected[n].size
    ]
    return max(errors, default=0.0)


def _run(model: onnx.ModelProto) -> Mapping[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    random = np.random.default_rng(0)
    feeds = {i.name: _input(i.type, i.shape, random) for i in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))


def _input(kind: str, dims: list[Any], random: np.random.Generator) -> Any:
    shape = [d if isinstance(d, int) else 2 for d in dims]
    if "float" in kind:
        return random.standard_normal(shape).astype(np.float16 if "16" in kind else np.float32)
    if "bool" in kind:
        return random.random(shape) < 0.5
    return random.integers(0, 2, shape).astype(np.int32 if "32" in kind else np.int64)


def _masked(model: onnx.ModelProto, pruned: onnx.ModelProto) -> onnx.ModelProto | None:
    """The original with zeros for the weights that a removed channel meets in its consumers."""
    import onnx
    from onnx import numpy_helper

    before, after = _weights(model), _weights(pruned)
    masked = onnx.ModelProto()
    masked.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in masked.graph.initializer}
    for node in masked.graph.node:
        place = _contracted(node, before)
        if place is None:
            continue
        name, axis = place
        if name not in after or before[name].shape[axis] == after[name].shape[axis]:
            continue
        if node.op_type.startswith("Conv") and _group(node) > 1:
            if before[name].shape[1] == 1 and axis == 1:
                continue
            return None
        array = before[name].copy()
        kept = _kept(before[name], after[name], axis)
        if kept is None:
            return None
        gone = np.setdiff1d(np.arange(array.shape[axis]), kept)
        array[(slice(None),) * axis + (gone,)] = 0
        before[name] = array
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    return masked


def _contracted(node: onnx.NodeProto, weights: Mapping[str, Any]) -> tuple[str, int] | None:
    """The weight of a node, and the axis of it that the node sums over."""
    if len(node.input) < 2 or node.input[1] not in weights:
        return None
    name = node.input[1]
    if node.op_type == "Conv":
        return name, 1
    if node.op_type == "ConvTranspose":
        return name, 0
    if node.op_type == "Gemm":
        return name, 1 if any(a.name == "transB" and a.i for a in node.attribute) else 0
    if node.op_type == "MatMul" and weights[name].ndim > 1:
        return name, weights[name].ndim - 2
    return None


def _group(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _kept(before: Any, after: Any, axis: int) -> Any | None:
    """Which indices of an axis are left, found by the values: random weights hardly ever repeat."""
    flat = before.reshape(-1)
    order = np.argsort(flat, kind="stable")
    places = order[np.minimum(np.searchsorted(flat[order], after.reshape(-1)), flat.size - 1)]
    if not np.array_equal(flat[places], after.reshape(-1)):
        return None
    index = np.unravel_index(places, before.shape)[axis].reshape(after.shape)
    lines = np.moveaxis(index, axis, 0).reshape(after.shape[axis], -1)
    return np.median(lines, axis=1).astype(np.int64)
