"""Whatever is wrong with what was given: one clear message, the right exit code, nothing left behind."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from amcc.cli import app
from tests import tiny_models

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
FAST = ("--search", "uniform", "--recover", "none", "--quiet", "--threads", "1")


class Shop:
    """A folder with a model and data, and a command line to run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = tiny_models.save(folder / "model.onnx")
        self.data = folder / "val.npz"
        np.savez(self.data, **tiny_models.samples(60))  # type: ignore[arg-type]

    def run(self, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stderr

    def compile(self, *options: str, model: Path | str | None = None, budget: str = "flops=0.5") -> tuple[int, str]:
        return self.run("compile", str(model or self.model), "--budget", budget, *FAST, *options)

    def refuses(self, run: Callable[[], tuple[int, str]], *parts: str, code: int = 2) -> str:
        before = self.listing()
        found, text = run()
        assert found == code, text
        assert self.listing() == before
        lines = text.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("amcc: "), text
        assert "Traceback" not in text and "fault of amcc" not in text
        for part in parts:
            assert part in text, text
        return text

    def listing(self) -> list[str]:
        files = (p for p in self.folder.rglob("*") if "__pycache__" not in p.parts)
        return sorted(f"{p.relative_to(self.folder)} {p.stat().st_size if p.is_file() else ''}" for p in files)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    return Shop(tmp_path)


def test_the_shop_works(shop: Shop) -> None:
    code, text = shop.compile("--data", str(shop.data))
    assert (code, text) == (0, "")
    assert (shop.folder / "model.amcc" / "model.onnx").is_file()


# -- the model -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(4096)])
def test_not_an_onnx_file(shop: Shop, content: bytes) -> None:
    path = shop.folder / "bad.onnx"
    path.write_bytes(content)
    shop.refuses(lambda: shop.compile(model=path), "bad.onnx")
    shop.refuses(lambda: shop.run("inspect", str(path)), "bad.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file(shop: Shop, share: float) -> None:
    path = shop.folder / "bad.onnx"
    content = shop.model.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    shop.refuses(lambda: shop.compile(model=path), "bad.onnx")


def test_missing_model(shop: Shop) -> None:
    shop.refuses(lambda: shop.compile(model="nowhere.onnx"), "nowhere.onnx")
    shop.refuses(lambda: shop.compile(model="nowhere:make"), "nowhere")
    shop.refuses(lambda: shop.compile(model=shop.folder), str(shop.folder))


def external(shop: Shop, location: str) -> Path:
    path = shop.folder / "big.onnx"
    onnx.save_model(tiny_models.onnx_model(), path, save_as_external_data=True, location="big.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_missing(shop: Shop) -> None:
    path = external(shop, "big.bin")
    (shop.folder / "big.bin").unlink()
    shop.refuses(lambda: shop.compile(model=path), "big.bin")


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "sub/../../outside.bin"])
def test_external_data_outside_the_folder(shop: Shop, location: str) -> None:
    path = external(shop, location)
    nested = shop.folder / "nested"
    nested.mkdir()
    shutil.copy(shop.folder / "big.bin", shop.folder / "outside.bin")
    path = Path(shutil.move(path, nested / "big.onnx"))
    shop.refuses(lambda: shop.compile(model=path), "outside" if "outside" in location else "hostname")


def graph_of(nodes: list[onnx.NodeProto], shop: Shop) -> Path:
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    path = shop.folder / "bad.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def test_cyclic_graph(shop: Shop) -> None:
    nodes = [helper.make_node("Add", ["input", "b"], ["a"], "first"), helper.make_node("Relu", ["a"], ["b"], "second")]
    path = graph_of([*nodes, helper.make_node("MatMul", ["b", "w"], ["y"], "last")], shop)
    shop.refuses(lambda: shop.compile(model=path), "cycle", "first")


def test_dangling_graph(shop: Shop) -> None:
    path = graph_of([helper.make_node("Add", ["input", "nothing"], ["y"], "adds")], shop)
    shop.refuses(lambda: shop.compile(model=path), "nothing")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(shop: Shop, value: float) -> None:
    weight = tiny_models.weights()["conv2.weight"].copy()
    weight[3, 2, 1, 0] = value
    path = tiny_models.save(shop.folder / "nan.onnx", changed={"conv2.weight": weight})
    shop.refuses(lambda: shop.compile(model=path), "conv2.weight")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".onnx", ".bin"])
def test_a_pickle_is_not_opened(shop: Shop, suffix: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path("exploded").write_text, ("x",))

    path = shop.folder / f"model_pickle{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    shop.refuses(lambda: shop.compile(model=path), path.name)
    assert not (shop.folder / "exploded").exists()


