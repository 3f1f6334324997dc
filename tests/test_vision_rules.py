"""Forms of sampling, padding and selecting operators beside those of `tests.rule_rows.vision`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.defs
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.rules import LOCKED, RULES
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row
from tests.test_rules import check_row


def _floats(b: Builder, *values: float) -> str:
    return b.constant(np.array(values, np.float32))


def _pad(*pads: int, mode: str = "constant", axes: tuple[int, ...] = ()) -> Row:
    def place(b: Builder, x: str) -> str:
        extra = ["", b.ints(*axes)] if axes else []
        return b.op("Pad", x, b.ints(*pads), *extra, mode=mode)

    half = len(pads) // 2
    added = dict(zip(axes or range(4), (pads[i] + pads[i + half] for i in range(half)), strict=True))
    after = tuple((C, SIDE, SIDE)[a - 1] + added.get(a, 0) for a in (1, 2, 3))
    return Row(place, (after[0], after[1], after[2]), opset=19)


def _resize(
    mode: str, *, sizes: bool, free: bool = True, scales: tuple[float, ...] = (1, 1, 2, 1.5), **how: object
) -> Row:
    after = tuple(int(n * s) for n, s in zip((C, SIDE, SIDE), scales[1:], strict=True))

    def place(b: Builder, x: str) -> str:
        roi = _floats(b, 0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9) if "tf" in str(how) else ""
        if sizes:
            return b.op("Resize", x, roi, "", b.ints(2, *after), mode=mode, **how)
        return b.op("Resize", x, roi, _floats(b, *scales), mode=mode, **how)

    return Row(place, (after[0], after[1], after[2]), free=free, opset=18)


def _sizes_at_run_time(b: Builder, x: str) -> str:
    """The spelling of older exporters: sizes joined from the shape and two numbers."""
    lengths = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(2), b.ints(0))
    return b.op("Resize", x, "", "", b.op("Concat", lengths, b.ints(16, 12), axis=0), mode="linear")


def _last(b: Builder, x: str) -> str:
    """Channels last, resized between two transposes."""
    turned = b.op("Transpose", x, perm=[0, 2, 3, 1])
    grown = b.op("Resize", turned, "", _floats(b, 1, 2, 2, 1), mode="nearest")
    return b.op("Transpose", grown, perm=[0, 3, 1, 2])


def _some_axes(b: Builder, x: str) -> str:
    return b.op("Resize", x, "", "", b.ints(16, 12), axes=[2, 3], mode="linear", keep_aspect_ratio_policy="not_larger")


def _gather_both(b: Builder, x: str) -> str:
    """A grid of channels and rows, read as pairs: all of some channels' first four rows."""
    turned = b.op("Transpose", x, perm=[1, 2, 0, 3])
    pairs = np.stack(np.meshgrid([5, 1, 7], [0, 1, 2, 3], indexing="ij"), -1)
    return b.op("Transpose", b.op("GatherND", turned, b.constant(pairs.astype(np.int64))), perm=[2, 0, 1, 3])


def _gather_at_run_time(b: Builder, x: str) -> str:
    """The row with the largest first channel, of every channel: space is read by data, channels stay."""
    turned = b.op("Transpose", x, perm=[0, 2, 3, 1])
    first = b.op("Slice", turned, b.ints(0), b.ints(1), b.ints(3))
    row = b.op("ArgMax", b.op("ReduceMax", first, axes=[2], keepdims=0), axis=1)
    rows = b.op("GatherND", turned, b.op("Reshape", row, b.ints(2, 1, 1)), batch_dims=1)
    return b.op("Add", x, b.op("Transpose", rows, perm=[0, 3, 1, 2]))


def _scatter_rows(b: Builder, x: str) -> str:
    """Rows overwritten: channels keep their meaning."""
    turned = b.op("Transpose", x, perm=[2, 0, 1, 3])
    some = b.op("Slice", b.op("Relu", turned), b.ints(2), b.ints(4), b.ints(0))
    put = b.op("ScatterND", turned, b.constant(np.array([[6], [-8]])), some, reduction="add")
    return b.op("Transpose", put, perm=[1, 2, 0, 3])


def _scatter_into_zeros(b: Builder, x: str) -> str:
    """A larger canvas, painted at every other channel."""
    turned = b.op("Transpose", x, perm=[1, 0, 2, 3])
    canvas = b.constant(np.zeros((2 * C, 2, SIDE, SIDE), np.float32))
    put = b.op("ScatterND", canvas, b.constant(np.arange(0, 2 * C, 2)[:, None]), turned)
    return b.op("Transpose", put, perm=[1, 0, 2, 3])


def _gather_expanded(b: Builder, x: str) -> str:
    """torch.gather along width with one index for all channels."""
    largest = b.op("ArgMax", b.op("Slice", x, b.ints(0), b.ints(1), b.ints(1)), axis=3)
    return b.op("GatherElements", x, b.op("Expand", largest, b.ints(2, C, SIDE, 3)), axis=3)


def _gather_first(b: Builder, x: str) -> str:
    """Indices that cover five of the channels."""
    return b.op("GatherElements", x, b.constant(np.zeros((2, 5, SIDE, 2), np.int64)), axis=3)


