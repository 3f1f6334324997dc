"""The search's journal: one line of JSON an episode, on disk before the next episode begins.

The first line says which search it is. A later run of the same search repeats its own steps and
takes the scores of the episodes written here instead of evaluating them, so it ends where an
undisturbed run would. A line cut short by a kill is dropped and its episode is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from amcc.budget import Costs
from amcc.errors import OutputError, UsageError

FORMAT = 1
_ALWAYS = ("flops", "params", "size")
_AGAIN = "delete the journal, or give another one, to begin anew"


@dataclass(frozen=True, slots=True)
class Record:
    """One episode.

    Attributes:
        episode: its number, from 0.
        policy: who proposed the plan.
        keep: units kept, one number a group.
        score: higher is better.
        costs: of the plan.
        probe: the plan does not fit: it was scored for what it tells and is never shipped.
        source: where the score came from in this run; not part of the journal or of equality.
    """

    episode: int
    policy: str
    keep: tuple[int, ...]
    score: float
    costs: Costs
    probe: bool = False
    source: Literal["evaluated", "repeated", "journal"] = field(default="evaluated", compare=False)

    def line(self) -> str:
        """The journal's line, without its end."""
        facts = {"episode": self.episode, "policy": self.policy, "keep": self.keep, "score": self.score}
        costs = {key: cost for key, cost in asdict(self.costs).items() if cost or key in _ALWAYS}
        return _json({**facts, "costs": costs, **({"probe": True} if self.probe else {})})


class Journal:
    """Opens a journal to go on with, or begins one.

    Args:
        path: the file; its folder is made if need be.
        header: what makes the search what it is, JSON values only.

    Attributes:
        past: the episodes already there.

    Raises:
        UsageError: the journal belongs to another search (says what differs), or is broken.
        OutputError: the file cannot be read or written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        first = _json({"amcc-journal": FORMAT, **header})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as error:
            raise OutputError(f"the journal cannot be opened: {error.strerror}", where=str(path)) from error
        try:
            self.past = self._recover(first)
        except BaseException:
            self.close()
            raise

    def append(self, record: Record) -> None:
        """Write one episode and wait until it is on disk.

        Raises:
            OutputError: the disk is full or gone; the journal stays good up to the episode before.
        """
        self._write(record.line())

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _recover(self, first: str) -> tuple[Record, ...]:
        """The episodes on file; cuts off a torn end and writes the header of a new journal."""
        data = self.path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines:
            if data and not first.encode().startswith(data):
                raise UsageError("this file is not a journal of amcc", where=str(self.path), hint=_AGAIN)
            self._cut(0)
            self._write(first)
            return ()
        self._compare(lines[0], first)
        records: list[Record] = []
        size = len(lines[0])
        for number, line in enumerate(lines[1:], start=2):
            record = _record(line, len(records))
            if record is None:
                if number == len(lines):
                    break
                raise UsageError(f"line {number} of the journal is broken", where=str(self.path), hint=_AGAIN)
            records.append(record)
            size += len(line)
        self._cut(size)
        return tuple(records)

    def _compare(self, found: bytes, first: str) -> None:
        theirs, ours = _parsed(found), json.loads(first)
        if not isinstance(theirs, dict) or "amcc-journal" not in theirs:
            raise UsageError("this file is not a journal of amcc", where=str(self.path), hint=_AGAIN)
        differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        if differing:
            said = "; ".join(f"{key} was {_short(theirs.get(key))}, is {_short(ours.get(key))}" for key in differing)
            raise UsageError(f"the journal belongs to another search: {said}", where=str(self.path), hint=_AGAIN)

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._file, size)
            os.lseek(self._file, size, os.SEEK_SET)
        except OSError as error:
            raise OutputError(f"the journal cannot be written: {error.strerror}", where=str(self.path)) from error

    def _write(self, line: str) -> None:
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            raise OutputError(f"the journal cannot be written: {error.strerror}", where=str(self.path)) from error


def records(path: Path) -> tuple[Record, ...]:
    """The episodes of a journal that is only to be read; none where it is broken or not there."""
    try:
        lines = path.read_bytes().splitlines()[1:]
    except OSError:
        return ()
    found = [_record(line, number) for number, line in enumerate(lines)]
    return tuple(record for record in found if record is not None)


def _record(line: bytes, episode: int) -> Record | None:
    """The line's record, or None if it is not that episode's."""
    try:
        facts = _parsed(line)
        costs = Costs(**{key: int(value) for key, value in facts["costs"].items()})
        keep = tuple(int(k) for k in facts["keep"])
        probe = bool(facts.get("probe", False))
        record = Record(facts["episode"], str(facts["policy"]), keep, float(facts["score"]), costs, probe, "journal")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return record if record.episode == episode else None


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, separators=(",", ":"), allow_nan=False)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