# -- budget and options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget",
    ["speed=0.5", "flops", "flops=", "flops=-0.5", "flops=0", "flops=1.5", "flops=half", "flops=0.5MB", "", "="],
)
def test_budgets_that_make_no_sense(shop: Shop, budget: str) -> None:
    shop.refuses(lambda: shop.compile(budget=budget), "budget")


def test_budget_out_of_reach(shop: Shop) -> None:
    shop.refuses(lambda: shop.compile(budget="flops=0.0001"), "smallest reachable", "graph output", code=3)


@pytest.mark.parametrize(
    "options",
    [
        ("--lock", "conv9.weight"),
        ("--search", "magic"),
        ("--recover", "maybe"),
        ("--round", "0"),
        ("--episodes", "0"),
        ("--min-keep", "-1"),
        ("--emit", "tflite"),
        ("--seed", "-1"),
        ("--input-shape", "input"),
        ("--input-shape", "pictures=1x3x8x8"),
        ("--input-shape", "input=1x3x9x8"),
    ],
)
def test_options_that_make_no_sense(shop: Shop, options: tuple[str, ...]) -> None:
    shop.refuses(lambda: shop.compile(*options), options[1].split("=")[0].lstrip("-"))


def test_unknown_options_and_missing_ones(shop: Shop) -> None:
    for arguments in (("compile",), ("compile", str(shop.model)), ("compile", "--colour"), ("paint",)):
        code, text = shop.run(*arguments)
        assert code == 2 and "Traceback" not in text


# -- plans -------------------------------------------------------------------------------------------------


def planned(shop: Shop) -> Path:
    path = shop.folder / "plan.json"
    assert shop.run("plan", str(shop.model), "--budget", "flops=0.5", *FAST, "-o", str(path))[0] == 0
    return path


def test_plan_of_another_model(shop: Shop) -> None:
    path = planned(shop)
    shop.refuses(lambda: shop.run("apply", str(path), str(DIGITS / "model.onnx"), "--quiet"), "another model")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("removed", [99]),
        ("removed", "all"),
        ("kept", -1),
        ("size", 3),
        ("name", "conv9"),
        ("slices", {"conv1.weight": 1}),
    ],
)
def test_plan_edited_into_nonsense(shop: Shop, key: str, value: object) -> None:
    path = planned(shop)
    content = json.loads(path.read_text())
    content["groups"][0][key] = value
    path.write_text(json.dumps(content))
    shop.refuses(lambda: shop.run("apply", str(path), str(shop.model), "--quiet"), "groups[0]")


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", "not json"])
def test_plan_that_is_no_plan(shop: Shop, content: str) -> None:
    path = shop.folder / "plan.json"
    path.write_text(content)
    shop.refuses(lambda: shop.run("apply", str(path), str(shop.model), "--quiet"), "plan.json")


# -- data and metrics --------------------------------------------------------------------------------------

GOOD = tiny_models.samples(60)
DATA = [
    ({"input": GOOD["input"][:, :, :4], "label": GOOD["label"]}, "[3, 4, 8]"),
    ({"input": GOOD["input"].transpose(0, 2, 3, 1), "label": GOOD["label"]}, "channels come last"),
    ({"input": (GOOD["input"] * 50).astype(np.int8), "label": GOOD["label"]}, "int8"),
    ({"input": np.full_like(GOOD["input"], np.nan), "label": GOOD["label"]}, "NaN"),
    ({"input": GOOD["input"], "label": GOOD["label"] + 4}, "4 classes"),
    ({"input": GOOD["input"], "label": GOOD["label"] / 2}, "integers"),
    ({"input": GOOD["input"], "label": GOOD["label"][:9]}, "9 labels"),
    ({"pictures": GOOD["input"]}, "'input'"),
]


@pytest.mark.parametrize(("arrays", "message"), DATA)
@pytest.mark.parametrize("option", ["--data", "--report-data"])
def test_data_that_do_not_fit(shop: Shop, arrays: dict[str, np.ndarray], message: str, option: str) -> None:
    np.savez(shop.folder / "bad.npz", **arrays)  # type: ignore[arg-type]
    others = () if option == "--data" else ("--data", str(shop.data))
    shop.refuses(lambda: shop.compile(*others, option, str(shop.folder / "bad.npz")), message, "bad.npz")


def test_data_that_are_no_data(shop: Shop) -> None:
    (shop.folder / "bad.npz").write_bytes(pickle.dumps({"input": 1}))
    shop.refuses(lambda: shop.compile("--data", "bad.npz"), "bad.npz")
    shop.refuses(lambda: shop.compile("--data", "nowhere.npz"), "nowhere.npz")
    shop.refuses(lambda: shop.compile("--data", "."), "--preprocess")


