"""The journal: what it holds, how a search goes on from it, and what it refuses."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from amcc.errors import OutputError, UsageError
from amcc.ir import Array
from amcc.search import SearchInterrupted, SearchResult, search
from tests.search_problems import Chain

EPISODES = 60


def run(journal: Path, *, policy: str = "ddpg", **options: Any) -> tuple[SearchResult, int]:
    """The result, and how many plans were scored in this run."""
    chain = Chain(4, seed=1)
    options = {"episodes": EPISODES, "seed": 5, "fingerprint": "f00d", **options}
    result = search(chain.problem("flops=0.5"), policy, journal=journal, **options)
    return result, len(chain.scored)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, bytes]:
    path = tmp_path_factory.mktemp("whole") / "deep" / "journal.jsonl"
    result, _ = run(path)
    return result, path.read_bytes()


def test_a_line_an_episode_after_the_header(whole: tuple[SearchResult, bytes]) -> None:
    result, data = whole
    header, *lines = [json.loads(line) for line in data.splitlines()]
    assert header["amcc-journal"] == 1
    assert (header["fingerprint"], header["seed"], header["episodes"]) == ("f00d", 5, EPISODES)
    assert header["policy"] == "ddpg"
    assert header["options"]["refine"] == pytest.approx(1 / 3)
    assert len(lines) == EPISODES
    for record, line in zip(result.records, lines, strict=True):
        assert line["episode"] == record.episode
        assert line["policy"] == record.policy
        assert tuple(line["keep"]) == record.keep
        assert line["score"] == record.score
        assert line["costs"] == {key: cost for key, cost in dataclasses.asdict(record.costs).items() if cost}


def test_resumed_anywhere_it_ends_the_same(whole: tuple[SearchResult, bytes], tmp_path: Path) -> None:
    result, data = whole
    lines = data.splitlines(keepends=True)
    for done, torn in ((0, 0.0), (0, 0.5), (1, 0.0), (2, 0.3), (6, 0.9), (11, 0.0), (29, 0.99), (60, 0.0), (61, 0.0)):
        path = tmp_path / f"{done}-{torn}.jsonl"
        rest = lines[done] if done < len(lines) else b""
        path.write_bytes(b"".join(lines[:done]) + rest[: int(torn * len(rest))])
        resumed, scored = run(path)
        assert resumed == result
        assert path.read_bytes() == data
        assert scored == len({r.keep for r in result.records} - {r.keep for r in result.records[: max(done - 1, 0)]})
        assert sum(r.source == "journal" for r in resumed.records) == max(done - 1, 0)


def test_a_torn_last_line_with_an_end_is_done_again(whole: tuple[SearchResult, bytes], tmp_path: Path) -> None:
    result, data = whole
    path = tmp_path / "j"
    path.write_bytes(b"".join(data.splitlines(keepends=True)[:5]) + b"\0\0\0\n")
    assert run(path)[0] == result
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 6}, "seed was 5, is 6"),
        ({"episodes": 61}, "episodes was 60, is 61"),
        ({"fingerprint": "beef"}, 'fingerprint was "f00d", is "beef"'),
        ({"policy": "random"}, 'policy was "ddpg", is "random"'),
    ],
)
def test_the_journal_of_another_search_is_refused(
    whole: tuple[SearchResult, bytes], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = tmp_path / "j"
    path.write_bytes(whole[1])
    with pytest.raises(UsageError) as caught:
        run(path, **change)
    assert says in str(caught.value)
    assert "delete the journal" in str(caught.value)
    assert path.read_bytes() == whole[1]


def test_a_broken_line_in_the_middle_is_an_error(whole: tuple[SearchResult, bytes], tmp_path: Path) -> None:
    lines = whole[1].splitlines(keepends=True)
    path = tmp_path / "j"
    for broken in (b"{\n", b"[]\n", b'{"episode":3}\n', b"\xff\n", lines[5], lines[0]):
        path.write_bytes(
            b"".join([*lines[:4], broken, *lines[5:]]) if broken != lines[5] else b"".join(lines[:4] + lines[5:])
        )
        before = path.read_bytes()
        with pytest.raises(UsageError, match="line 5 of the journal is broken"):
            run(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"a text\n", b"a text", b"{}\n", b"[1]\n{}\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="not a journal"):
        run(path)
    assert path.read_bytes() == data


def test_a_journal_that_does_not_repeat_is_refused(whole: tuple[SearchResult, bytes], tmp_path: Path) -> None:
    """Another machine, or data changed behind the fingerprint's back."""
    lines = whole[1].splitlines(keepends=True)
    facts = json.loads(lines[3])
    facts["keep"][0] += 1
    path = tmp_path / "j"
    path.write_bytes(b"".join([*lines[:3], json.dumps(facts, separators=(",", ":")).encode() + b"\n", *lines[4:]]))
    with pytest.raises(UsageError, match="leaves this search at episode 2"):
        run(path)


def test_ctrl_c_keeps_what_was_found(whole: tuple[SearchResult, bytes], tmp_path: Path) -> None:
    result, data = whole
    chain = Chain(4, seed=1)
    problem = chain.problem("flops=0.5")

    def score(keep: Array) -> float:
        if len(chain.scored) == 9:
            raise KeyboardInterrupt
        return chain.score(keep)

    path = tmp_path / "j"
    with pytest.raises(SearchInterrupted) as caught:
        search(
            dataclasses.replace(problem, score=score),
            "ddpg",
            episodes=EPISODES,
            seed=5,
            fingerprint="f00d",
            journal=path,
        )
    stopped = caught.value
    assert stopped.exit_code == 130
    assert stopped.result is not None
    done = len(stopped.result.records)
    assert stopped.result.records == result.records[:done]
    assert stopped.best == max(result.records[:done], key=lambda r: r.score)
    assert f"stopped after {done} episodes" in str(stopped)
    assert data.startswith(path.read_bytes())
    assert run(path)[0] == result
    assert path.read_bytes() == data


def test_ctrl_c_before_the_first_episode(tmp_path: Path) -> None:
    def score(keep: Array) -> float:
        raise KeyboardInterrupt

    problem = dataclasses.replace(Chain(3).problem("flops=0.5"), score=score)
    with pytest.raises(SearchInterrupted, match="after 0 episodes") as caught:
        search(problem, "ddpg", episodes=5, seed=0)
    assert caught.value.best is None


def test_a_journal_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be opened"):
        run(tmp_path / "file" / "journal")
    with pytest.raises(OutputError, match="cannot be opened"):
        run(tmp_path)

    path, write, left = tmp_path / "full", os.write, [5]

    def full(file: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:40] if left[0] == 0 else data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        run(path)
    monkeypatch.undo()
    assert path.read_bytes().count(b"\n") == 4
    run(path)
    assert path.read_bytes().count(b"\n") == EPISODES + 1
