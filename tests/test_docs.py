"""What the documentation says of the command line is what the command line does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from amcc.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/digits/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
USAGE = (ROOT / "docs" / "usage.md").read_text()
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+|-[a-z])(?![\w-])")
COMMAND = typer.main.get_command(app)


def options(name: str) -> set[str]:
    """The options of a command, short and long."""
    return {text for param in COMMAND.commands[name].params for text in param.opts if text.startswith("-")}  # type: ignore[attr-defined]


def section(name: str) -> str:
    """What docs/usage.md says of a command."""
    return re.split(r"^#{2,3} ", USAGE.split(f"\n### amcc {name}\n")[1], flags=re.MULTILINE)[0]


def commands() -> list[str]:
    return sorted(COMMAND.commands)  # type: ignore[attr-defined]


def test_every_command_has_a_section() -> None:
    assert sorted(re.findall(r"^### amcc (\w+)$", USAGE, flags=re.MULTILINE)) == commands()


@pytest.mark.parametrize("name", commands())
def test_every_option_is_described(name: str) -> None:
    assert set(OPTION.findall(section(name))) == options(name) - {"-h", "--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_exist(page: Path) -> None:
    found = re.findall(r"^(?:    |\$ )amcc (\w+)((?: .*?)(?:\\\n.*?)*)(?:#.*)?$", page.read_text(), flags=re.MULTILINE)
    for name, rest in found:
        assert name in commands()
        assert set(OPTION.findall(rest)) <= options(name), f"amcc {name}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", prose):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


def test_make_targets_in_the_text_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named and named <= targets
