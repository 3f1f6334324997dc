"""For every operator rule a row of `tests.test_rules`, by family."""

from __future__ import annotations

from tests.rule_rows import attention, basic, control, convolution, microsoft, norms, quantized, recurrent, vision
from tests.rule_rows.row import Row

ROWS: dict[str, Row] = {
    **basic.ROWS,
    **attention.ROWS,
    **norms.ROWS,
    **vision.ROWS,
    **recurrent.ROWS,
    **microsoft.ROWS,
    **quantized.ROWS,
    **convolution.ROWS,
    **control.ROWS,
}

__all__ = ["ROWS", "Row"]
