"""200 random budgets on a ResNet-20: each met in exact integers, or refused with a true bound.

    python benchmarks/random_budgets.py [COUNT]

MACs and parameters of the result are counted here from the shrunk ONNX model alone. Some runs lock half of the
network or keep most of every group, so that some budgets are out of reach; then the bound that the error names must
be met when asked for, and one less must be refused.
"""

from __future__ import annotations

import math
import re
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from common import SHARED, machine, table

import amcc
from amcc.backends.to_onnx import to_onnx
from amcc.errors import BudgetError
from amcc.passes.channels import analyze
from amcc.passes.rewrite import shrink
from amcc.planning import removal_of

SEED = 0
WITHIN = 0.01


def count(model: onnx.ModelProto) -> dict[str, int]:
    """MACs of one sample and floating-point parameters, from onnx's own shapes."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*inferred.value_info, *inferred.output)
    }
    weights = {i.name: list(i.dims) for i in inferred.initializer if i.data_type == onnx.TensorProto.FLOAT}
    macs = 0
    for node in inferred.node:
        if node.op_type == "Conv":
            macs += math.prod(weights[node.input[1]]) * math.prod(shapes[node.output[0]][2:])
        elif node.op_type == "Gemm":
            macs += math.prod(weights[node.input[1]])
    return {"flops": macs, "params": sum(math.prod(shape) for shape in weights.values())}


def attempt(model: Path, budget: str, **options: object) -> dict[str, int] | int:
    """The costs that a plan reached, or the bound that the error names."""
    try:
        plan = amcc.plan(model, budget=budget, search="uniform", recover="none", **options)  # type: ignore[arg-type]
    except BudgetError as error:
        found = re.search(r"smallest[^0-9]*([0-9][0-9,]*)", str(error))
        if found is None:
            raise AssertionError(f"no bound in: {error}") from None
        return int(found.group(1).replace(",", ""))
    channels = analyze(amcc.load(model), locked=options.get("lock", ()))  # type: ignore[arg-type]
    return count(to_onnx(shrink(channels, removal_of(plan, channels))))


def main(runs: int) -> int:
    """Try them all; 1 if one is not met or a bound is not true."""
    model = SHARED / "models" / "resnet20.onnx"
    whole = count(onnx.load(model))
    random = np.random.default_rng(SEED)
    met, refused, faults, gaps = 0, 0, [], []
    start = time.perf_counter()
    for number in range(runs):
        key = str(random.choice(["flops", "params"]))
        ratio = round(float(random.uniform(0.1, 0.95)), 4)
        options: dict[str, object] = {}
        if number % 4 == 3:
            options["min_keep"] = round(float(random.uniform(0.3, 0.9)), 2)
        if number % 8 == 5:
            options["lock"] = [f"layer3.{i}.conv{j}.weight" for i in range(3) for j in (1, 2)]
        asked = f"{key}={ratio}" if number % 2 else f"{key}={math.floor(ratio * whole[key])}"
        limit = math.floor(ratio * whole[key])
        result = attempt(model, asked, **options)
        if isinstance(result, int):
            refused += 1
            at, below = (attempt(model, f"{key}={n}", **options) for n in (result, result - 1))
            if result <= limit or isinstance(at, int) or at[key] != result or not isinstance(below, int):
                faults.append(f"{asked} {options}: refused with {result}, which is not a true bound")
        else:
            met += 1
            gaps.append((limit - result[key]) / limit)
            if result[key] > limit:
                faults.append(f"{asked} {options}: {result[key]} is above {limit}")
            elif gaps[-1] > WITHIN:
                faults.append(f"{asked} {options}: {gaps[-1]:.1%} below {limit}")
    print(machine())
    rows = [[runs, met, refused, f"{max(gaps):.3%}", f"{np.median(gaps):.3%}", f"{time.perf_counter() - start:.0f}"]]
    print(table(["budgets", "met", "refused, bound true", "largest gap", "median gap", "seconds"], rows))
    print("\n".join(faults) or "no fault")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
