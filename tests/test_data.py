"""Data from files, folders and functions, checked against the model."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amcc.data import Dataset, check_labels, load_data, split
from amcc.errors import DataError, UsageError
from amcc.ir import Array, Graph, Node, Value
from amcc.synthetic import synthetic
from tests import tiny_models

GRAPH = tiny_models.graph()
X = np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32)
Y = np.arange(12) % 4


def saved(folder: Path, **arrays: object) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("label", ["label", "labels"])
def test_npz(tmp_path: Path, write: object, label: str) -> None:
    assert callable(write)
    write(tmp_path / "d.npz", input=X, **{label: Y})
    data = load_data(tmp_path / "d.npz", GRAPH)
    np.testing.assert_array_equal(data.inputs["input"], X)
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, Y)
    assert len(data.sha256) == 64 and not data.notes


def test_stored_arrays_stay_on_disk(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path, input=np.asfortranarray(X)), GRAPH)
    assert isinstance(data.inputs["input"], np.memmap)
    np.testing.assert_array_equal(data.inputs["input"], X)


def test_limit_draws_the_same_samples_each_time(tmp_path: Path) -> None:
    path = saved(tmp_path, input=X, label=Y)
    first, second, other = (load_data(path, GRAPH, limit=5, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.inputs["input"], second.inputs["input"])
    assert len(first) == 5 and not np.array_equal(first.inputs["input"], other.inputs["input"])
    assert first.labels is not None
    for x, y in zip(first.inputs["input"], first.labels, strict=True):
        assert Y[(X == x).all(axis=(1, 2, 3))].item() == y


def test_float64_is_cast_with_a_note(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path, input=X.astype(np.float64)), GRAPH)
    assert data.inputs["input"].dtype == np.float32
    assert any("float64" in note for note in data.notes)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"input": X.astype(np.uint8)}, "uint8"),
        ({"input": X.transpose(0, 2, 3, 1)}, "channels come last"),
        ({"input": X[:, :, :4]}, r"\[3, 4, 8\]"),
        ({"input": X[0]}, r"\[8, 8\]"),
        ({"input": X[:0]}, "no samples"),
        ({"input": np.where(X > 2, np.nan, X)}, "NaN"),
        ({"input": X, "label": Y[:-1]}, "12 samples and 11 labels"),
        ({"pictures": X}, "the model needs 'input'"),
        ({"input": np.array([{}], dtype=object)}, "Python objects"),
    ],
)
def test_data_that_does_not_fit(tmp_path: Path, arrays: dict[str, Array], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(saved(tmp_path, **arrays), GRAPH)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y + 1, r"from 1 to 4.*4 classes"),
        (Y - 1, "from -1"),
        (Y.astype(np.float32), "integers"),
        (np.eye(4, dtype=np.int64)[Y], "argmax"),
    ],
)
def test_labels_that_do_not_fit(labels: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_labels(labels, 12, 4, "here")


def test_labels_as_a_column_are_fine() -> None:
    np.testing.assert_array_equal(check_labels(Y[:, None], 12, 4, "here"), Y)


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"input": [1]}), b"PK\x03\x04" + b"\0" * 40])
def test_files_that_are_no_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(DataError):
        load_data(path, GRAPH)


def test_truncated_npz(tmp_path: Path) -> None:
    path = saved(tmp_path, input=X)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError):
        load_data(path, GRAPH)


def test_missing_file() -> None:
    with pytest.raises(DataError, match="no such file"):
        load_data("nowhere.npz", GRAPH)


def pictures(folder: Path, classes: list[str], each: int = 2) -> Path:
    image = pytest.importorskip("PIL.Image")
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            image.new("RGB", (16, 12), (40 * place, 10 * i, 255)).save(folder / name / f"{i}.png")
    return folder


def test_class_folders(tmp_path: Path) -> None:
    data = load_data(pictures(tmp_path / "p", ["a", "b", "c", "d"]), GRAPH, preprocess="unit")
    assert data.inputs["input"].shape == (8, 3, 8, 8) and data.inputs["input"].dtype == np.float32
    assert data.labels is not None and data.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_allclose(data.inputs["input"][:, 2], 1.0)
    np.testing.assert_allclose(data.inputs["input"][6, 0], 120 / 255, atol=1e-6)


def test_numbered_class_folders_give_their_numbers(tmp_path: Path) -> None:
    data = load_data(pictures(tmp_path / "p", ["2", "0"], 1), GRAPH, preprocess="half")
    assert data.labels is not None and data.labels.tolist() == [0, 2]
    np.testing.assert_allclose(data.inputs["input"][:, 2], 127 / 128)


def test_flat_folders_have_no_labels(tmp_path: Path) -> None:
    data = load_data(pictures(tmp_path / "p", ["only"], 3) / "only", GRAPH, preprocess="imagenet")
    assert data.labels is None and len(data) == 3


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", ["a", "b"])
    with pytest.raises(UsageError, match="--preprocess"):
        load_data(folder, GRAPH)
    with pytest.raises(DataError, match="2 class folders for a model of 4"):
        load_data(folder, GRAPH, preprocess="unit")
    with pytest.raises(UsageError, match="no preset"):
        load_data(folder / "a", GRAPH, preprocess="magic")
    (folder / "a" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"0\.png"):
        load_data(folder / "a", GRAPH, preprocess="unit")
    with pytest.raises(DataError, match=r"gave float64\[3, 4, 4\], the model takes float\[3, 8, 8\]"):
        load_data(folder / "b", GRAPH, preprocess=lambda image: np.zeros((3, 4, 4)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        load_data(tmp_path / "empty", GRAPH, preprocess="unit")


USER = """
import numpy as np
x = np.zeros((5, 3, 8, 8), np.float32)
def mapping(): return {"input": x, "label": np.zeros(5, int)}
def pair(): return x, np.zeros(5, int)
def alone(): return x
def wrong(): return "pictures"
def broken(): raise RuntimeError("no disk")
def picture(image): return np.asarray(image.resize((8, 8)), np.float32).transpose(2, 0, 1)
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "amcc_user_data.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "amcc_user_data", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return "amcc_user_data"


