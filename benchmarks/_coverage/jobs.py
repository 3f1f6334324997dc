"""Jobs in processes of their own, with limits on time and memory; a line of JSON for each that ended.

A job reports as it goes (`Reporter`), so that one that is stopped leaves what it had found by then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

Found = dict[str, Any]
_POLL = 0.05
_WAITING = 6  # wall seconds allowed for each CPU second, for jobs that share their cores


@dataclass(frozen=True)
class Job:
    """One tool on one network.

    Attributes:
        tool: `amcc`, `tp` or `onnxsim`.
        network: its name in the zoo; files of one network share it.
        variant: which of its files; "module" where the tool takes none.
        file: the ONNX file, None for the module.
        version: of the tool; a job is done once for each version and file.
    """

    tool: str
    network: str
    variant: str
    file: Path | None
    version: str

    @property
    def key(self) -> Found:
        """What a line in the log must say to stand for this job."""
        state = self.file.stat() if self.file else None
        stamp = f"{state.st_size}@{state.st_mtime_ns}" if state else ""
        return {
            "tool": self.tool,
            "network": self.network,
            "variant": self.variant,
            "version": self.version,
            "stamp": stamp,
        }


@dataclass(frozen=True)
class Limits:
    """What a job may use: CPU seconds, and bytes of resident memory."""

    seconds: float
    memory: int


class Log:
    """The lines of all jobs that ended, in a file that is only appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.lines: list[Found] = [json.loads(line) for line in lines if line.endswith("}")]

    def has(self, job: Job) -> bool:
        """Whether the job ended before, in this version, on this file."""
        return self._holds(job.key)

    def fine(self, job: Job) -> bool:
        """Whether the job ended before, in this version or well in another, on this file."""
        key = {**job.key, "status": "ok"}
        del key["version"]
        return self.has(job) or self._holds(key)

    def _holds(self, key: Found) -> bool:
        return any(all(line.get(k) == v for k, v in key.items()) for line in self.lines)

    def add(self, line: Found) -> None:
        """Append a line."""
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            self.lines.append(line)

    def latest(self) -> list[Found]:
        """The last line of each tool on each file."""
        return list({(line["tool"], line["network"], line["variant"]): line for line in self.lines}.values())


def run_all(
    jobs: Iterable[Job],
    command: Callable[[Job], Sequence[str]],
    environment: Mapping[str, str],
    log: Log,
    limits: Limits,
    *,
    at_once: int = 1,
    show: Callable[[Found], None],
) -> None:
    """Run the jobs and log each."""

    def one(job: Job) -> Found:
        line = {**job.key, **run(command(job), environment, limits)}
        log.add(line)
        return line

    with ThreadPoolExecutor(at_once) as pool:
        for line in pool.map(one, jobs):
            show(line)


def run(command: Sequence[str], environment: Mapping[str, str], limits: Limits) -> Found:
    """What a job reported, with `cpu` seconds, `wall` seconds, `peak` MB, and a `status` whatever happened."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=dict(environment), start_new_session=True
        )
        stopped = ""
        while True:
            pid, code, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            stopped = stopped or _over(process.pid, time.perf_counter() - begin, limits)
            if stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            time.sleep(_POLL)
        process.returncode = os.waitstatus_to_exitcode(code)
        out.seek(0)
        err.seek(0)
        found: Found = {}
        for text in out.read().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found |= json.loads(text)
        complaint = err.read().strip()[-600:]
    found |= {
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "wall": round(time.perf_counter() - begin, 2),
        "peak": usage.ru_maxrss // 1024,
    }
    if stopped:
        found |= {"status": stopped, "cause": f"while at: {found.get('stage', 'start')}"}
    elif process.returncode or "status" not in found:
        ended = f"ended with {process.returncode} while at: {found.get('stage', 'start')}; {complaint}"
        found |= {"status": "crash", "cause": ended}
    return found


def _over(pid: int, wall: float, limits: Limits) -> str:
    """`timeout` or `memory` if a process is over a limit."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return ""
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    if seconds > limits.seconds or wall > limits.seconds * _WAITING:
        return "timeout"
    return "memory" if resident > limits.memory else ""


class Reporter:
    """A job's way to say what it found, by and by; nothing else reaches its standard output."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w")
        sys.stdout.flush()
        os.dup2(2, 1)
        _end_with_parent()
        self.found: Found = {}

    def __call__(self, **facts: Any) -> None:
        """Report; later facts replace earlier ones."""
        self.found |= facts
        print(json.dumps(facts), file=self._out, flush=True)

    def crashed(self, error: BaseException) -> None:
        """Report an exception that nobody expected."""
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
        text = " ".join(str(error).split())[:300]
        self(status="crash", cause=f"{type(error).__name__}: {text} [{where}]{_node_at(error)}")


def _end_with_parent() -> None:
    """A job whose runner is killed ends with it (Linux alone)."""
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG


def _node_at(error: BaseException) -> str:
    """The node of a graph that the innermost function with one was at."""
    label, trace = "", error.__traceback__
    while trace is not None:
        label = getattr(trace.tb_frame.f_locals.get("node"), "label", label)
        trace = trace.tb_next
    return f" at {label}" if label else ""


def memory(key: str = "VmHWM") -> int:
    """MB of this process: `VmHWM` (peak), `VmRSS`, `RssAnon`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) // 1024
