"""Forms that tell a right rule from a nearly right one: operators that move, multiply and pick.

`free` is False where an operator works along the channels in a way that none of them may go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.random_graphs import Builder
from tests.rule_rows.row import SIDE, C, Place, Row
from tests.rule_rows.turned import OWN, T, array, first, inner, largest, number, own, turned

# -- Concat, Split, Gather, Tile, Expand, Slice ------------------------------------------------------


def _split(sizes: Sequence[int] | None, *, told: bool = True, **attributes: object) -> Place:
    """Parts of the channels, put together again in reverse."""

    def place(b: Builder, x: str) -> str:
        count = len(sizes or ())
        more = [b.ints(*(sizes or ()))] if told else []
        y = b.op("Split", x, *more, outputs=count, axis=1, **attributes)
        return b.op("Concat", *(y[:-1] + str(i) for i in reversed(range(count))), axis=1)

    return place


def _joined_with_the_batch(b: Builder, x: str) -> str:
    """Eight channels, then as many more as there are samples."""
    channels, samples = b.op("ReduceMax", x, axes=[0], keepdims=0), b.op("ReduceMax", x, axes=[1], keepdims=0)
    joined = b.op("Concat", channels, samples, axis=0)
    return b.op("Add", x, b.op("ReduceMax", joined, axes=[0], keepdims=1))


def _gathered_from_samples(b: Builder, x: str) -> str:
    """The first eight of all samples' channels, in reverse."""
    flat = b.op("Reshape", x, b.ints(-1, SIDE, SIDE))
    return b.op("Add", x, b.op("ReduceMax", b.op("Gather", flat, b.ints(*range(7, -1, -1))), axes=[0], keepdims=1))


def _gathered_as_a_table(b: Builder, x: str) -> str:
    """Channels at a table of indices, `[2, 2, 3, 8, 8]`."""
    y = b.op("Gather", x, array(b, [[5, 1, -1], [0, 4, 3]]), axis=1)
    return b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3, 4]), b.ints(2, 6, SIDE, SIDE))


def _gathered_rows(b: Builder, x: str) -> str:
    """In front of the channels: the axes behind stay in order. `[3, 2, 8, 8]`, with the rows first."""
    rows = b.op("Gather", b.op("Transpose", x, perm=[2, 0, 1, 3]), b.ints(5, 0, -1), axis=0)
    return b.op("Transpose", b.op("Add", rows, b.param(C, 1)), perm=[1, 2, 0, 3])


def _single(b: Builder, x: str) -> str:
    return b.op("Unsqueeze", b.op("Gather", x, b.constant(np.int64(2)), axis=1), b.ints(1))


def _tiled_at_run_time(b: Builder, x: str) -> str:
    times = b.op("Concat", b.ints(1), b.op("Add", number(b, x), b.ints(1)), b.ints(1, 1), axis=0)
    return largest(b, b.op("Tile", x, times), 1)


def _expanded_from_behind(b: Builder, x: str) -> str:
    """`[8, 1, 1]` to four axes, and tied to the channels of a scale."""
    vector = b.op("ReduceMax", x, axes=[0, 2, 3], keepdims=0)
    wide = b.op("Expand", b.op("Reshape", vector, b.ints(C, 1, 1)), b.ints(2, C, SIDE, SIDE))
    return b.op("Mul", wide, b.param(C, 1, 1))


def _sliced(starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] = (), steps: Sequence[int] = ()) -> Place:
    def place(b: Builder, x: str) -> str:
        more = [b.ints(*axes) if axes else "", b.ints(*steps)] if steps else [b.ints(*axes)] * bool(axes)
        return b.op("Slice", x, b.ints(*starts), b.ints(*ends), *more)

    return place


def _sliced_at_run_time(b: Builder, x: str) -> str:
    end = b.op("Add", number(b, x), b.ints(1))
    return largest(b, b.op("Slice", x, b.ints(0), end, b.ints(1)), 1)


# -- layout, products ----------------------------------------------------------------------------------


