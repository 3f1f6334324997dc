"""Workers here: order, shared memory, deaths, errors, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amcc.errors import DataError, OutputError, UsageError, WorkerError
from amcc.settings import Settings
from amcc.workers.local import Processes
from amcc.workers.packed import Packed, unpacked
from amcc.workers.pool import Pool, WorkerLost
from tests import worker_functions
from tests.worker_functions import Dying, Sum, failing, late

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")


def pool(function: Callable[[Any], Any], count: int = 2) -> Pool:
    return Pool(lambda: Processes(function, "the function", count))


def alive(number: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    status = Path(f"/proc/{number}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(numbers: list[int], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while any(alive(number) for number in numbers) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(alive(number) for number in numbers)


def test_a_block_holds_an_object_and_its_arrays() -> None:
    thing = {
        "c": np.arange(7, dtype=np.int8),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(10)[::2],
        "objects": np.array([None, "a"], object),
        "empty": np.zeros((0, 3)),
        "text": "x",
    }
    packed = Packed(thing, "it")
    block = np.zeros(packed.size, np.uint8)
    for start, part in packed:
        block[start : start + len(part)] = np.frombuffer(part, np.uint8)
    block.flags.writeable = False
    found = unpacked(block.data)
    assert found.keys() == thing.keys() and found["text"] == "x"
    for name in ("c", "f", "strided", "objects", "empty"):
        np.testing.assert_array_equal(found[name], thing[name])
        assert found[name].dtype == thing[name].dtype  # type: ignore[attr-defined]
    for name in ("c", "f"):
        assert np.shares_memory(found[name], block) and not found[name].flags.writeable
        assert found[name].ctypes.data % 64 == block.ctypes.data % 64


def test_what_cannot_be_sent_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"the metric cannot be sent to workers: TypeError: .*lock.*\(give the metric"):
        Packed(threading.Lock(), "the metric")


def test_results_come_in_order_from_several_processes_that_share_the_arrays() -> None:
    size = 160 << 20
    shared = np.ones(size // 8)
    with pool(Sum(shared)) as workers:
        found = list(workers.map(range(24)))
        assert [total for total, *_ in found] == [len(shared) + i for i in range(24)]
        assert {number for _, number, *_ in found} - {os.getpid()} == {number for _, number, *_ in found}
        assert max(own for _, _, own, _ in found) < (size >> 10) / 2, "each worker has a copy"
        assert not any(writeable for *_, writeable in found)
        assert list(workers.map([])) == []
        again = list(workers.map([1, 2]))
        assert {number for _, number, *_ in again} <= {number for _, number, *_ in found} or len(again) == 2
    assert gone([number for _, number, *_ in found])


def test_a_late_result_does_not_change_the_order() -> None:
    with pool(late) as workers:
        assert list(workers.map([0.3, 0.0, 0.01])) == [0.3, 0.0, 0.01]


def test_a_worker_that_dies_is_replaced_and_its_task_done_again(tmp_path: Path) -> None:
    with pool(Dying(tmp_path, at=3, times=2)) as workers:
        assert list(workers.map(range(6))) == list(range(6))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_task_that_kills_every_worker_ends_in_one_clear_error(tmp_path: Path) -> None:
    with pool(Dying(tmp_path, at=3, times=99)) as workers:
        done = []
        with pytest.raises(WorkerError, match=r"died 3 times on one task: a process ended by SIGKILL .*--workers"):
            for item in workers.map(range(6)):
                done.append(item)
        assert done == [0, 1, 2]
        assert list(workers.map([4, 5])) == [4, 5]
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_function_raises_is_raised_here() -> None:
    with pool(failing) as workers:
        with pytest.raises(DataError) as caught:
            list(workers.map([1, 2]))
        assert (caught.value.where, caught.value.hint) == ("here", "look there")
        with pytest.raises(ZeroDivisionError, match="a fault") as fault:
            list(workers.map([3]))
        assert "in failing" in fault.value.__notes__[0]
        assert list(workers.map([1, 4])) == [1, 4]


def test_functions_of_a_script_go_along() -> None:
    offset = 10
    with pool(lambda item: item + offset) as workers:
        assert list(workers.map([1, 2])) == [11, 12]


def test_workers_that_cannot_start_are_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    false = tmp_path / "python"
    false.write_text("#!/bin/sh\nexit 7\n")
    false.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(false))
    with pool(failing) as workers:
        for _ in range(2):
            with pytest.raises(WorkerError, match="workers cannot be started: a process ended with code 7"):
                list(workers.map([1, 4]))


def test_no_room_for_what_is_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pool(failing) as workers, pytest.raises(OutputError, match=r"cannot be laid out.*TMPDIR"):
        list(workers.map([1]))


def test_a_pool_that_is_left_early_leaves_nothing(tmp_path: Path) -> None:
    with pool(worker_functions.Endless(tmp_path)) as workers:
        results = workers.map([1, 2, 3])
        stop = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT))
        stop.start()
        with pytest.raises(KeyboardInterrupt):
            next(results)
    numbers = [int(path.name) for path in tmp_path.iterdir()]
    assert gone(numbers)


def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = Path(worker_functions.__file__)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        numbers = [int(path.name) for path in tmp_path.iterdir()]
        assert len(numbers) == 2 and all(alive(number) for number in numbers)
    finally:
        parent.kill()
        parent.wait()
    assert gone(numbers)


def test_a_pool_whose_place_is_not_found_can_be_closed() -> None:
    def nowhere() -> Any:
        raise WorkerError("no place")

    with Pool(nowhere) as workers, pytest.raises(WorkerError, match="no place"):
        list(workers.map([1]))


def test_one_worker_that_cannot_be_had_does_not_stop_the_others() -> None:
    class Here:
        def __init__(self, fails: bool) -> None:
            self.fails = fails

        def prepare(self) -> None:
            if self.fails:
                raise WorkerLost("no room")

        def call(self, item: int) -> int:
            return -item

        def close(self) -> None:
            pass

    class Somewhere:
        count = 2
        doomed: threading.Thread | None = None

        def start(self) -> Here:
            self.doomed = self.doomed or threading.current_thread()
            return Here(fails=threading.current_thread() is self.doomed)

        def close(self) -> None:
            pass

    with Pool(Somewhere) as workers:
        assert list(workers.map([1, 2, 3])) == [-1, -2, -3]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"workers": 0}, "0 is below 1"), ({"workers": -1}, "--workers: -1 is below 1")],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Settings(**options)


def test_cores_are_shared_out() -> None:
    cores = Settings(workers=1).threads_each
    assert cores >= 1 and Settings(workers=cores * 2).threads_each == 1
    assert Settings(workers=2, threads=3).threads_each == 3
    assert not Settings(workers=1).side_by_side and Settings(workers=2).side_by_side
