"""What came of a training: whether the file is the module that was trained, and how it went."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from amcc.certificate import TOLERANCE, difference
from amcc.data import Dataset
from amcc.ir import Graph
from amcc.summary import EpochLine
from amcc.tuning.student import Student
from amcc.tuning.trainer import Trainer

_SAMPLES = 32


def tolerance(graph: Graph) -> float:
    """By how much a network and its module may differ, relative to the largest output: its precision's."""
    types = {graph.values[name].dtype for name in (*graph.inputs, *graph.params)}
    return max(TOLERANCE.get(dtype, 0.0) for dtype in (*types, "float32"))


def certified(graph: Graph, student: Student | None, held: Dataset) -> float:
    """The largest relative difference of the network, written as ONNX and read again, from the trained module.

    Args:
        student: None where the network is the one that training started with.
    """
    import torch

    from amcc.backends.runtime import Session
    from amcc.backends.to_onnx import write_onnx
    from amcc.backends.torch_module import torch_module
    from amcc.frontends.from_onnx import from_onnx
    from amcc.passes.shapes import infer

    names = student.targets if student is not None else graph.outputs
    module = student.module.cpu().eval() if student is not None else torch_module(graph)[0]
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(graph, Path(folder) / "model.onnx")
        written = infer(from_onnx(Path(folder) / "model.onnx"))
        session = Session(written, outputs=[name for name in names if name in written.values])
        worst = 0.0
        how, samples = held.batching, min(len(held), _SAMPLES)
        size = 1 if how.alone else how.size or samples
        for start in range(0, samples - size + 1, size) or [0]:
            feeds = how.feeds(held.inputs, start, start + size)
            expected = session.run(feeds)
            given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
            with torch.no_grad():
                if student is not None:
                    found = student.outputs(module, given)
                else:
                    results = module(*(given[name] for name in graph.inputs))
                    found = dict(zip(names, results if isinstance(results, tuple) else (results,), strict=True))
            for name, array in expected.items():
                own = found[name].float().numpy()
                worst = max(worst, difference(array.astype(np.float32), own) if array.dtype.kind in "fV" else 0.0)
    return worst if math.isfinite(worst) else math.inf


def curve(trainer: Trainer, rate: float, per_epoch: int) -> tuple[EpochLine, ...]:
    """The epochs.

    Args:
        rate: the highest learning rate.
    """
    ends = ((place + 1) * per_epoch - 1 for place in range(len(trainer.progress.curve)))
    return tuple(
        EpochLine(rate=round(rate * trainer.schedule(end, trainer.steps), 9), loss=loss, metric=metric)
        for end, (loss, metric) in zip(ends, trainer.progress.curve, strict=True)
    )
