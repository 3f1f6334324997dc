"""The nine light graphs of the onnx package at half their MACs: random weights, pure slices, certificate.

python benchmarks/light_graphs.py [NAME...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from common import amcc, machine, summary, table
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SEED = 0


def with_random_weights(model: onnx.ModelProto, seed: int = SEED, *, vectors: float = 1.0) -> onnx.ModelProto:
    """The constant weights that a light graph makes up, replaced by random ones of sensible scale.

    Args:
        vectors: deviation of what is neither a kernel nor a normalisation's scale or variance.
    """
    random = np.random.default_rng(seed)
    shapes = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    spread = {node.input[i] for node in model.graph.node if node.op_type == "BatchNormalization" for i in (1, 4)}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = tuple(shapes[node.input[0]].tolist())
        array = random.standard_normal(shape, np.float32)
        if node.output[0] in spread:
            array = random.uniform(0.5, 1.5, shape).astype(np.float32)
        elif len(shape) > 1:
            array *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
        else:
            array *= np.float32(vectors)
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def main(names: list[str]) -> int:
    """Compile each; 1 if one fails."""
    rows, failed = [], 0
    for path in sorted(LIGHT.glob("light_*.onnx")):
        if names and path.stem.removeprefix("light_").removeprefix("bvlc_") not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / path.name
            onnx.save(with_random_weights(onnx.load(path)), model)
            out = Path(folder) / "out.amcc"
            options = ["--budget", "flops=0.5", "--search", "uniform", "--recover", "none", "--emit", "onnx", "-o", out]
            run = amcc("compile", model, *options)
            if run.code:
                rows.append([path.stem, "exit", run.code, run.err.strip()[-200:], f"{run.seconds:.0f}"])
                failed += 1
                continue
            found = summary(out)
            reached, error = found["budget"][0]["ratio"], found["certificate"]["error"]
            failed += not (0.49 < reached <= 0.5 and error <= 1e-4)
            rows.append([path.stem, f"{reached:.4f}", f"{error:.1e}", len(found["groups"]), f"{run.seconds:.0f}"])
    print(machine())
    print(table(["graph", "MACs", "certificate", "groups", "seconds"], rows))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
