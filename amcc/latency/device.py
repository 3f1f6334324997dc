"""What runs networks: ONNX Runtime on this machine, or a function of the user's that reaches another one."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from amcc.bench import CPU, Timing, check_provider
from amcc.errors import DataError, ModelError, UsageError
from amcc.ir import Shape
from amcc.settings import Measuring
from amcc.usercode import describe, named_function

CALLS = 64
"""How often a compilation calls a function of the user's at most."""
SECONDS = 1.0
"""How long networks that are compared take turns in a process."""
PROCESSES, MOST_PROCESSES = 3, 9
"""How many processes compare them at least, and at most, where these do not agree."""
AGREED = 0.01
"""How far the processes' ratios may lie apart for each root of their number."""
_RUNS = 2000


@dataclass(frozen=True)
class Local:
    """ONNX Runtime here, each comparison in a process of its own."""

    provider: str = CPU
    threads: int = 1
    batch: int = 1

    def __str__(self) -> str:
        threads = "all cores" if self.threads == 0 else f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.provider}, {threads}, batch {self.batch}"

    @property
    def facts(self) -> dict[str, str | int]:
        """What a measurement depends on, the network apart."""
        cores = os.cpu_count() or 1
        return {**asdict(self), "onnxruntime": metadata.version("onnxruntime"), "cpu": processor(), "cores": cores}

    def compare(self, models: Mapping[str, Path], shapes: Mapping[str, Shape]) -> list[Timing]:
        """The networks' times, taking turns in fresh processes that run nothing else.

        Where in memory a process finds itself makes a percent of difference, and so does what else is in the caches. So
        there are several, more where they do not agree; of each network's times in units of the first one's the
        median counts.

        Raises:
            ModelError: ONNX Runtime does not take one of them.
        """
        runs = [self._alone(models, shapes) for _ in range(PROCESSES)]
        while len(runs) < MOST_PROCESSES and _apart(runs) > AGREED * len(runs) ** 0.5:
            runs.append(self._alone(models, shapes))
        whole = median(run[0].low for run in runs)
        return [_middle(whole, runs, number) for number in range(len(models))]

    def _alone(self, models: Mapping[str, Path], shapes: Mapping[str, Shape]) -> list[Timing]:
        request = {
            "models": {name: str(path) for name, path in models.items()},
            "options": {**asdict(self), "runs": _RUNS, "seconds": SECONDS, "input_shapes": dict(shapes)},
        }
        path = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            [sys.executable, "-m", "amcc.latency.alone"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
            raise ModelError(f"latency cannot be measured: {said[-1]}")
        return [Timing(**line) for line in json.loads(done.stdout)]


def _apart(runs: Sequence[Sequence[Timing]]) -> float:
    """How far the processes' times lie apart, in units of the first network's and the mean of all networks."""
    ratios = np.array([[timing.low / run[0].low for timing in run[1:]] for run in runs])
    return float(np.mean(np.ptp(ratios, axis=0) / np.median(ratios, axis=0))) if ratios.size else 0.0


def _middle(whole: float, runs: Sequence[Sequence[Timing]], number: int) -> Timing:
    """One network's time over several processes; the first network takes `whole`."""
    found = [run[number] for run in runs]
    return Timing(
        found[0].model,
        median(timing.median for timing in found),
        median(timing.spread for timing in found),
        round(whole * median(run[number].low / run[0].low for run in runs), 6),
        min(timing.fastest for timing in found),
        sum(timing.runs for timing in found),
    )


@dataclass
class Remote:
    """A function that is given the path of an ONNX file and gives milliseconds.

    Attributes:
        timeout: seconds that it may take for one network.
        calls: how often it was called.
    """

    name: str
    function: Callable[[str], Any]
    timeout: float = 600.0
    calls: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.name

    @property
    def facts(self) -> dict[str, str | int]:
        """What a measurement depends on, as far as amcc can know."""
        return {"hook": self.name}

    def compare(self, models: Mapping[str, Path], shapes: Mapping[str, Shape]) -> list[Timing]:
        """What the function says of each network.

        Raises:
            DataError: it fails, takes too long, or gives something other than a time.
        """
        times = [self._time(path) for path in models.values()]
        return [Timing(name, ms, 0.0, ms, ms, 1) for name, ms in zip(models, times, strict=True)]

    def _time(self, path: Path) -> float:
        if self.calls >= CALLS:
            raise DataError(
                f"{self.name} was called {CALLS} times, the most that amcc asks for", where="--latency-hook"
            )
        self.calls += 1
        found = _within(self.timeout, self.function, str(path), self.name)
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found) or found <= 0:
            raise DataError(
                f"{self.name} gave {str(found)[:80]!r}",
                where="--latency-hook",
                hint="it must give milliseconds, a number above 0",
            )
        return float(found)


Device = Local | Remote


def device_of(how: Measuring) -> Device:
    """What the user's options name.

    Raises:
        UsageError: no such execution provider or function.
    """
    if how.hook is None:
        check_provider(how.provider)
        return local(how)
    if isinstance(how.hook, str):
        return Remote(how.hook, named_function(how.hook, option="--latency-hook"), how.timeout)
    if not callable(how.hook):
        raise UsageError("is neither a function nor module:function", where="--latency-hook")
    name = f"{how.hook.__module__}:{how.hook.__qualname__}"
    return Remote(name, how.hook, how.timeout)


def local(how: Measuring) -> Local:
    """ONNX Runtime here."""
    return Local(how.provider, how.threads, how.batch)


def _within(seconds: float, function: Callable[[str], Any], path: str, name: str) -> Any:
    """What the function gives, if it does so in time; one that hangs is left behind."""
    answer: dict[str, Any] = {}

    def run() -> None:
        try:
            answer["found"] = function(path)
        except BaseException as error:  # whatever it raises is the user's to read
            answer["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        hint = "--latency-timeout says how long it may take"
        raise DataError(f"{name} gave nothing in {seconds:g} seconds", where="--latency-hook", hint=hint)
    if "error" in answer:
        error = answer["error"]
        hint = "run it alone to see where"
        raise DataError(f"{name} raised {describe(error)}", where="--latency-hook", hint=hint) from error
    return answer["found"]


@cache
def processor() -> str:
    """The processor, so that two that differ in speed or instructions differ in it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    lines = dict(line.split(":", 1) for line in text.partition("\n\n")[0].splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in lines.items()}
    name = facts.get("model name") or facts.get("CPU part") or platform.machine()
    number = ".".join(facts.get(key, "") for key in ("cpu family", "model", "stepping"))
    widest = [
        flag
        for flag in ("avx512f", "avx2", "avx", "asimd")
        if flag in facts.get("flags", facts.get("Features", "")).split()
    ]
    return f"{name} {number} {' '.join(widest[:1])}".strip()
