"""Workers on a real Ray: two nodes on this machine of which one is killed, and a cluster of amcc's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import amcc
from amcc.errors import UsageError
from amcc.settings import Settings
from tests import tiny_models
from tests.test_workers import gone

ROOT = Path(__file__).resolve().parent.parent
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'amcc[ray]')")


def in_session(session: int, *, agents: bool = True) -> list[int]:
    """The numbers of a session's processes; those with which Ray only watches a node are agents."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            own = int((path / "stat").read_text().rpartition(")")[2].split()[3])
            watches = b"Agent" in (path / "cmdline").read_bytes()
        except OSError:
            continue
        if own == session and (agents or not watches):
            found.append(int(path.name))
    return found


@needs_ray
@pytest.mark.slow
def test_a_node_is_killed_in_the_middle_of_a_search(tmp_path: Path) -> None:
    script = Path(__file__).with_name("ray_search.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"nodes": 3, "same": True}
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def command(tmp_path: Path, out: str, *more: str) -> list[str]:
    options: dict[str, Any] = {"--budget": "flops=0.5", "--data": tmp_path / "data.npz", "--search": "refine"}
    options |= {"--episodes": 60, "--recover": "none", "--seed": 2, "-o": tmp_path / out}
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "amcc", "compile", str(tmp_path / "model.onnx"), *words, "--json", *more]


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_its_own_gives_the_same_bytes_and_leaves_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **tiny_models.samples(90))  # type: ignore[arg-type]
    tiny_models.save(tmp_path / "model.onnx")
    run: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True, "start_new_session": True}
    run |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    on_ray = command(tmp_path, "ray.amcc", "--ray", "local", "--workers", "2")
    journal = tmp_path / "ray.amcc.journal.jsonl"
    with subprocess.Popen(on_ray, **run) as killed:
        while killed.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") > 5):
            time.sleep(0.005)
        assert len(in_session(killed.pid, agents=False)) >= 5  # amcc, two actors, a raylet, a server
        killed.kill()
        killed.wait()
    # Ray's agents try to report the loss for a minute before they go.
    assert gone(in_session(killed.pid, agents=False), 60)

    with subprocess.Popen(on_ray, **run) as going_on:
        out, said = going_on.communicate(timeout=300)
    assert going_on.returncode == 0, said
    assert gone(in_session(going_on.pid), 60)
    assert "searching with 2 workers on Ray (local)" in said
    plain = subprocess.run(command(tmp_path, "here.amcc"), timeout=300, **run)
    one, other = json.loads(out), json.loads(plain.stdout)
    assert {k: v for k, v in one.items() if k != "timings"} == {k: v for k, v in other.items() if k != "timings"}
    for name in ("model.onnx", "plan.json", "journal.jsonl"):
        assert (tmp_path / "ray.amcc" / name).read_bytes() == (tmp_path / "here.amcc" / name).read_bytes()


@needs_ray
def test_no_cluster_at_the_address_is_one_clear_error(tmp_path: Path) -> None:
    script = (
        "import sys, amcc; from tests import tiny_models\n"
        "from amcc.errors import WorkerError\n"
        "try:\n"
        "    amcc.plan(sys.argv[1], budget='flops=0.5', data=tiny_models.samples(90), search='uniform',\n"
        "              recover='none', ray='127.0.0.1:1')\n"
        "except WorkerError as error:\n"
        "    print(error)\n"
    )
    model = tiny_models.save(tmp_path / "model.onnx")
    done = subprocess.run(
        [sys.executable, "-c", script, str(model)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.startswith("--ray 127.0.0.1:1: Ray cannot be reached: "), done.stderr
    assert "ray://HOST:PORT" in done.stdout


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amcc.settings.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--ray: Ray is not installed \(pip install 'amcc\[ray\]'\)"):
        Settings(ray="auto")


def test_an_actor_has_one_thread_unless_told_otherwise() -> None:
    if find_spec("ray") is not None:
        assert Settings(ray="auto").threads_each == 1 and Settings(ray="auto", threads=3).threads_each == 3
        assert Settings(ray="auto").side_by_side
    assert amcc.errors.WorkerError("it").exit_code == 2
