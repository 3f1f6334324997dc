"""Compile the example's network from Python; run it at the top of the repository."""

import amcc

result = amcc.compile(
    "examples/digits/model.onnx",
    budget="flops=0.5",
    round=8,
    data="examples/digits/val.npz",
    calib="examples/digits/calib.npz",
    out="build/digits.amcc",
    force=True,
)
summary = result.summary
print(f"MACs x {summary.totals.macs.ratio:.3f}, top-1 {summary.metric.report.after:.2%}, written to {result.folder}")
