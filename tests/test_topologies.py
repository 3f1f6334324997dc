"""Known topologies: the groups that must be found are found, and random cuts of them are exact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.shapes import infer
from tests.test_exactness import check
from tests.topologies import TOPOLOGIES, Groups, Net


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topology(name: str, tmp_path: Path) -> None:
    opset = 20 if name in ("spatial_transformer",) else 17
    model, expected = TOPOLOGIES[name](Net(opset=opset))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert _counted({group.name: group.size for group in analyze(infer(from_onnx(path))).groups}) == _counted(expected)
    for seed in range(3):
        check(model, path, seed)


def _counted(groups: Groups) -> Counter[tuple[str, int]]:
    """Groups by their parameter; one of a single unit is no choice."""
    return Counter((name.split(":")[0], size) for name, size in groups.items() if size > 1)
