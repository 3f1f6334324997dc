"""A search killed at any moment goes on to the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_sigkill_at_random_moments_leaves_no_trace(tmp_path: Path) -> None:
    script = Path(__file__).with_name("search_kills.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "8", "11"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [int(line) for line in done.stdout.splitlines()]
    assert len(lines) == 8
    assert all(1 <= count <= 40 for count in lines)
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
