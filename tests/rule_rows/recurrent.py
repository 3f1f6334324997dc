"""Rows of recurrent layers, over the eight columns of a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Row

H = 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def macs(op: str, directions: int = 1, batch: int = 2 * SIDE) -> int:
    """Every step, all gates read the input and the state."""
    return SIDE * batch * directions * GATES[op] * H * (C + H)


def layer(op: str, direction: str = "forward", *, states: bool = False, **attributes: object) -> Callable[..., str]:
    """`[2, 8, 8, 8]` read as sequences `[8, 16, 8]` along the last axis."""

    def place(b: Builder, x: str) -> str:
        directions, gates = 2 if direction == "bidirectional" else 1, GATES[op]
        first = bool(attributes.get("layout", 0))
        order = [0, 2, 3, 1] if first else [3, 0, 2, 1]
        rows = b.op("Reshape", b.op("Transpose", x, perm=order), b.ints(*((16, 8, C) if first else (8, 16, C))))
        params = [b.param(directions, gates * H, n) for n in (C, H)] + [b.param(directions, 2 * gates * H)]
        begin = [b.param(*((16, directions, H) if first else (directions, 16, H))) for _ in range(gates // 4 + 1)]
        peep = [b.param(directions, 3 * H)] if op == "LSTM" else []
        more = ["", *begin, *([""] if len(begin) < 2 and peep else []), *peep] if states else []
        hidden = b.op(op, rows, *params, *more, hidden_size=H, direction=direction, **attributes)
        if first:  # [16, 8, D, H]
            flat = b.op("Reshape", hidden, b.ints(2, 8, 8, -1))
            return b.op("Transpose", flat, perm=[0, 3, 1, 2])
        flat = b.op("Reshape", b.op("Transpose", hidden, perm=[0, 2, 1, 3]), b.ints(8, 2, 8, -1))
        return b.op("Transpose", flat, perm=[1, 3, 2, 0])

    return place


def row(op: str, direction: str = "forward", **more: object) -> Row:
    """The layer's row."""
    directions = 2 if direction == "bidirectional" else 1
    return Row(layer(op, direction, **more), (directions * H, SIDE, SIDE), macs=macs(op, directions))  # type: ignore[arg-type]


def _dynamic(b: Builder, x: str) -> str:
    """Weights of bytes, a scale for each row of each gate or one for all."""
    rows = b.op("Reshape", b.op("Transpose", x, perm=[3, 0, 2, 1]), b.ints(8, 16, C))
    weights = [b.constant(b.random.integers(-100, 100, (2, n, 4 * H)).astype(np.int8)) for n in (C, H)]
    scales = [b.constant(np.full((2, 4 * H), 0.01, np.float32)), b.constant(np.zeros((2, 4 * H), np.int8))]
    single = [b.constant(np.full(2, 0.01, np.float32)), b.constant(np.zeros(2, np.int8))]
    inputs = [*weights, b.param(2, 8 * H), "", "", "", "", *scales, *single]
    more = {"hidden_size": H, "direction": "bidirectional", "domain": "com.microsoft"}
    y = b.op("Transpose", b.op("DynamicQuantizeLSTM", rows, *inputs, **more), perm=[0, 2, 1, 3])
    return b.op("Transpose", b.op("Reshape", y, b.ints(8, 2, 8, -1)), perm=[1, 3, 2, 0])


ROWS = {
    "com.microsoft.DynamicQuantizeLSTM": Row(_dynamic, (2 * H, SIDE, SIDE), macs=macs("LSTM", 2), inexact=True),
    "LSTM": row("LSTM", "bidirectional", states=True),
    "GRU": row("GRU", states=True, linear_before_reset=1),
    "RNN": row("RNN", "reverse"),
}

FORMS = {
    "LSTM plain": row("LSTM"),
    "LSTM peepholes": row("LSTM", states=True),
    "GRU bidirectional": row("GRU", "bidirectional"),
    "GRU reset first": row("GRU", states=True, linear_before_reset=0),
    "RNN relu": row("RNN", activations=["Relu"]),
}
"""Further forms of the operators, each a row of its own."""