def _transposed(b: Builder, x: str) -> str:
    """Three axes in a circle, which is no inverse of itself, and all axes reversed."""
    last = b.op("Add", b.op("Transpose", x, perm=[0, 2, 3, 1]), b.param(C))
    turned = b.op("Transpose", b.op("Mul", b.op("Transpose", last), b.param(C, SIDE, 1, 1)))
    return b.op("Transpose", turned, perm=[0, 3, 1, 2])


def _regrouped(b: Builder, x: str) -> str:
    """Three rows of eight channels as six of four."""
    rows = b.op("Slice", x, b.ints(0), b.ints(3), b.ints(2))
    return b.op("Reshape", rows, b.ints(2, 6, 4, SIDE))


def _in_front_of_the_batch(b: Builder, x: str) -> str:
    merged = b.op("Reshape", b.op("Transpose", x, perm=[1, 0, 2, 3]), b.ints(-1, SIDE, SIDE))
    return b.op("Transpose", b.op("Reshape", b.op("Relu", merged), b.ints(C, -1, SIDE, SIDE)), perm=[1, 0, 2, 3])


def _samples_multiplied(op: str) -> Place:
    """Samples' channels, all of them, against themselves: `[64, 64]`."""

    def place(b: Builder, x: str) -> str:
        flat = b.op("Reshape", x, b.ints(-1, T))
        if op == "MatMul":
            gram = b.op("MatMul", b.op("Transpose", flat, perm=[1, 0]), flat)
        elif op == "Gemm":
            gram = b.op("Gemm", flat, flat, transA=1)
        else:
            gram = b.op("Einsum", flat, flat, equation="nc,nd->cd")
        return b.op("Add", b.op("Reshape", gram, b.ints(1, T, SIDE, SIDE)), largest(b, x, 1))

    return place


def _gemm_from_the_left(b: Builder, x: str) -> str:
    """A weight in front: `[8, 4]^T x [8, 128]`."""
    flat = b.op("Reshape", b.op("Transpose", x, perm=[1, 0, 2, 3]), b.ints(C, 2 * T))
    y = b.op("Gemm", b.param(C, 4), flat, b.param(4, 1), transA=1)
    return b.op("Transpose", b.op("Reshape", y, b.ints(4, 2, SIDE, SIDE)), perm=[1, 0, 2, 3])


def _einsum_unsaid(b: Builder, x: str) -> str:
    """Without a result: letters that stand once, in their order: `[c, b, x, y]`."""
    y = b.op("Einsum", x, b.param(C), b.param(3), equation="zdxy,d,c")
    return b.op("Transpose", y, perm=[3, 0, 1, 2])


def _einsum_dots(b: Builder, x: str) -> str:
    """Dots that stand for three axes, of which another operand has the last one, the channels."""
    y = b.op("Einsum", b.op("Transpose", x, perm=[0, 3, 1, 2]), b.param(1, 1, C, SIDE), equation="...h,...h->...")
    return b.op("Unsqueeze", b.op("Transpose", y, perm=[0, 2, 1]), b.ints(3))


def _batched_product(op: str, **attributes: object) -> Place:
    """A matrix for each channel."""
    return lambda b, x: b.op(op, x, b.param(C, SIDE, 5), **attributes)


# -- whatever picks at indices ---------------------------------------------------------------------------


def _pointed_at_run_time(b: Builder, x: str) -> str:
    return b.op("GatherND", x, b.op("Reshape", number(b, x), b.ints(1, 1)))


def _pointed_in_one_channel(b: Builder, x: str) -> str:
    """Two rows of channel 3."""
    turned = b.op("Transpose", x, perm=[1, 2, 0, 3])
    rows = b.op("GatherND", turned, array(b, [[3, 0], [3, 5]]))
    return b.op("Unsqueeze", b.op("Transpose", rows, perm=[1, 0, 2]), b.ints(1))


