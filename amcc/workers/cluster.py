"""Workers that are actors on a Ray cluster.

The function is put into Ray's object store once; a node copies it once, and its actors read it there. An actor that
goes, with its node or alone, is replaced by Ray's scheduler wherever there is room. Nothing is reported to anybody.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from amcc.errors import WorkerError
from amcc.ir import Array
from amcc.workers.packed import Packed
from amcc.workers.pool import WorkerLost
from amcc.workers.serving import Servant, pickled, read, search_path

LOCAL = "local"
"""In place of an address: a cluster on this machine for as long as it is needed."""
_PATIENCE = 10
"""Seconds for a cluster to answer at its address."""
_SAME = ("amcc", "numpy", "onnxruntime")
"""Packages that must be the same on all nodes, for the results to be."""


class Cluster:
    """A place for actors; see `amcc.workers.pool.Place`.

    Args:
        address: of Ray, as `ray.init` takes it, or `LOCAL`.
        count: of actors; by default as many as the cluster has cores for.
        threads: cores of an actor.

    Raises:
        UsageError: the function cannot be sent.
        WorkerError: there is no Ray at the address, or no room on it.
    """

    def __init__(self, function: Any, what: str, address: str, count: int | None, threads: int) -> None:
        packed = Packed(function, what)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray: Any = ray
        self._left = ExitStack()
        if not ray.is_initialized():
            self._connect(address, count, threads)
            self._left.enter_context(redirect_stdout(sys.stderr))  # where Ray says which nodes it lost
            self._left.callback(ray.shutdown)
        try:
            room = int(self._ray.cluster_resources().get("CPU", 0)) // threads
            if not room:
                raise WorkerError(f"no node of the cluster has {threads} cores", where=f"--ray {address}")
            self.count = count or room
            block = np.empty(packed.size, np.uint8)
            for start, part in packed:
                block[start : start + len(part)] = part
            self._block = ray.put(block)
            self._actor = ray.remote(Actor).options(num_cpus=threads, max_restarts=0, scheduling_strategy="SPREAD")
        except BaseException:
            self.close()
            raise

    def start(self) -> RayWorker:
        """Ask for an actor."""
        return RayWorker(self._ray, self._actor.remote(self._block))

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._left.close()

    def _connect(self, address: str, count: int | None, threads: int) -> None:
        where = f"--ray {address}"
        local = {"num_cpus": count and count * threads, "include_dashboard": False} if address == LOCAL else {}
        try:
            _check_listening(address)
            with _own_path(bool(local)):
                self._ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except Exception as error:  # Ray's own exceptions, those of its client, ConnectionError
            lines = str(error).strip().splitlines() or [type(error).__name__]
            hint = "local, auto, HOST:PORT or ray://HOST:PORT"
            raise WorkerError(f"Ray cannot be reached: {lines[0]}", where=where, hint=hint) from error


def _check_listening(address: str) -> None:
    """Find out in seconds what Ray finds out in minutes; an address without a port is left to Ray."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


@contextmanager
def _own_path(local: bool) -> Iterator[None]:
    """What is started here meanwhile looks for modules where this process does."""
    before = os.environ.get("PYTHONPATH")
    if local:
        os.environ["PYTHONPATH"] = search_path()
    try:
        yield
    finally:
        if before is not None:
            os.environ["PYTHONPATH"] = before
        elif local:
            del os.environ["PYTHONPATH"]


class Actor:
    """What runs on a node."""

    def __init__(self, block: Array) -> None:
        self._servant = Servant(block.data)

    def prepare(self) -> tuple[dict[str, str], bytes]:
        """What is installed there, and the answer once the function is ready."""
        return installed(), self._servant.prepare()

    def call(self, item: bytes) -> bytes:
        """The answer to an item."""
        return self._servant.call(item)


class RayWorker:
    """An actor, from here; see `amcc.workers.pool.Worker`."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def prepare(self) -> None:
        """See `Worker`."""
        theirs, answer = self._get(self._actor.prepare.remote())
        ours = installed()
        if differing := [f"{name} {theirs[name]} ({ours[name]} here)" for name in ours if theirs[name] != ours[name]]:
            raise WorkerError(f"a node of the cluster has {', '.join(differing)}", hint="install the same everywhere")
        read(answer)

    def call(self, item: Any) -> Any:
        """See `Worker`."""
        return read(self._get(self._actor.call.remote(pickled(item))))

    def close(self) -> None:
        """See `Worker`."""
        try:
            self._ray.kill(self._actor)
        except Exception:  # gone already, or its cluster
            return

    def _get(self, answer: Any) -> Any:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise WorkerError(f"an actor fails: {str(error.cause).strip()}") from error
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise WorkerLost(lines[0]) from None


def installed() -> dict[str, str]:
    """Versions of what must be the same everywhere."""
    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for name in _SAME:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found
