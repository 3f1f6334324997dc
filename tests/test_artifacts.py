"""The output folder appears whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from amcc import artifacts
from amcc.artifacts import check_output, default_output, hashes, journal_path, output_file, output_folder
from amcc.errors import OutputError, UsageError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def old_result(folder: Path) -> Path:
    folder.mkdir()
    (folder / "plan.json").write_text("old")
    return folder


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "m.amcc"
    with output_folder(target, force=False) as partial:
        (partial / "plan.json").write_text("new")
        assert not target.exists() and partial.parent == target.parent
    assert names(target) == ["plan.json"] and names(target.parent) == ["m.amcc"]
    assert target.stat().st_mode & 0o777 == 0o777 & ~artifacts._umask()


def test_nothing_is_left_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError), output_folder(tmp_path / "deep" / "m.amcc", force=False) as partial:
        (partial / "half").write_text("x")
        raise ValueError
    assert names(tmp_path) == []


def test_an_old_result_is_replaced_only_by_force(tmp_path: Path) -> None:
    target = old_result(tmp_path / "m.amcc")
    with pytest.raises(OutputError, match="--force"), output_folder(target, force=False):
        pass
    with output_folder(target, force=True) as partial:
        (partial / "plan.json").write_text("new")
        assert (target / "plan.json").read_text() == "old"
    assert (target / "plan.json").read_text() == "new" and names(tmp_path) == ["m.amcc"]


def test_an_old_result_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, real = old_result(tmp_path / "m.amcc"), os.replace

    def failing(source: Path, destination: Path) -> None:
        if Path(destination) == target and (Path(source) / "plan.json").read_text() == "new":
            raise OSError(errno.EIO, "Input/output error")
        real(source, destination)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match="Input/output error"), output_folder(target, force=True) as partial:
        (partial / "plan.json").write_text("new")
    assert (target / "plan.json").read_text() == "old" and names(tmp_path) == ["m.amcc"]


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(old_result(tmp_path / "m.amcc"))
    for name in ("photos", "file", "link"):
        with pytest.raises(OutputError):
            check_output(tmp_path / name, force=True)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "cat"
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", force=True)


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "not writable")]
)
def test_what_the_file_system_says(tmp_path: Path, code: int, message: str) -> None:
    with pytest.raises(OutputError, match=message), output_folder(tmp_path / "m.amcc", force=False) as partial:
        (partial / "half").write_text("x")
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_a_disk_that_says_late_that_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"), output_folder(tmp_path / "m.amcc", force=False) as partial:
        (partial / "model.onnx").write_text("x")
    assert names(tmp_path) == []


def test_a_place_that_cannot_hold_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        check_output(tmp_path / "file" / "m.amcc", force=False)


def test_files_are_atomic_too(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    with pytest.raises(OutputError, match="disk is full"), output_file(target, force=False) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []
    with output_file(target, force=False) as partial:
        partial.write_text("new")
    assert target.read_text() == "new" and names(tmp_path) == ["plan.json"]
    with pytest.raises(OutputError, match="already there"), output_file(target, force=False):
        pass


def test_hashes_leave_out_what_holds_timings(tmp_path: Path) -> None:
    for name in ("plan.json", "summary.json", "report.html"):
        (tmp_path / name).write_text("x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    assert hashes(tmp_path) == {"plan.json": digest}


def test_names() -> None:
    assert default_output("some/where/model.onnx") == Path("model.amcc")
    assert default_output("package.module:factory") == Path("factory.amcc")
    assert journal_path(Path("a/model.amcc")) == Path("a/model.amcc.journal.jsonl")
    with pytest.raises(UsageError):
        default_output("")