USER = """
def raises(outputs, labels): raise ValueError("no such class")
def nan(outputs, labels): return float("nan")
def text(outputs, labels): return "fine"
number = 1
"""


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("amcc_bad_metric:raises", "ValueError: no such class"),
        ("amcc_bad_metric:nan", "gave nan"),
        ("amcc_bad_metric:text", "gave str"),
        ("amcc_bad_metric:number", "not a function"),
        ("amcc_bad_metric:absent", "has no 'absent'"),
        ("amcc_no_module:f", "amcc_no_module"),
        ("f1", "no metric is called"),
    ],
)
def test_metrics_that_fail(shop: Shop, monkeypatch: pytest.MonkeyPatch, metric: str, message: str) -> None:
    (shop.folder / "amcc_bad_metric.py").write_text(USER)
    monkeypatch.syspath_prepend(shop.folder)
    monkeypatch.delitem(sys.modules, "amcc_bad_metric", raising=False)
    shop.refuses(lambda: shop.compile("--data", str(shop.data), "--metric", metric), message)
    shop.refuses(lambda: shop.compile("--data", str(shop.data), "--metric", metric, "--search", "ddpg"), message)


# -- nothing to do -----------------------------------------------------------------------------------------


def test_nothing_prunable(shop: Shop) -> None:
    path = graph_of([helper.make_node("MatMul", ["input", "w"], ["y"], "only")], shop)
    shop.refuses(lambda: shop.compile(model=path), "nothing", "graph input", code=3)


def test_everything_locked(shop: Shop) -> None:
    locks = ("--lock", "conv1.weight", "--lock", "conv2.weight")
    shop.refuses(lambda: shop.compile(*locks), "nothing", code=3)


# -- the output --------------------------------------------------------------------------------------------


def test_output_already_there(shop: Shop) -> None:
    (shop.folder / "model.amcc").mkdir()
    (shop.folder / "model.amcc" / "precious.txt").write_text("mine")
    shop.refuses(lambda: shop.compile(), "--force")
    shop.refuses(lambda: shop.compile("--force"), "not written by amcc")


def test_output_not_writable(shop: Shop) -> None:
    (shop.folder / "file").write_text("x")
    shop.refuses(lambda: shop.compile("-o", str(shop.folder / "file" / "model.amcc")), "model.amcc")
    shop.refuses(lambda: shop.compile("-o", "/proc/amcc-test/model.amcc"), "/proc/amcc-test")


@pytest.mark.parametrize("name", ["model.onnx", "plan.json", "summary.json", "report.html", "model.safetensors"])
def test_disk_full(shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The first write of a file fails as on a full disk."""
    real_open = Path.open

    def full(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if name in self.name and "w" in mode:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real_open(self, mode, *rest, **more)  # type: ignore[call-overload]

    def text(self: Path, content: str, encoding: str | None = None) -> int:
        with self.open("w", encoding=encoding) as file:
            return int(file.write(content))

    def data(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            return int(file.write(content))

    for method, replacement in (("open", full), ("write_text", text), ("write_bytes", data)):
        monkeypatch.setattr(Path, method, replacement)
    shop.refuses(lambda: shop.compile("--data", str(shop.data)), "disk is full", "model.amcc")


# -- verify ------------------------------------------------------------------------------------------------


def test_verify_refuses_what_was_changed(shop: Shop) -> None:
    assert shop.compile()[0] == 0
    out = shop.folder / "model.amcc"

    def verify() -> tuple[int, str]:
        return shop.run("verify", str(shop.model), str(out))

    assert verify()[0] == 0
    content = (out / "model.onnx").read_bytes()
    model = onnx.load(out / "model.onnx")
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, out / "model.onnx")
    shop.refuses(verify, "model.onnx", code=4)
    (out / "model.onnx").write_bytes(content)
    other = tiny_models.save(shop.folder / "other.onnx", seed=3)
    shop.refuses(lambda: shop.run("verify", str(other), str(out)), code=4)
    (out / "model.onnx").unlink()
    shop.refuses(verify, "missing")
    shop.refuses(lambda: shop.run("verify", str(shop.model), str(shop.folder)), "summary.json")
    shop.refuses(lambda: shop.run("verify", str(shop.model), "nowhere"), "nowhere")


def test_bench_refuses_what_it_cannot_run(shop: Shop) -> None:
    (shop.folder / "bad.onnx").write_bytes(b"hello")
    shop.refuses(lambda: shop.run("bench", "bad.onnx"), "bad.onnx")
    shop.refuses(lambda: shop.run("bench", "nowhere.onnx"), "nowhere.onnx")


def test_unknown_schema(shop: Shop) -> None:
    shop.refuses(lambda: shop.run("schema", "graph"), "ir, plan, summary")
