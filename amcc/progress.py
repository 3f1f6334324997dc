"""What a person sees while amcc works, on standard error: phases, and the search as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_LINES = 10


class Scored(Protocol):
    """One episode of the search."""

    @property
    def policy(self) -> str:
        """Who proposed the plan."""
        ...

    @property
    def score(self) -> float:
        """Higher is better."""
        ...

    @property
    def probe(self) -> bool:
        """Whether the plan does not fit and was scored for what it tells."""
        ...


class Observer(Protocol):
    """What a compilation tells about itself."""

    def phase(self, text: str) -> None:
        """A phase begins."""
        ...

    def search_begins(self, episodes: int) -> None:
        """So many episodes follow at most; 0 for a few."""
        ...

    def episode(self, record: Scored) -> None:
        """One episode ended."""
        ...

    def search_ends(self) -> None:
        """No more episodes."""
        ...


class Silent:
    """Shows nothing."""

    def phase(self, text: str) -> None:
        """See `Observer`."""

    def search_begins(self, episodes: int) -> None:
        """See `Observer`."""

    def episode(self, record: Scored) -> None:
        """See `Observer`."""

    def search_ends(self) -> None:
        """See `Observer`."""


class Terminal:
    """A moving bar where the console is a terminal, else a plain line now and then and at each new best."""

    def __init__(self, console: Console, show: Callable[[float], str] = "{:.4f}".format) -> None:
        self._console = console
        self._show = show
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._episodes = self._done = 0
        self._best = float("-inf")
        self._began = 0.0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.search_ends()

    def phase(self, text: str) -> None:
        """Say what is being done."""
        self._console.print(f"[dim]{text}[/]", highlight=False)

    def search_begins(self, episodes: int) -> None:
        """Show the bar."""
        self._episodes, self._done, self._best = episodes, 0, float("-inf")
        self._began = time.monotonic()
        if not self._console.is_terminal or not episodes:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("search"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("best {task.fields[best]}  now {task.fields[now]} ({task.fields[policy]})"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("search", total=episodes, best="-", now="-", policy="-")

    def episode(self, record: Scored) -> None:
        """Move the bar, or print a line."""
        self._done += 1
        better = not record.probe and record.score > self._best
        if better:
            self._best = record.score
        best = self._show(self._best) if self._best > float("-inf") else "-"
        now = self._show(record.score)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, best=best, now=now, policy=record.policy)
        elif self._episodes and (better or self._done % max(1, self._episodes // _LINES) == 0):
            left = (time.monotonic() - self._began) / self._done * (self._episodes - self._done)
            self._console.print(
                f"episode {self._done}/{self._episodes}  best {best}  now {now} ({record.policy})  eta {left:.0f} s",
                highlight=False,
            )

    def search_ends(self) -> None:
        """Take the bar away; may be called twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


class Clock:
    """Seconds by phase; tells an observer as each begins."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, text: str = "") -> Iterator[None]:
        """Time a phase; phases of one name add up."""
        if text:
            self.observer.phase(text)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - began, 3)
