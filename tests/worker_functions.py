"""Functions for workers, and a parent to be killed; as a script: `python tests/worker_functions.py FOLDER`.

The script starts two workers that never finish, prints their numbers and waits.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from amcc.errors import DataError
from amcc.ir import Array


@dataclass(frozen=True)
class Sum:
    """Adds a number to the sum of an array; a worker's own memory, in kB, comes with it."""

    array: Array

    def __call__(self, number: int) -> tuple[float, int, int, bool]:
        total = float(self.array.sum()) + number
        own = next(line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if "Anonymous" in line)
        return total, os.getpid(), int(own.split()[1]), bool(self.array.flags.writeable)


@dataclass(frozen=True)
class Dying:
    """Gives its items back; a worker that meets item `at` dies, `times` times in all."""

    folder: Path
    at: int
    times: int

    def __call__(self, item: int) -> int:
        if item == self.at:
            deaths = len(list(self.folder.iterdir()))
            if deaths < self.times:
                (self.folder / str(deaths)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return item


def late(item: float) -> float:
    """Gives an item back after so many seconds."""
    time.sleep(item)
    return item


def failing(item: int) -> int:
    """Raises what the user is to see for item 2, and a fault for item 3."""
    if item == 2:
        raise DataError("the metric raised", where="here", hint="look there")
    if item == 3:
        raise ZeroDivisionError("a fault")
    return item


def constant(outputs: Any, labels: Any) -> float:
    """A metric."""
    print("a metric may print")
    return float(np.mean(np.abs(next(iter(outputs.values()))) < 1))


@dataclass(frozen=True)
class Endless:
    """Says in which process it is and never returns."""

    folder: Path

    def __call__(self, item: int) -> None:
        (self.folder / str(os.getpid())).touch()
        while True:
            np.ones((200, 200)) @ np.ones((200, 200))


def main(folder: Path) -> None:
    from amcc.workers.local import Processes
    from amcc.workers.pool import Pool

    with Pool(lambda: Processes(Endless(folder), "it", 2)) as pool:
        list(pool.map([1, 2]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