def _masked(b: Builder, x: str) -> str:
    mask = b.constant(np.random.default_rng(0).integers(0, 2, (1, 1, SIDE, SIDE)).astype(bool))
    return b.op("Where", mask, x, _floats(b, -1))


FORMS = {
    "Pad front and back of the channels": ("Pad", _pad(0, 2, 0, 0, 0, 3, 1, 0)),
    "Pad crops channels": ("Pad", _pad(0, -2, 0, 1, 0, -1, 0, 0)),
    "Pad some axes": ("Pad", _pad(1, 2, 3, 4, axes=(1, 3))),
    "Pad space, reflected": ("Pad", _pad(0, 0, 2, 1, 0, 0, 1, 3, mode="reflect")),
    "Pad space, edges": ("Pad", _pad(0, 0, 2, 1, 0, 0, 1, 3, mode="edge")),
    "Pad space, wrapped": ("Pad", _pad(0, 0, 2, 1, 0, 0, 1, 3, mode="wrap")),
    "Pad channels, reflected": ("Pad", _pad(0, 2, 0, 0, 0, 3, 0, 0, mode="reflect")),
    "Pad channels, edges": ("Pad", _pad(0, 2, 0, 0, 0, 1, 0, 0, mode="edge")),
    "Pad channels, wrapped": ("Pad", _pad(0, 3, 0, 0, 0, 2, 0, 0, mode="wrap")),
    "Pad old": ("Pad", Row(lambda b, x: b.op("Pad", x, pads=[0, 1, 0, 0, 0, 0, 0, 2]), (9, 8, 10), opset=10)),
    "Resize nearest": ("Resize", _resize("nearest", sizes=False)),
    "Resize linear": ("Resize", _resize("linear", sizes=True)),
    "Resize linear, corners aligned": (
        "Resize", _resize("linear", sizes=True, coordinate_transformation_mode="align_corners"),
    ),
    "Resize cubic": ("Resize", _resize("cubic", sizes=False, cubic_coeff_a=-0.5)),
    "Resize antialiased": ("Resize", _resize("linear", sizes=False, scales=(1, 1, 0.5, 0.5), antialias=1)),
    "Resize crops": ("Resize", _resize("linear", sizes=True, coordinate_transformation_mode="tf_crop_and_resize")),
    "Resize channels": ("Resize", _resize("nearest", sizes=False, scales=(1, 2, 1, 1), free=False)),
    "Resize opset 10": (
        "Resize", Row(lambda b, x: b.op("Resize", x, _floats(b, 1, 1, 2, 2)), (C, 16, 16), opset=10),
    ),
    "Resize some axes": ("Resize", Row(_some_axes, (C, 12, 12), opset=18)),
    "Resize sizes at run time": ("Resize", Row(_sizes_at_run_time, (C, 16, 12), batch="batch")),
    "Resize channels last": ("Resize", Row(_last, (C, 16, 16))),
    "Upsample opset 7": (
        "Upsample",
        Row(lambda b, x: b.op("Upsample", x, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest"), (C, 16, 16), opset=8),
    ),
    "DepthToSpace, depth first": (
        "DepthToSpace", Row(lambda b, x: b.op("DepthToSpace", x, blocksize=2, mode="DCR"), (2, 16, 16)),
    ),
    "GatherND pairs": ("GatherND", Row(_gather_both, (3, 4, SIDE))),
    "GatherND at run time": ("GatherND", Row(_gather_at_run_time)),
    "ScatterND rows": ("ScatterND", Row(_scatter_rows, opset=18)),
    "ScatterND into zeros": ("ScatterND", Row(_scatter_into_zeros, (2 * C, SIDE, SIDE))),
    "GatherElements, one index for all": ("GatherElements", Row(_gather_expanded, (C, SIDE, 3))),
    "GatherElements, fewer channels": ("GatherElements", Row(_gather_first, (5, SIDE, 2))),
    "Where masks": ("Where", Row(_masked)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_form(name: str, tmp_path: Path) -> None:
    op, row = FORMS[name]
    check_row(op, row, tmp_path)


def test_every_standard_operator_is_ruled_or_deliberately_locked() -> None:
    standard = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    known = {op for op in RULES if "." not in op}
    assert standard - known - LOCKED.keys() == set()
    assert not known & LOCKED.keys()
    assert {op for op in LOCKED if "." not in op} <= standard


def test_a_deliberate_lock_gives_its_reason(tmp_path: Path) -> None:
    b = Builder(0)
    noise = b.op("RandomNormalLike", b.op("Conv", "x", b.param(C, 3, 1, 1)), seed=1.0)
    path = tmp_path / "model.onnx"
    onnx.save(b.finish(b.op("Conv", noise, b.param(4, C, 1, 1))), path)
    locks = [lock for lock in analyze(infer(from_onnx(path))).ledger if lock.op == "RandomNormalLike"]
    assert [lock.reason for lock in locks] == [LOCKED["RandomNormalLike"]]
    assert ("w0", 0) in locks[0].axes