@pytest.mark.parametrize(("function", "labelled"), [("mapping", True), ("pair", True), ("alone", False)])
def test_functions(user: str, function: str, labelled: bool) -> None:
    data = load_data(f"{user}:{function}", GRAPH)
    assert len(data) == 5 and (data.labels is not None) == labelled and function in data.source


def test_functions_that_fail(user: str) -> None:
    with pytest.raises(DataError, match="RuntimeError: no disk"):
        load_data(f"{user}:broken", GRAPH)
    with pytest.raises(DataError, match="not a mapping"):
        load_data(f"{user}:wrong", GRAPH)
    with pytest.raises(UsageError, match="has no 'absent'"):
        load_data(f"{user}:absent", GRAPH)
    with pytest.raises(UsageError, match="cannot import"):
        load_data("amcc_no_such_module:f", GRAPH)


def test_preprocess_of_the_users(user: str, tmp_path: Path) -> None:
    data = load_data(pictures(tmp_path / "p", ["0"]), GRAPH, preprocess=f"{user}:picture")
    assert data.inputs["input"].max() == 255


def of(count: int) -> Dataset:
    numbers = np.arange(count, dtype=np.float32)
    return Dataset({"input": numbers}, numbers.astype(int), "numbers", "0" * 64)


@given(count=st.integers(3, 400), seed=st.integers(0, 9), capped=st.booleans(), calibrated=st.booleans())
def test_parts_are_disjoint(count: int, seed: int, capped: bool, calibrated: bool) -> None:
    caps = {"calibration_samples": 20, "search_samples": 10} if capped else {}
    parts = split(of(count), seed=seed, calibration=of(7) if calibrated else None, **caps)
    search, report = (set(p.inputs["input"].tolist()) for p in (parts.search, parts.report))
    calibration = set() if calibrated else set(parts.calibration.inputs["input"].tolist())
    assert search and report and not search & report and not calibration & (search | report)
    finals = set(parts.finals.inputs["input"].tolist())
    assert not finals & (report | calibration) and (finals == search or not finals & search)
    assert len(search | report | calibration | finals) == count
    assert parts.search.labels is not None and parts.search.labels.tolist() == parts.search.inputs["input"].tolist()
    again = split(of(count), seed=seed, calibration=of(7) if calibrated else None, **caps)
    np.testing.assert_array_equal(again.report.inputs["input"], parts.report.inputs["input"])


