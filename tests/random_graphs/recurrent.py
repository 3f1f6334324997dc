"""Recurrent layers over the columns of a picture, in both directions."""

from __future__ import annotations

from tests.random_graphs.builder import Builder, Tensor


def recurrent(b: Builder, x: Tensor) -> None:
    """`[N, C, H, W]` read as W steps of C features, averaged over H; gives one column a step."""
    name, (n, c, _h, w) = x
    kind = str(b.random.choice(["LSTM", "GRU", "RNN"]))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    hidden = b.pick(2, 5)
    direction = str(b.random.choice(["forward", "reverse", "bidirectional"]))
    d = 2 if direction == "bidirectional" else 1
    steps = b.op("Transpose", b.reduce("ReduceMean", name, 2, keep=False), perm=[2, 0, 1])
    weights = [b.param(d, gates * hidden, c), b.param(d, gates * hidden, hidden)]
    if b.pick(0, 1):
        weights.append(b.param(d, 2 * gates * hidden))
    extra = {"linear_before_reset": b.pick(0, 1)} if kind == "GRU" else {}
    y = b.op(kind, steps, *weights, hidden_size=hidden, direction=direction, outputs=2, **extra)
    if b.pick(0, 3) == 0:  # the last state gates what came in
        state = b.reshape(b.op("Transpose", y[:-1] + "1", perm=[1, 0, 2]), n, d * hidden)
        b.put(b.op("Unsqueeze", b.op("Sigmoid", state), b.ints(2, 3)), (n, d * hidden, 1, 1))
        return
    turned = b.op("Transpose", y, perm=[2, 1, 3, 0])
    b.put(b.reshape(turned, n, d * hidden, 1, w), (n, d * hidden, 1, w))


GROWTHS = (recurrent,)
