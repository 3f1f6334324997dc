"""A search killed at any moment goes on to the same bytes, whatever its policy and however many workers it has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amcc.search import SEARCHES

KILLS = {**{(policy, 1): 2 for policy in SEARCHES}, ("ddpg", 1): 6, ("ddpg", 3): 3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_sigkill_at_random_moments_leaves_no_trace(tmp_path: Path) -> None:
    script = Path(__file__).with_name("search_kills.py")
    cases = [f"{policy}:{workers}:{kills}" for (policy, workers), kills in KILLS.items()]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "11", *cases],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line, ((policy, workers), kills) in zip(done.stdout.splitlines(), KILLS.items(), strict=True):
        counts, folder = [int(count) for count in line.split()], tmp_path / f"{policy}-{workers}"
        assert len(counts) == kills and all(1 <= count <= 61 for count in counts)
        assert (folder / "killed.json").read_bytes() == (folder / "whole.json").read_bytes()
        assert (folder / "killed.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
        assert 50 < (folder / "whole.jsonl").read_bytes().count(b"\n") <= 61
