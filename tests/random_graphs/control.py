"""Blocks within bodies: branches of an If, steps of a Loop, a recurrence as a Scan."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.random_graphs import convolutional, norms, structures
from tests.random_graphs.builder import Builder, Tensor

INNER = (*convolutional.GROWTHS, *structures.GROWTHS, *norms.GROWTHS)


def _info(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int | str] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _taken(b: Builder, start: int) -> list[onnx.NodeProto]:
    """The nodes from a position on, which are to be a body's."""
    nodes = b.nodes[start:]
    del b.nodes[start:]
    return nodes


def _grown(b: Builder, x: Tensor, width: int) -> str:
    """One or two random blocks on a tensor, brought to `[N, width, 1, 1]`."""
    pool = list(b.pool)
    b.pool.append(x)
    for _ in range(b.pick(1, 2)):
        with contextlib.suppress(LookupError):
            INNER[b.pick(0, len(INNER) - 1)](b, b.pool[-1])
    name, shape = b.pool[-1]
    b.pool = pool
    return b.op("Conv", b.op("GlobalAveragePool", name), b.param(width, shape[1], 1, 1), b.param(width))


def branches(b: Builder, x: Tensor) -> None:
    """One of two networks, as the sum of the tensor says; now and then an If in one of them."""
    name, (n, _, _, _) = x
    width = b.pick(2, 6)
    deep = b.pick(0, 2) == 0

    def choose(levels: int) -> str:
        total = b.op("ReduceSum", name, keepdims=0)
        condition = b.op("Greater", total, b.constant(np.float32(b.pick(-9, 9))))
        bodies = []
        for side in range(2):
            start = len(b.nodes)
            result = choose(levels - 1) if levels and side else _grown(b, x, width)
            bodies.append(helper.make_graph(_taken(b, start), f"body{b.count}", [], [_info(result)]))
        return b.op("If", condition, then_branch=bodies[0], else_branch=bodies[1])

    b.put(choose(int(deep)), (n, width, 1, 1))


def steps(b: Builder, x: Tensor) -> None:
    """A convolution over and over, in a Loop that carries its result or stacks it."""
    name, (n, c, h, w) = x
    start = len(b.nodes)
    i, go, state = (f"{part}{b.count}" for part in ("i", "go", "state"))
    mixed = b.op("Conv", state, b.param(c, c, 1, 1), b.param(c))
    bent = b.op(str(b.random.choice(["Tanh", "Sigmoid", "Softsign"])), mixed)
    after = b.op("Add", bent, name) if b.pick(0, 1) else b.op("Identity", bent)
    seen, on = b.op("Relu", mixed), b.op("Identity", go)
    inputs = [_info(i, TensorProto.INT64, []), _info(go, TensorProto.BOOL, []), _info(state)]
    outputs = [_info(on, TensorProto.BOOL, []), _info(after), _info(seen)]
    body = helper.make_graph(_taken(b, start), f"body{b.count}", inputs, outputs)
    last = b.op("Loop", b.constant(np.array(b.pick(1, 3))), "", name, outputs=2, body=body)
    if b.pick(0, 1):
        last = b.op("Add", last, b.reduce("ReduceSum", f"{last[:-1]}1", 0, keep=False))
    b.put(last, (n, c, h, w))


def recurrence(b: Builder, x: Tensor) -> None:
    """A simple recurrent cell as a Scan over the columns, from either end."""
    name, (n, c, _, w) = x
    hidden = b.pick(2, 5)
    rows = b.reduce("ReduceMean", name, 2, keep=False)
    begin = b.op("MatMul", b.reduce("ReduceSum", rows, 2, keep=False), b.param(c, hidden))
    start = len(b.nodes)
    state, column = (f"{part}{b.count}" for part in ("state", "column"))
    product = b.op("MatMul", column, b.param(c, hidden))
    after = b.op("Tanh", b.op("Add", product, b.op("MatMul", state, b.param(hidden, hidden))))
    seen = b.op("Neg", after)
    ends = [_info(name, shape=[b.batch, hidden]) for name in (after, seen)]  # which the runtime wants to know
    body = helper.make_graph(_taken(b, start), f"body{b.count}", [_info(state), _info(column)], ends)
    back = b.pick(0, 1)
    last = b.op(
        "Scan",
        begin,
        rows,
        outputs=2,
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[2],
        scan_input_directions=[back],
        scan_output_axes=[2],
        scan_output_directions=[back],
    )
    b.put(b.op("Unsqueeze", f"{last[:-1]}1", b.ints(2)), (n, hidden, 1, w))


GROWTHS = (branches, steps, recurrence)
