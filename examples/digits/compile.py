"""Compile the example's network from Python."""

from pathlib import Path

import amcc

here = Path(__file__).resolve().parent
result = amcc.compile(
    here / "model.onnx",
    budget="flops=0.5",
    data=here / "val.npz",
    calib=here / "calib.npz",
    out="build/digits.amcc",
    force=True,
)
print(result.summary)
