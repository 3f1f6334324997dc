"""A row for every operator rule: what it ties, that its cut is exact, what it costs.

Each row (`tests.rule_rows`) puts the operator between two convolutions, `[2, 8, 8, 8]` going in. `free` says whether
the eight channels in front of it may go; the cut itself is checked by `tests.test_exactness.check`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.frontends.load import load
from amcc.passes.channels import analyze
from amcc.passes.cost import node_macs
from amcc.passes.rules import RULES
from amcc.passes.rules.layout import factors, refine, segments
from amcc.passes.rules.rule import label
from amcc.passes.shapes import infer
from tests.random_graphs import Builder
from tests.rule_rows import ROWS, Row
from tests.rule_rows.row import C
from tests.test_exactness import check, check_cut


def test_every_rule_has_a_row() -> None:
    assert ROWS.keys() == RULES.keys()


def build(row: Row) -> tuple[onnx.ModelProto, set[str]]:
    """Convolution, operator, convolution; and the names of the nodes between the two."""
    b = Builder(3, row.opset, row.batch)
    before = b.op("Conv", "x", b.param(C, 3, 1, 1), b.param(C))
    result = row.place(b, before)
    own = {node.name for node in b.nodes[1:]}
    b.put(b.op("Conv", result, b.param(4, row.after[0], 1, 1)), (2, 4, *row.after[1:]))
    return b.model(), own


@pytest.mark.parametrize("op", sorted(RULES))
def test_rule(op: str, tmp_path: Path) -> None:
    check_row(op, ROWS[op], tmp_path)


def check_row(op: str, row: Row, tmp_path: Path) -> None:
    """Everything that a row says of an operator; random cuts, and of each group alone all but one unit."""
    path = tmp_path / "model.onnx"
    model, own = build(row)
    onnx.save(model, path)
    graph = infer(from_onnx(path))
    own |= {node.name for node in graph.nodes} - {node.name for node in model.graph.node}  # of bodies
    assert any(label(node) == op and node.name in own for node in graph.nodes), "folding must leave the operator"
    groups = {s.param: group.inexact for group in analyze(graph).groups for s in group.slices if s.axis == 0}
    assert ("w0" in groups) == row.free
    assert row.inexact is None or groups.get("w0", False) == row.inexact
    exact = {s.param for group in analyze(graph, exact=True).groups for s in group.slices if s.axis == 0}
    assert ("w0" in exact) == (row.free and row.inexact is not True)
    assert sum(macs for name, macs in node_macs(graph).items() if name in own) == row.macs
    for seed in range(2):
        check(model, path, seed)
    channels = analyze(load(path))
    for group in channels.groups:
        kept = np.random.default_rng(group.index).integers(group.size)
        check_cut(path, channels, {group.index: np.delete(np.arange(group.size), kept)}, seed=0)


def test_a_reshape_is_cut_into_the_shortest_runs() -> None:
    assert segments((2, 6, 4, 4), (2, 3, 2, 16)) == [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]
    assert segments(("batch", 8, 1, 1), ("batch", 8)) == [([0], [0]), ([1], [1])]
    assert segments(("batch", 6), ("6*batch",)) == [([0, 1], [0])]


def test_the_finest_common_split_of_two_shapes() -> None:
    assert refine([6, 4], [3, 8]) == ([[3, 2], [4]], [[3], [2, 4]])
    assert refine([4, 6], [6, 4]) is None
    found = factors((6, "4*batch", 4), ("6*batch", 16), (False,) * 3)
    assert found == ([[6], ["batch", 4], [4]], [[6, "batch"], [4, 4]])
    assert factors(("batch",), (4,), (False,)) is None
