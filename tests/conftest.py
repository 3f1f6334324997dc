from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data and trained networks beside the repository, where there is one."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "models").is_dir():
        pytest.skip("no ../shared with trained networks here")
    return folder
