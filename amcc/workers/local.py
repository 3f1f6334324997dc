"""Workers that are processes on this machine.

Started afresh, never forked: threads of ONNX Runtime do not survive a fork. The function lies in a file without a
name, which each process maps read-only: one copy in memory, and nothing left when the parent is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from typing import IO, Any

from amcc.errors import OutputError
from amcc.workers.packed import Packed
from amcc.workers.pool import WorkerLost
from amcc.workers.serving import pickled, read, search_path

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Processes:
    """A place for worker processes; see `amcc.workers.pool.Place`.

    Raises:
        UsageError: the function cannot be sent.
        OutputError: no room for it in the folder for temporary files.
    """

    def __init__(self, function: Any, what: str, count: int) -> None:
        self.count = count
        packed = Packed(function, what)
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as its workers
            for start, part in packed:
                self._file.seek(start)
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            needed = f"{packed.size / 2**20:.0f} MB cannot be laid out for the workers: {error.strerror}"
            hint = "TMPDIR names another folder for temporary files"
            raise OutputError(needed, where=tempfile.gettempdir(), hint=hint) from error

    def start(self) -> Process:
        """Start a process."""
        return Process(self._file)

    def close(self) -> None:
        """Give the file's room back."""
        self._file.close()


class Process:
    """A worker process; see `amcc.workers.pool.Worker`."""

    def __init__(self, block: IO[bytes]) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            descriptors = (theirs.fileno(), block.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "amcc.workers.serving", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                env={**dict.fromkeys(_THREADS, "1"), **os.environ, "PYTHONPATH": search_path()},
                start_new_session=True,  # so that Ctrl-C reaches the parent alone
            )

    def prepare(self) -> None:
        """See `Worker`."""
        self._answer()

    def call(self, item: Any) -> Any:
        """See `Worker`."""
        try:
            self._connection.send_bytes(pickled(item))
        except OSError:
            raise WorkerLost(self._end()) from None
        return self._answer()

    def close(self) -> None:
        """See `Worker`; the connection goes with the last use of it."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise WorkerLost(self._end()) from None
        return read(answer)

    def _end(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "a process closed its connection"
        return f"a process ended by {signal.Signals(-code).name}" if code < 0 else f"a process ended with code {code}"
