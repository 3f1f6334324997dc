"""Workers that take tasks from one queue, and what happens when one of them dies.

Each worker has a thread here that starts it, hands it one task after another and waits for the answers. A worker
that dies is replaced and its task, put back in front, is done again by whichever worker is free first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Protocol

from amcc.errors import WorkerError

ATTEMPTS = 3
"""How often a task is tried, and a worker started, before all is given up."""


class WorkerLost(Exception):
    """A worker died, or never came up; says how."""


class Worker(Protocol):
    """Something that calls the function elsewhere."""

    def prepare(self) -> None:
        """Wait until it is ready for its first item.

        Raises:
            WorkerLost: it is gone; anything else is why it cannot be had.
        """
        ...

    def call(self, item: Any) -> Any:
        """What the function gives for an item.

        Raises:
            WorkerLost: it is gone; anything else is what the function raised.
        """
        ...

    def close(self) -> None:
        """End it, whatever it is doing; safe to call twice and from any thread."""
        ...


class Place(Protocol):
    """Where workers are.

    Attributes:
        count: how many there shall be.
    """

    count: int

    def start(self) -> Worker:
        """Start a worker, without waiting for it."""
        ...

    def close(self) -> None:
        """Leave nothing behind, once all workers are closed."""
        ...


@dataclass(eq=False)
class _Task:
    item: Any
    result: Future[Any] = field(default_factory=Future)
    attempts: int = 0


class Pool:
    """Calls one function for many items at once.

    Workers start with the first items and stay until the pool is closed.

    Args:
        open: finds the place for the workers when the first items come.
    """

    def __init__(self, open: Callable[[], Place]) -> None:
        self._open = open
        self._place: Place | None = None
        self._tasks: deque[_Task] = deque()
        self._changed = Condition()
        self._workers: set[Worker] = set()
        self._threads: list[Thread] = []
        self._employed = 0
        self._failure: BaseException | None = None
        self._closed = False

    def map(self, items: Sequence[Any]) -> Generator[Any, None, None]:
        """The function's results in the order of the items, each as soon as it and those before it are there.

        Raises:
            WorkerError: workers keep dying. Anything else is what the function raised.
        """
        tasks = [_Task(item) for item in items]
        if tasks and self._place is None:
            self._begin()
        try:
            with self._changed:
                self._tasks.extend(tasks)
                self._changed.notify_all()
                self._check_employed()
            for task in tasks:
                yield task.result.result()
        finally:
            for task in tasks:
                task.result.cancel()

    def close(self) -> None:
        """End all workers; safe to call twice."""
        with self._changed:
            self._closed = True
            workers = list(self._workers)
            self._changed.notify_all()
        for worker in workers:
            worker.close()
        for thread in self._threads:
            thread.join()
        if self._place is not None:
            self._place.close()
            self._place = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _begin(self) -> None:
        self._place = self._open()
        self._employed = self._place.count
        self._threads = [Thread(target=self._employ, args=(self._place,), daemon=True) for _ in range(self._employed)]
        for thread in self._threads:
            thread.start()

    def _employ(self, place: Place) -> None:
        """Keep one worker at work, replaced when it dies, until the pool is closed or none can be had."""
        failures = 0
        while not self._closed:
            try:
                with self._started(place) as worker:
                    worker.prepare()
                    failures = 0
                    self._use(worker)
            except WorkerLost as lost:
                failures += 1
                if failures == ATTEMPTS:
                    self._leave(WorkerError(f"workers cannot be started: {lost}"))
                    return
            except BaseException as error:
                self._leave(error)
                return

    @contextmanager
    def _started(self, place: Place) -> Iterator[Worker]:
        worker = place.start()
        try:
            with self._changed:
                self._workers.add(worker)
                closed = self._closed
            if closed:
                worker.close()
            yield worker
        finally:
            with self._changed:
                self._workers.discard(worker)
            worker.close()

    def _use(self, worker: Worker) -> None:
        """Hand tasks to a worker until it dies or the pool is closed."""
        while (task := self._next()) is not None:
            try:
                found = worker.call(task.item)
            except WorkerLost as lost:
                self._again(task, lost)
                return
            except BaseException as error:
                task.result.set_exception(error)
            else:
                task.result.set_result(found)

    def _next(self) -> _Task | None:
        """The next task that is still wanted; None when the pool is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closed or self._tasks)
                if self._closed:
                    return None
                task = self._tasks.popleft()
                if task.attempts or task.result.set_running_or_notify_cancel():
                    task.attempts += 1
                    return task

    def _again(self, task: _Task, lost: WorkerLost) -> None:
        with self._changed:
            if not self._closed and task.attempts < ATTEMPTS:
                self._tasks.appendleft(task)
                self._changed.notify()
                return
        task.result.set_exception(
            WorkerError(
                f"workers died {task.attempts} times on one task: {lost}",
                hint="where memory ran out, fewer --workers or smaller --eval-samples help",
            )
        )

    def _leave(self, error: BaseException) -> None:
        """One worker fewer, and no more to be had; without any, every task fails."""
        with self._changed:
            self._employed -= 1
            self._failure = error
            self._check_employed()

    def _check_employed(self) -> None:
        if self._employed or self._failure is None:
            return
        while self._tasks:
            task = self._tasks.popleft()
            if task.attempts or task.result.set_running_or_notify_cancel():
                task.result.set_exception(self._failure)
