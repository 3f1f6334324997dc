"""Attributes of ONNX nodes as plain values; bodies are carried whole, with what they read from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amcc.errors import ModelError
from amcc.ir import Attribute, Opaque
from amcc.passes.bodies import captured, inner_bodies

if TYPE_CHECKING:
    import onnx

    from amcc.frontends.onnx_tensors import TensorReader


def read_attribute(proto: onnx.AttributeProto, reader: TensorReader, where: str) -> Attribute:
    """The attribute's value: number, text, array, tuple of these, or `Opaque`.

    An empty list of floats or strings is opaque too: an empty tuple would lose its type.

    Raises:
        ModelError: a tensor in it cannot be read, or its type is unknown.
    """
    from onnx import AttributeProto

    kind = proto.type
    if kind == AttributeProto.FLOAT:
        return float(proto.f)
    if kind == AttributeProto.INT:
        return int(proto.i)
    if kind == AttributeProto.STRING:
        return _decoded(proto.s)
    if kind == AttributeProto.TENSOR:
        return reader.read(proto.t, f"{where}.{proto.name}")
    if kind == AttributeProto.INTS:
        return tuple(int(i) for i in proto.ints)
    if kind == AttributeProto.FLOATS and proto.floats:
        return tuple(float(f) for f in proto.floats)
    if kind == AttributeProto.STRINGS and proto.strings:
        return tuple(_decoded(s) for s in proto.strings)
    if kind in AttributeProto.AttributeType.values() and kind != AttributeProto.UNDEFINED:
        captures = tuple(dict.fromkeys(name for body in inner_bodies(proto) for name in captured(body)))
        inlined = AttributeProto()
        inlined.CopyFrom(proto)
        for body in inner_bodies(inlined):
            _embed(body, reader, where)
        return Opaque(AttributeProto.AttributeType.Name(kind), inlined.SerializeToString(deterministic=True), captures)
    raise ModelError(f"attribute '{proto.name}' has the unknown type {kind}", where=where)


def _decoded(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _embed(body: onnx.GraphProto, reader: TensorReader, where: str) -> None:
    """Bring external tensors of a body inside, since the body is carried as bytes."""
    from onnx import TensorProto

    def embed(tensor: onnx.TensorProto) -> None:
        if tensor.data_location == TensorProto.EXTERNAL:
            array = reader.raw(tensor, f"{where}.{tensor.name}")
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = array.tobytes()

    for tensor in body.initializer:
        embed(tensor)
    for node in body.node:
        for attribute in node.attribute:
            for tensor in (attribute.t, *attribute.tensors):
                embed(tensor)
            for inner in inner_bodies(attribute):
                _embed(inner, reader, where)
