"""Latency on another device: `amcc compile model.onnx --budget latency=0.5 --latency-hook phone:milliseconds ...`.

`milliseconds` is given the path of an ONNX file and gives the time of one run. Here the other device is a second
process on this machine, with ONNX Runtime's fusions switched off, so that the example runs anywhere. For a real
one, copy `on_device.py` to it once and put `["ssh", "phone", "python3", "on_device.py"]` in COMMAND.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, str(Path(__file__).with_name("on_device.py"))]


def milliseconds(path: str) -> float:
    with open(path, "rb") as model:
        done = subprocess.run(COMMAND, stdin=model, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise RuntimeError(said[-1])
    return float(done.stdout)
