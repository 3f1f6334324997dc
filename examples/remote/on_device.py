"""Runs on the device: an ONNX file on standard input, milliseconds of one run on standard output.

Needs ONNX Runtime and numpy, nothing of amcc.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime as ort

SECONDS, LEAST = 0.5, 20


def main() -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"])
    feeds = {
        given.name: np.zeros([size if isinstance(size, int) else 1 for size in given.shape], np.float32)
        for given in session.get_inputs()
    }
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - start)
    print(1000 * float(np.percentile(times, 10)))


if __name__ == "__main__":
    main()
