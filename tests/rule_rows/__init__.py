"""For every operator rule a row of `tests.test_rules`, by family."""

from __future__ import annotations

from tests.rule_rows import basic
from tests.rule_rows.row import Row

ROWS: dict[str, Row] = {**basic.ROWS}

__all__ = ["ROWS", "Row"]
