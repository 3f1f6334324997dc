"""The output folder: all of it appears at once, or nothing does."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amcc.errors import OutputError, UsageError
from amcc.usercode import is_named

TIMED = ("report.html", "summary.json")
_MARKS = ("summary.json", "plan.json", "pareto.json", "compare.json", "convert.json")
_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some space or give another -o"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or give another -o"),
    errno.EACCES: ("not writable", "give another -o"),
    errno.EPERM: ("not writable", "give another -o"),
    errno.EROFS: ("not writable: the file system is read-only", "give another -o"),
}


def check_output(target: Path, *, force: bool, folder: bool = True) -> None:
    """Find out before the work whether the folder (or file) can be written after it.

    Raises:
        OutputError: it exists and `force` is not given, or is no folder of amcc's, or cannot be written.
    """
    if target.is_symlink() or target.exists():
        if not force:
            raise OutputError("is already there", where=str(target), hint="give --force to replace it, or another -o")
        if target.is_symlink() or target.is_dir() != folder:
            raise OutputError(f"is not a {'folder' if folder else 'file'}", where=str(target), hint="give another -o")
        if folder and any(target.iterdir()) and not any((target / mark).is_file() for mark in _MARKS):
            raise OutputError("was not written by amcc and is not replaced", where=str(target), hint="give another -o")
    above = next(p for p in target.absolute().parents if p.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=above):
            pass
    except OSError as error:
        raise _explained(error, target) from error


@contextmanager
def output_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside the target that takes its place when the block ends well.

    Raises:
        OutputError: anything about the file system that fails; nothing is left behind.
    """
    check_output(target, force=force)
    made = [p for p in target.absolute().parents if not p.exists()]
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield partial
        _sync(partial)
        partial.chmod(0o777 & ~_umask())
        _replace(partial, target)
    except BaseException as error:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        cause = error.__context__ if isinstance(error, OutputError) else error
        if isinstance(cause, OSError):
            raise _explained(cause, target) from error
        raise


@contextmanager
def output_file(target: Path, *, force: bool) -> Iterator[Path]:
    """A temporary file beside the target that takes its place when the block ends well.

    Raises:
        OutputError: anything about the file system that fails; nothing is left behind.
    """
    check_output(target, force=force, folder=False)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, target)
    except OSError as error:
        raise _explained(error, target) from error
    finally:
        partial.unlink(missing_ok=True)


def journal_path(target: Path) -> Path:
    """Where the search's journal lies until the folder is written."""
    return target.with_name(target.name + ".journal.jsonl")


def tuning_path(target: Path) -> Path:
    """Where the checkpoint of a training lies until the folder is written."""
    return target.with_name(target.name + ".tuning.safetensors")


def default_output(model: str, suffix: str = ".amcc") -> Path:
    """`model.amcc` in the working directory for `some/where/model.onnx`, `factory.amcc` for `module:factory`."""
    name = model.rpartition(":")[2] if is_named(model) else Path(model).stem
    if not name:
        raise UsageError("cannot name an output folder after this model", where=model, hint="give -o")
    return Path(f"{name}{suffix}")


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the artifacts in a folder by relative path, sorted; of what holds timings, none."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in TIMED):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _replace(partial: Path, target: Path) -> None:
    if not target.exists():
        os.replace(partial, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.replace(target, old / target.name)
    try:
        os.replace(partial, target)
    except OSError:
        os.replace(old / target.name, target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Ask the disk to hold every file: a full disk may say so only now."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _explained(error: OSError, target: Path) -> OutputError:
    message, hint = _ERRORS.get(error.errno or 0, (f"cannot be written: {error.strerror or error}", "give another -o"))
    return OutputError(message, where=str(target), hint=hint)
