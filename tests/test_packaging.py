"""amcc is the same package from a wheel, from an editable install and from the repository."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"amcc": "amcc", "amcc.passes": "passes", "amcc.frontends": "frontends", "amcc.backends": "backends"}
HEAVY = ("torch", "onnxruntime", "onnx", "onnxscript", "numpy", "scipy", "sklearn", "pydantic", "networkx")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What the command printed; fails with all it said."""
    inherited = {name: text for name, text in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=inherited | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files() -> dict[str, Path]:
    """Every file that belongs to the package, by its place in the wheel."""
    found = {}
    for name, folder in FOLDERS.items():
        for directory, folders, files in os.walk(ROOT / folder, followlinks=False):
            folders[:] = [f for f in folders if f != "__pycache__" and not (Path(directory) / f).is_symlink()]
            place = Path(*name.split(".")) / Path(directory).relative_to(ROOT / folder)
            found |= {(place / file).as_posix(): Path(directory) / file for file in files}
    return found


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that no build touches the repository."""
    copy = tmp_path_factory.mktemp("source")
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir")
    run(sys.executable, "-m", *build, target, source, cwd=target)
    [built] = target.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel was installed."""
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel, cwd=target)
    return target


@pytest.fixture(scope="session")
def editable(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds amcc as an editable install and borrows all else."""
    home = tmp_path_factory.mktemp("editable")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    python = home / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-build-isolation")
    run(sys.executable, "-m", *install, "--editable", source, cwd=home)
    return python


def test_every_subpackage_is_declared() -> None:
    """A folder that setuptools is not told of vanishes from the wheel without a word."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["package-dir"] == FOLDERS
    folders = {Path(place).parent.as_posix().replace("/", ".") for place in package_files() if place.endswith(".py")}
    assert sorted(settings["packages"]) == sorted(folders)


@pytest.mark.parametrize("name", ["passes", "frontends", "backends"])
def test_links_are_relative(name: str) -> None:
    assert os.readlink(ROOT / "amcc" / name) == f"../{name}"


def test_wheel_holds_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {file for file in archive.namelist() if ".dist-info/" not in file}
        assert held == set(package_files())
        for place, path in package_files().items():
            assert archive.read(place) == path.read_bytes(), place


def test_wheel_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [folder] = {file.split("/")[0] for file in archive.namelist() if ".dist-info/" in file}
        metadata = message_from_bytes(archive.read(f"{folder}/METADATA"))
        assert "amcc = amcc.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
        assert archive.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    required = {line.split(";")[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    names = {line.split(">")[0].split("=")[0].strip() for line in required}
    assert {"torch", "onnx", "onnx-graphsurgeon", "onnxruntime", "numpy", "networkx"} <= names
    assert {"typer", "rich", "pydantic", "safetensors"} <= names
    assert not {"scikit-learn", "pillow", "pytest"} & names


def test_constraints_pin_every_dependency() -> None:
    """`make` installs what was tested, whatever has been published since."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonical(line.split("==")[0]) for line in lines if not line.startswith("#")}
    asked = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {canonical(line.split(">=")[0].split("[")[0]) for line in asked} - {"amcc"}
    assert names <= pinned


def canonical(name: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


WHERE = """
import sys, amcc, amcc.errors, amcc.ir, amcc.passes, amcc.frontends, amcc.backends
for name in ("amcc", "amcc.passes", "amcc.frontends", "amcc.backends"):
    print(sys.modules[name].__file__)
"""


def test_works_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    files = run(sys.executable, "-c", WHERE, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert files == [str(installed.joinpath(*name.split("."), "__init__.py")) for name in FOLDERS]


EACH_FIRST = """
import importlib, sys
for name in {names}:
    for known in [known for known in sys.modules if known.split(".")[0] == "amcc"]:
        del sys.modules[known]
    importlib.import_module(name)
print(sys.modules["amcc"].__file__)
"""


def test_every_module_of_the_wheel_imports(installed: Path, tmp_path: Path) -> None:
    """Each in its turn before all others: no import works only because another came first."""
    names = sorted(
        place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for place in package_files()
        if place.endswith(".py") and not place.endswith("__main__.py")
    )
    code = EACH_FIRST.format(names=names)
    assert run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).startswith(str(installed))


def test_works_from_an_editable_install(editable: Path, source: Path, tmp_path: Path) -> None:
    files = [Path(line) for line in run(editable, "-c", WHERE, cwd=tmp_path).split()]
    assert [file.resolve() for file in files] == [source / folder / "__init__.py" for folder in FOLDERS.values()]


def test_works_from_the_root_of_the_repository() -> None:
    files = [Path(line) for line in run(sys.executable, "-c", WHERE, cwd=ROOT).split()]
    assert [file.resolve() for file in files] == [ROOT / folder / "__init__.py" for folder in FOLDERS.values()]


def test_a_users_own_folders_do_not_collide(installed: Path, tmp_path: Path) -> None:
    for name in ("passes", "frontends", "backends"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("mine = True\n")
    code = "import passes, frontends, backends, amcc.passes\nprint(passes.mine, hasattr(amcc.passes, 'mine'))"
    assert run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split() == ["True", "False"]


def loaded_after(code: str) -> set[str]:
    """The heavy packages that the code brings into a fresh interpreter."""
    report = f"\nimport sys; print('loaded:', *(name for name in {HEAVY} if name in sys.modules))"
    return set(run(sys.executable, "-c", code + report, cwd=ROOT).rpartition("loaded:")[2].split())


def test_import_is_light() -> None:
    assert loaded_after("import amcc; amcc.__version__; amcc.errors.AmccError; dir(amcc)") == set()


def test_unknown_names_are_attribute_errors() -> None:
    import amcc

    with pytest.raises(AttributeError, match="no attribute 'compress'"):
        amcc.compress  # noqa: B018


needs_cli = pytest.mark.skipif(importlib.util.find_spec("amcc.cli") is None, reason="there is no amcc.cli yet")
needs_api = pytest.mark.skipif(importlib.util.find_spec("amcc.api") is None, reason="there is no amcc.api yet")


@needs_cli
def test_help_is_light() -> None:
    code = "import sys; sys.argv = ['amcc', '--help']\nfrom amcc.cli import main\ntry: main()\nexcept SystemExit: pass"
    assert loaded_after(code) == set()


@needs_api
def test_exported_members_resolve() -> None:
    import amcc

    for name in amcc.__all__:
        assert getattr(amcc, name) is not None
        assert name in dir(amcc)


@needs_api
@pytest.mark.parametrize("name", ["plan", "bench"])
def test_a_module_does_not_hide_the_function_of_its_name(name: str) -> None:
    code = f"import sys, amcc, amcc.{name}\nprint(callable(amcc.{name}), 'amcc.{name}' in sys.modules)"
    assert run(sys.executable, "-c", code, cwd=ROOT).split() == ["True", "True"]