def _channel_by_channel(b: Builder, x: str) -> str:
    """Of every channel the sample of the two in which another tensor's channel is larger."""
    turned, other = (b.op("Transpose", t, perm=[1, 0, 2, 3]) for t in (x, own(b, x)))
    sample = b.op("ArgMax", b.op("ReduceMax", other, axes=[2, 3], keepdims=0), axis=1, keepdims=1)
    chosen = b.op("GatherND", turned, b.op("Unsqueeze", sample, b.ints(2)), batch_dims=1)
    return b.op("Add", x, b.op("Transpose", chosen, perm=[1, 0, 2, 3]))


def _written(indices: object, *shape: int, order: Sequence[int] = (1, 0, 2, 3), reduction: str = "none") -> Place:
    """A constant written at these places."""
    return turned(order, lambda b, x: b.op("ScatterND", x, array(b, indices), b.param(*shape), reduction=reduction))


def _written_at_run_time(*, channels: bool) -> Place:
    """Over the channels, or channels over something else."""

    def place(b: Builder, x: str) -> str:
        zero = b.op("Mul", b.op("Reshape", number(b, x), b.ints(1, 1)), array(b, [[0]]))
        places = b.op("Add", zero, array(b, np.arange(C)[:, None]))
        other = b.param(C, 2, SIDE, SIDE)
        return b.op("ScatterND", *((x, places, other) if channels else (other, places, x)))

    return first(place)


def _scattered(b: Builder, x: str) -> str:
    """Where another tensor's entries are largest, a third one's: all three tied."""
    places = b.op("ArgMax", own(b, x), axis=3, keepdims=1)
    return b.op("ScatterElements", x, places, largest(b, own(b, x), 3), axis=3)


def _elements(op: str) -> Place:
    """At constant indices along the channels."""

    def place(b: Builder, x: str) -> str:
        indices = b.constant(np.argsort(b.random.random((2, C, SIDE, SIDE)), axis=1)[:, :3])
        more = [b.param(2, 3, SIDE, SIDE)] * (op == "ScatterElements")
        return b.op(op, x, indices, *more, axis=1)

    return place


def _reversed(b: Builder, x: str) -> str:
    return b.op("ReverseSequence", x, b.ints(3, C))


def _compressed(b: Builder, x: str) -> str:
    return b.op("Compress", x, b.constant(np.array([1, 0, 1, 1, 0, 0, 0, 1], bool)), axis=1)


def _hot_channels(b: Builder, x: str) -> str:
    """The new axis in front of the channels, each of which has its own weight."""
    hot = b.op("OneHot", b.op("ArgMax", x, axis=3, keepdims=0), b.constant(np.int64(SIDE)), _zero_one(b), axis=1)
    return b.op("Transpose", b.op("Mul", hot, b.param(C, 1)), perm=[0, 2, 1, 3])


def _zero_one(b: Builder) -> str:
    return b.constant(np.array([0, 1], np.float32))


