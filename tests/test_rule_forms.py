"""Operators in less usual forms, each a row of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rule_rows import convolution, microsoft, quantized, recurrent, strict
from tests.test_rules import check_row

FORMS = {**convolution.FORMS, **quantized.FORMS, **recurrent.FORMS, **microsoft.FORMS, **strict.FORMS}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_form(form: str, tmp_path: Path) -> None:
    check_row(form.split(" ")[0], FORMS[form], tmp_path)
