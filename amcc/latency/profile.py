"""How long each operator takes inside a network, from ONNX Runtime's own profiler.

Whole networks are profiled rather than operators alone, so fusions, layouts (a convolution on a CPU wants its
channels in blocks) and what the caches hold are those of the network itself.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amcc.backends.to_onnx import write_onnx
from amcc.bench import opened
from amcc.ir import Array, Graph, Shape
from amcc.latency.device import Local
from amcc.latency.operators import Operators

_TOGETHER, _BURST = 8, 4
"""Networks that take turns, and runs at a turn."""
_FASTEST = 3
"""Of an operator's times the fastest third counts."""
_ENDING = "_kernel_time"


def profiled(
    graphs: Sequence[Graph], operators: Operators, device: Local, shapes: Mapping[str, Shape], runs: int
) -> tuple[Array, float]:
    """Nanoseconds of each operator in each network, float [graphs, operators], and the share that is nobody's.

    The original runs beside all of them: where the machine is slower for a while, so is it, and that is taken out.
    """
    parts: list[Array] = []
    for start in range(0, len(graphs), _TOGETHER):
        with tempfile.TemporaryDirectory() as folder:
            batch = [
                _Profile(graph, Path(folder) / str(number), device, shapes)
                for number, graph in enumerate([operators.channels.graph, *graphs[start : start + _TOGETHER]])
            ]
            for _ in range(-(-runs // _BURST)):
                for one in batch:
                    for _ in range(_BURST):
                        one.run()
            parts.append(np.array([one.times(operators) for one in batch]))
    usual = min(float(part[0].sum()) for part in parts)
    found = np.concatenate([part[1:] * (usual / part[0].sum()) for part in parts])
    return found[:, :-1], float(found[:, -1].sum() / max(found.sum(), 1.0))


class _Profile:
    """A network that runs under the profiler."""

    def __init__(self, graph: Graph, folder: Path, device: Local, shapes: Mapping[str, Shape]) -> None:
        folder.mkdir()
        self._optimised = folder / "optimised.onnx"

        def prepare(options: Any) -> None:
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
            options.optimized_model_filepath = str(self._optimised)

        write_onnx(graph, folder / "model.onnx")
        self.run = opened(
            graph.name,
            folder / "model.onnx",
            threads=device.threads,
            batch=device.batch,
            provider=device.provider,
            shapes=shapes,
            prepare=prepare,
        )

    def times(self, operators: Operators) -> Array:
        """Nanoseconds of each operator, and last of what cannot be told whose it is."""
        events = json.loads(Path(self.run.session.end_profiling()).read_text(encoding="utf-8"))
        spent: dict[str, list[int]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(_ENDING):
                spent.setdefault(event["name"].removesuffix(_ENDING), []).append(event["dur"])
        wiring = self._wiring()
        total = np.zeros(len(operators.listed) + 1)
        for name, micros in spent.items():
            fast = sorted(micros)[: max(1, len(micros) // _FASTEST)]
            number = operators.running(name, *wiring.get(name, ((), ())))
            total[-1 if number is None else number] += 1000 * sum(fast) / len(fast)
        return total

    def _wiring(self) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
        """What each node of the optimised network reads and makes."""
        import onnx

        if not self._optimised.is_file():
            return {}
        model = onnx.load(str(self._optimised), load_external_data=False)
        return {node.name: (tuple(node.input), tuple(node.output)) for node in model.graph.node}
