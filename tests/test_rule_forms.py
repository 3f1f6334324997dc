"""Operators in less usual forms, each a row of its own."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from amcc.frontends.from_onnx import from_onnx
from amcc.passes.channels import analyze
from amcc.passes.rules.rule import label
from amcc.passes.shapes import infer
from tests.rule_rows import computing, convolution, microsoft, moving, quantized, recurrent
from tests.test_rules import build, check_row

FORMS = {
    **convolution.FORMS,
    **quantized.FORMS,
    **recurrent.FORMS,
    **microsoft.FORMS,
    **moving.FORMS,
    **computing.FORMS,
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_form(form: str, tmp_path: Path) -> None:
    check_row(form.split(" ")[0], FORMS[form], tmp_path)


def test_a_layer_that_takes_the_range_of_its_state_is_inexact_in_its_width(tmp_path: Path) -> None:
    """The certificate's tolerance for eight bits would let it pass for exact."""
    op = "com.microsoft.DynamicQuantizeLSTM"
    model, _ = build(recurrent.ROWS[op])
    onnx.save(model, tmp_path / "model.onnx")
    graph = infer(from_onnx(tmp_path / "model.onnx"))
    weights = {name for node in graph.nodes if label(node) == op for name in node.inputs[1:3]}
    groups = [g for g in analyze(graph).groups if any(piece.param in weights for piece in g.slices)]
    assert len(groups) == 2
    assert all(group.inexact for group in groups)
