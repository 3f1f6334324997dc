"""`amcc verify`: is an output folder what it says, judged from the files alone?

The folder's files must have the hashes that its summary notes. `model.onnx`, with the slices of the
original's weights that the plan leaves put back for its own, must pass the certificate; where no recovery
was done its own weights must already be these slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amcc.artifacts import hashes
from amcc.certificate import Certificate, certify
from amcc.data import Dataset, Spec, load_data
from amcc.errors import InputError, VerificationError
from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.load import captured
from amcc.ir import Graph, Shape
from amcc.passes.channels import analyze
from amcc.passes.rewrite import shrink
from amcc.passes.shapes import infer
from amcc.passes.sparsity import Masks, zeroed
from amcc.plan import Plan
from amcc.planning import masks_of, removal_of
from amcc.reopened import Reopened, free_shapes, original_file, reopen, spelled
from amcc.stages import model_file, one_sample
from amcc.summary import Summary


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        checks: one sentence for each thing that was checked.
    """

    certificate: Certificate
    checks: tuple[str, ...]


def verify(
    original: Any,
    folder: Path,
    example_inputs: Any = None,
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    data: Spec | None = None,
) -> Verified:
    """Check an output folder against the original.

    Args:
        data: samples for a network that runs on nothing random; see `amcc.data.load_data`.

    Raises:
        VerificationError: something does not hold.
        InputError: a file is missing or broken.
    """
    if not folder.is_dir():
        raise InputError("no such folder", where=str(folder))
    summary, given = Summary.read(folder), Plan.read(folder)
    checks = [_check_hashes(folder, summary)]
    network = captured(original, example_inputs=example_inputs, input_shapes=input_shapes)
    graph, origin = network.graph, network.origin
    channels = analyze(graph, exact=given.exact)
    removal, masks = removal_of(given, channels), masks_of(given, graph)
    pure = zeroed(shrink(channels, removal), masks)
    shipped = pure
    samples = None if data is None else load_data(data, graph)
    written, file = folder / "model.onnx", model_file(original)
    if origin is not None:
        input_shapes = {graph.inputs[i]: one_sample(graph.shape(graph.inputs[i])) for i in origin.free}
    with original_file(file, origin) as source:
        free = free_shapes(written, input_shapes) if source and input_shapes and written.is_file() else None
        if source and input_shapes and free:
            cut = reopen(source, input_shapes, free, given, exact=given.exact, masks=masks)
            certificate, found = _check_free(cut, from_onnx(written, input_shapes=free), summary, samples)
            return Verified(certificate, (*checks, *found))
    if written.is_file():
        shipped = infer(from_onnx(written, input_shapes=input_shapes))
        _check_ends(pure, shipped)
        checks += _check_weights(pure, shipped, masks, exact=_untouched(summary))
        shipped = _with_original_weights(pure, shipped)
    certificate = certify(file or channels.graph, channels, removal, shipped, samples=samples, zeros=masks)
    checks.append(_repeated(certificate))
    return Verified(certificate, tuple(checks))


def _check_free(
    cut: Reopened, shipped: Graph, summary: Summary, samples: Dataset | None
) -> tuple[Certificate, list[str]]:
    """Check a `model.onnx` with sizes free, at the given one and at others."""
    _check_ends(cut.pure, shipped)
    checks = _check_weights(cut.pure, shipped, cut.masks, exact=_untouched(summary))
    shipped = _with_original_weights(cut.pure, shipped)
    certificate = cut.certify(shipped, samples=samples)
    checks.append(_repeated(certificate))
    checks += (f"{_repeated(cut.certify(shipped, sizes))}, at {spelled(sizes)}" for sizes in cut.elsewhere())
    return certificate, checks


def _repeated(certificate: Certificate) -> str:
    certificate.demand()
    return f"certificate repeated: error {certificate.error:.1e}, tolerance {certificate.tolerance:.0e}"


def _check_hashes(folder: Path, summary: Summary) -> str:
    found = hashes(folder)
    for name, digest in summary.files.items():
        if name not in found:
            raise InputError(f"'{name}' is missing", where=str(folder))
        if found[name] != digest:
            raise VerificationError(f"'{name}' is not the file that was written with this summary", where=str(folder))
    return f"{len(summary.files)} files are as they were written"


def _check_ends(pure: Graph, shipped: Graph) -> None:
    """Compare the names of inputs and outputs."""
    for what, names, others in (("inputs", pure.inputs, shipped.inputs), ("outputs", pure.outputs, shipped.outputs)):
        if names != others:
            raise VerificationError(
                f"the {what} are {list(others)}, the original's are {list(names)}",
                where="model.onnx",
                hint="it was made from another file or module",
            )


def _untouched(summary: Summary) -> bool:
    """Whether the weights are to be the original's."""
    return summary.recover == "none" and not summary.tuning


def _check_weights(pure: Graph, shipped: Graph, masks: Masks, *, exact: bool) -> list[str]:
    """Compare the weights of `model.onnx` with the slices, or the zeros, that the plan leaves."""
    for name, mask in masks.items():
        if name not in shipped.params or shipped.params[name].shape != mask.shape:
            raise VerificationError(f"'{name}' is not there, or has another shape", where="model.onnx")
        if shipped.params[name][~mask].any():
            raise VerificationError(f"'{name}' is not zero where the plan says so", where="model.onnx")
    for name, array in shipped.params.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise VerificationError(f"'{name}' holds NaN or infinite values", where="model.onnx")
        if exact and not (name in pure.params and np.array_equal(array, pure.params[name])):
            raise VerificationError(f"'{name}' is not a slice of the original's weights", where="model.onnx")
    found = "weights are slices of the original's" if exact else "weights are finite; recovery or training changed them"
    return [found, *([f"zeros are where the plan says, in {len(masks)} layers"] if masks else [])]


def _with_original_weights(pure: Graph, shipped: Graph) -> Graph:
    """`model.onnx` with the original's slices for weights, and zeros for biases that recovery added."""
    return shipped.with_params({n: pure.params.get(n, np.zeros_like(a)) for n, a in shipped.params.items()})
