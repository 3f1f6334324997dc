"""Random networks from all operator families, for laws that must hold on any topology."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import onnx

from tests.random_graphs import (
    control,
    convolutional,
    measured,
    norms,
    quantised,
    recurrent,
    sampling,
    structures,
    transformer,
)
from tests.random_graphs.builder import BATCH, SIDE, Builder, Tensor

Grow = Callable[[Builder, Tensor], None]

FAMILIES: tuple[tuple[Grow, ...], ...] = (
    convolutional.GROWTHS,
    transformer.GROWTHS,
    norms.GROWTHS,
    structures.GROWTHS,
    sampling.GROWTHS,
    recurrent.GROWTHS,
    quantised.GROWTHS,
    measured.GROWTHS,
)
_WEIGHTS = (8, 4, 2, 4, 2, 1, 1, 1)
_CONTROL = 6  # one in so many networks has control flow
_OPSETS = (17, 17, 20, 23, 11, 12)


def random_network(seed: int, length: int, *, dynamic: bool = True, bodies: bool = True) -> onnx.ModelProto:
    """A network of about `length` building blocks of two or three families; one in three has a dynamic batch."""
    b = Builder(seed)
    b.opset = _OPSETS[b.pick(0, len(_OPSETS) - 1)]
    b.batch = "batch" if b.pick(0, 2) == 0 and dynamic else BATCH
    weights = [weight * b.pick(0, 1) for weight in _WEIGHTS]
    families = [family for family, weight in zip(FAMILIES, weights, strict=True) for _ in range(weight)] or FAMILIES[:1]
    if seed % _CONTROL == 0 and bodies:
        families = [*families, *[control.GROWTHS] * len(families)]
    convolutional.conv(b, b.pool[0])
    for _ in range(length):
        recent = b.pool[1:][-6:]
        family = families[b.pick(0, len(families) - 1)]
        with contextlib.suppress(LookupError):  # older operator sets lack some
            family[b.pick(0, len(family) - 1)](b, recent[b.pick(0, len(recent) - 1)])
    return b.model()


def optimised(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The network after ONNX Runtime's own fusions; as it was where the runtime refuses what it wrote.

    Its fusions give values of two branches one name.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    again = onnxruntime.SessionOptions()
    again.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(path, again, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common base but this
        if "single static assignment" not in str(error):
            raise
        return model
    return onnx.load(path)


__all__ = ["BATCH", "SIDE", "Builder", "Tensor", "optimised", "random_network"]
