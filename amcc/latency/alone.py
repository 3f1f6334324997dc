"""Measure networks in a process that does nothing else: `python -m amcc.latency.alone`, JSON in, JSON out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from amcc.bench import bench
from amcc.errors import AmccError


def main() -> int:
    """Answer the request on standard input; see `amcc.latency.device.Local.compare`."""
    request = json.load(sys.stdin)
    options = request["options"]
    options["input_shapes"] = {name: tuple(shape) for name, shape in options["input_shapes"].items()}
    try:
        timings = bench({name: Path(path) for name, path in request["models"].items()}, **options)
    except AmccError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    json.dump([asdict(timing) for timing in timings], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