def test_a_report_set_of_its_own_leaves_all_data_to_the_search() -> None:
    parts = split(of(50), seed=0, calibration=of(9), report=of(8))
    assert len(parts.search) == 50 and len(parts.report) == 8 and len(parts.calibration) == 9


def test_too_few_samples_to_divide() -> None:
    with pytest.raises(DataError, match="2 samples"):
        split(of(2), seed=0)


def test_synthetic_inputs_match_the_model() -> None:
    data = synthetic(GRAPH, 6, seed=3)
    array = data.inputs["input"]
    assert array.shape == (6, 3, 8, 8) and array.dtype == np.float32 and data.synthetic
    assert abs(array.mean()) < 0.2 and 0.8 < array.std() < 1.2
    np.testing.assert_array_equal(array, synthetic(GRAPH, 6, seed=3).inputs["input"])
    assert not np.array_equal(array, synthetic(GRAPH, 6, seed=4).inputs["input"])


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "uint8", "int64", "bool"])
def test_every_type_of_input_can_be_made_up_and_given(dtype: str) -> None:
    value = dataclasses.replace(GRAPH.values["input"], dtype=dtype)
    graph = GRAPH.replace(values={**GRAPH.values, "input": value})
    made = synthetic(graph, 5, seed=0).inputs["input"]
    assert made.dtype.name == dtype and made.shape == (5, 3, 8, 8) and len(np.unique(made.astype(np.float32))) > 1
    assert load_data({"input": made}, graph).inputs["input"].dtype.name == dtype
    if "float" in dtype:
        assert load_data({"input": X}, graph).inputs["input"].dtype.name == dtype


def test_made_up_indices_stay_within_their_table() -> None:
    table = np.zeros((7, 3), np.float32)
    graph = Graph(
        (Node("look", "Gather", ("table", "ids"), ("y",)),),
        ("ids",),
        ("y",),
        {"ids": Value("ids", "int64", ("batch", 9)), "y": Value("y", "float32", ("batch", 9, 3))},
        {"table": table},
        {"": 17},
    )
    ids = synthetic(graph, 40, seed=0).inputs["ids"]
    assert ids.min() == 0 and ids.max() == 6


def test_the_last_choice_has_samples_that_the_search_has_not() -> None:
    """Where enough are left for it; else the search's too."""

    def used(count: int, *, report: bool) -> tuple[set[float], set[float], bool]:
        data = Dataset({"input": np.arange(count, dtype=np.float32)}, None, "made up", "")
        other = Dataset({"input": np.zeros(4, np.float32)}, None, "other", "")
        parts = split(data, seed=0, calibration=other, report=other if report else None, search_samples=10)
        search, finals = (set(part.inputs["input"].tolist()) for part in (parts.search, parts.finals))
        return search, finals, parts.finals is parts.search

    search, finals, same = used(40, report=True)
    assert len(search) == 10 and len(finals) == 30 and not search & finals and not same
    search, finals, same = used(20, report=True)
    assert len(finals) == 10 and not search & finals and not same
    search, finals, same = used(15, report=True)
    assert search < finals and len(finals) == 15 and not same
    search, finals, same = used(30, report=False)
    assert len(finals) == 10 and not search & finals and not same
    assert used(10, report=True)[2] and used(29, report=False)[2]
