"""ONNX files without copies of their weights: the little of protocol buffers' wire format that needs.

A file is a message; a message is a sequence of fields, each a tag (field number and wire type), for
lengths a byte count, and the payload. A weight's bytes are one field (`raw_data`) of a tensor, so they
can be mapped where they lie, and written straight from an array.
ONNX is little-endian, and so are the machines that the runtimes are built for.
Source: protobuf.dev/programming-guides/encoding; field numbers from onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from amcc.ir import Array

if TYPE_CHECKING:
    import onnx

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_RAW_DATA = 9  # of TensorProto
_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
# Where tensors lie in a model: field numbers from ModelProto down to TensorProto.
_Paths = dict[int, "_Paths | None"]
_TENSORS: _Paths = {_GRAPH: {_INITIALIZER: None, 1: {5: {5: None}}}}

# Bytes of a strided array that may be copied at once.
_LARGEST_COPY = 1 << 26
# Bytes from which a tensor is worth mapping, and a message worth descending into.
_WORTHWHILE = 4096


class WireError(ValueError):
    """The bytes are no message, or the message is cut short."""


def outline(data: memoryview, location: str) -> bytes:
    """The model without the bytes of its large tensors.

    Each of these becomes external data of `location`, which must be a name of the same file.

    Raises:
        WireError: the bytes are no message, or the message is cut short.
    """
    return b"".join(_outlined(data, 0, len(data), _TENSORS, location))


def _outlined(data: memoryview, start: int, end: int, paths: _Paths, location: str) -> Iterator[bytes | memoryview]:
    for number, head, body, after in _fields(data, start, end):
        if number not in paths or after - body < _WORTHWHILE:
            yield data[head:after]
            continue
        inner = paths[number]
        pieces = (
            _tensor(data, body, after, location) if inner is None else _outlined(data, body, after, inner, location)
        )
        message = b"".join(pieces)
        yield _tag(number, _LENGTH) + _varint(len(message))
        yield message


def _tensor(data: memoryview, start: int, end: int, location: str) -> Iterator[bytes | memoryview]:
    from onnx import StringStringEntryProto, TensorProto

    for number, head, body, after in _fields(data, start, end):
        if number != _RAW_DATA or after - body < _WORTHWHILE:
            yield data[head:after]
            continue
        entries = {"location": location, "offset": str(body), "length": str(after - body)}
        stand_in = TensorProto(
            data_location=TensorProto.EXTERNAL,
            external_data=[StringStringEntryProto(key=k, value=v) for k, v in entries.items()],
        )
        yield stand_in.SerializeToString()


def _fields(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Field number, start of the tag, start of the payload, end of the payload."""
    position = start
    while position < end:
        head = position
        tag, position = _read_varint(data, position, end)
        number, kind = tag >> 3, tag & 7
        body = position
        if kind == _VARINT:
            _, position = _read_varint(data, position, end)
        elif kind == _LENGTH:
            length, body = _read_varint(data, position, end)
            position = body + length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise WireError(f"wire type {kind} at byte {head}")
        if position > end:
            raise WireError(f"cut short: a field at byte {head} ends at {position}, its message at {end}")
        yield number, head, body, position


def _read_varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise WireError(f"a number at byte {position} does not end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def write_model(file: BinaryIO, model: onnx.ModelProto, contents: dict[str, Array]) -> None:
    """Write a model whose initializers named in `contents` lack their bytes; each comes from its array."""
    tensors = [(t.SerializeToString(deterministic=True), contents.get(t.name)) for t in model.graph.initializer]
    heads = []
    for serialized, array in tensors:
        raw = b"" if array is None else _tag(_RAW_DATA, _LENGTH) + _varint(array.nbytes)
        length = len(serialized) + len(raw) + (0 if array is None else array.nbytes)
        heads.append(_tag(_INITIALIZER, _LENGTH) + _varint(length) + serialized + raw)
    bare = type(model)()
    bare.CopyFrom(model)
    bare.graph.ClearField("initializer")
    graph = bare.graph.SerializeToString(deterministic=True)
    bare.ClearField("graph")
    total = len(graph) + sum(map(len, heads)) + sum(a.nbytes for _, a in tensors if a is not None)
    file.write(bare.SerializeToString(deterministic=True))
    file.write(_tag(_GRAPH, _LENGTH) + _varint(total))
    file.write(graph)
    for head, (_, array) in zip(heads, tensors, strict=True):
        file.write(head)
        if array is not None:
            write_array(file, array)


def write_array(file: BinaryIO, array: Array) -> None:
    """The array's elements in order; large strided arrays are copied a part at a time."""
    if not array.flags.c_contiguous and array.nbytes > _LARGEST_COPY and array.ndim > 1:
        for part in array:
            write_array(file, part)
        return
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def is_plain(array: Array) -> bool:
    """Whether the array's bytes are the tensor's bytes: no text, no packed small numbers."""
    packed = ("int4", "uint4", "int2", "uint2", "float4", "float6")
    return array.dtype.kind != "O" and not array.dtype.name.startswith(packed)
