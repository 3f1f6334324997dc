"""Ways in which a compilation is stopped in the middle."""

from __future__ import annotations

from amcc.progress import Scored, Silent


class StopAt(Silent):
    """Ctrl-C, or a kill, after an episode."""

    def __init__(self, episode: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = episode, error

    def episode(self, record: Scored) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


class Killed(BaseException):
    """What no handler catches."""
