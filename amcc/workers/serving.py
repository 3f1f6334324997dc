"""What a worker does with a request: call the function, and answer with what it gave or raised.

`python -m amcc.workers.serving CONNECTION BLOCK`, with two open file descriptors, is a worker process. It
ends with the connection: a thread of its own waits for requests, so it notices at once when the parent is gone.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from amcc.workers.packed import unpacked


class Servant:
    """Calls the function of a block; every answer is pickled, with what was given or raised."""

    def __init__(self, block: memoryview) -> None:
        self._block = block
        self._function: Callable[[Any], Any] | None = None

    def prepare(self) -> bytes:
        """Take the function out of its block; the answer is None."""
        return _answer(self._open)

    def call(self, item: bytes) -> bytes:
        """The function's answer to a pickled item."""
        assert self._function is not None
        function = self._function
        return _answer(lambda: function(pickle.loads(item)))

    def _open(self) -> None:
        self._function = unpacked(self._block)


def _answer(call: Callable[[], Any]) -> bytes:
    try:
        return pickled((True, call()))
    except Exception as error:
        error.add_note("in a worker:\n" + traceback.format_exc())
        try:
            return pickled((False, error))
        except Exception:  # something in the error that cannot be sent
            return pickled((False, RuntimeError(f"{type(error).__name__}: {error}")))


def read(answer: bytes) -> Any:
    """What a servant's function gave; raises what it raised."""
    fine, found = pickle.loads(answer)
    if not fine:
        raise found
    return found


def pickled(thing: Any) -> bytes:
    """An item or an answer as bytes."""
    import cloudpickle

    made: bytes = cloudpickle.dumps(thing, protocol=5)
    return made


def search_path() -> str:
    """Where this process looks for modules, for PYTHONPATH."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def serve(connection: Connection, block: int) -> None:
    """Answer requests until the connection ends; the first answer, unasked, says that all is ready."""
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    servant = Servant(memoryview(mmap.mmap(block, 0, access=mmap.ACCESS_READ)))
    connection.send_bytes(servant.prepare())
    while True:
        connection.send_bytes(servant.call(requests.get()))


def _listen(connection: Connection, requests: SimpleQueue[bytes]) -> None:
    try:
        while True:
            requests.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # what a metric prints must not get between the parent's results
    try:
        serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
    except OSError:
        os._exit(0)
