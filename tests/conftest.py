from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data and trained networks beside the repository, where there is one."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "models").is_dir():
        pytest.skip("no ../shared with trained networks here")
    return folder


@pytest.fixture(autouse=True, scope="session")
def heeding_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would all that tests start and then interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMCC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