FORMS: dict[str, Row] = {
    "Concat beside the channels": Row(lambda b, x: b.op("Concat", x, own(b, x), axis=2), (C, 16, SIDE), macs=OWN),
    "Concat of unlike channels": Row(
        lambda b, x: b.op("Concat", b.op("Conv", x, b.param(3, C, 1, 1)), x, axis=1),
        (11, SIDE, SIDE),
        macs=2 * T * 3 * C,
    ),
    "Concat with the batch": Row(_joined_with_the_batch, free=False, batch="batch"),
    "Split told": Row(_split((3, 5))),
    "Split halves": Row(_split((4, 4), told=False)),
    "Split counted": Row(_split((3, 3, 2), told=False, num_outputs=3), opset=18),
    "Split old": Row(_split((1, 2, 5)), opset=11),
    "Gather of samples": Row(_gathered_from_samples, free=False, batch="batch"),
    "Gather table": Row(_gathered_as_a_table, (6, SIDE, SIDE)),
    "Gather rows": Row(_gathered_rows, (C, 3, SIDE)),
    "Gather single": Row(_single, (1, SIDE, SIDE)),
    "Gather at run time": Row(lambda b, x: b.op("Gather", x, number(b, x), axis=1), (1, SIDE, SIDE), free=False),
    "Tile at run time": Row(_tiled_at_run_time, (1, SIDE, SIDE), free=False),
    "Expand from behind": Row(_expanded_from_behind, inexact=False),
    "Slice every third": Row(_sliced([1], [100], [-3], [3]), (3, SIDE, SIDE)),
    "Slice backwards": Row(_sliced([-1], [-100], [1], [-2]), (4, SIDE, SIDE)),
    "Slice back to the second": Row(_sliced([-2], [0], [1], [-1]), (6, SIDE, SIDE)),
    "Slice all axes": Row(_sliced([0, 1, 2, 0], [2, 7, 8, 8]), (6, 6, SIDE)),
    "Slice two axes": Row(_sliced([4, 2], [8, -1], [3, 1]), (5, SIDE, 4)),
    "Slice at run time": Row(_sliced_at_run_time, (1, SIDE, SIDE), free=False),
    "Transpose in a circle": Row(_transposed),
    "Trilu of channels": Row(inner(lambda b, x: b.op("Trilu", x)), free=False),
    "Trilu of columns and channels": Row(turned([0, 2, 3, 1], lambda b, x: b.op("Trilu", x)), free=False),
    "Reshape across rows": Row(_regrouped, (6, 4, SIDE), free=False),
    "Reshape in front of the batch": Row(_in_front_of_the_batch, free=False, batch="batch"),
    **{
        f"{op} of samples": Row(_samples_multiplied(op), (T, SIDE, SIDE), free=False, batch="batch", macs=C * T * T)
        for op in ("MatMul", "Gemm", "Einsum")
    },
    "Gemm from the left": Row(_gemm_from_the_left, (4, SIDE, SIDE), macs=2 * T * C * 4),
    "MatMul batched": Row(_batched_product("MatMul"), (C, SIDE, 5), macs=2 * T * C * 5),
    "com.microsoft.FusedMatMul batched": Row(
        _batched_product("FusedMatMul", domain="com.microsoft"), (C, SIDE, 5), macs=2 * T * C * 5
    ),
    "Einsum unsaid": Row(_einsum_unsaid, (3, SIDE, SIDE), macs=2 * T * C * 3),
    "Einsum dots": Row(_einsum_dots, (C, SIDE, 1), macs=2 * T * C),
    "ArgMax of channels": Row(lambda b, x: b.op("Cast", b.op("ArgMax", x, axis=1), to=1), (1, SIDE, SIDE), free=False),
    "TopK of channels": Row(lambda b, x: b.op("TopK", x, b.ints(3), outputs=2, axis=1), (3, SIDE, SIDE), free=False),
    "GatherND at run time of channels": Row(first(_pointed_at_run_time), (1, SIDE, SIDE), free=False),
    "GatherND in one channel": Row(_pointed_in_one_channel, (1, 2, SIDE)),
    "GatherND channel by channel": Row(_channel_by_channel, macs=OWN),
    "ScatterND constants": Row(_written([[6], [1], [-5]], 3, 2, SIDE, SIDE)),
    "ScatterND diagonal": Row(_written([[0, 0], [5, 1], [2, 2]], 3, 2, SIDE, order=(1, 2, 0, 3))),
    "ScatterND in one channel": Row(_written([[3, 0], [3, 5]], 2, 2, SIDE, order=(1, 2, 0, 3))),
    "ScatterND again": Row(_written([[1], [1]], 2, 2, SIDE, SIDE, reduction="add"), opset=18),
    "ScatterND at run time": Row(_written_at_run_time(channels=True), free=False),
    "ScatterND of channels at run time": Row(_written_at_run_time(channels=False), free=False),
    "ScatterElements of three": Row(_scattered, macs=2 * OWN),
    "ScatterElements of channels": Row(_elements("ScatterElements"), free=False),
    "GatherElements of channels": Row(_elements("GatherElements"), (3, SIDE, SIDE), free=False),
    "ReverseSequence of channels": Row(first(lambda b, x: _reversed(b, x)), free=False),
    "Compress channels": Row(_compressed, (4, SIDE, SIDE), free=False),
    "OneHot in front": Row(_hot_channels),
}
"""Each a row of its own; the name begins with the operator."""
