"""Between the IR's own terms and ONNX's protocol buffers: types, tensors, attributes, nodes."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from amcc.errors import ModelError
from amcc.ir import Array, Attribute, Node, Opaque, Shape

if TYPE_CHECKING:
    import onnx

_CONTAINER = re.compile(r"(sequence|optional|map)\((?:(\w+), )?(.*)\)")


@cache
def _element_types() -> dict[str, int]:
    from onnx import TensorProto, helper

    return {helper.tensor_dtype_to_np_dtype(t).name: t for t in TensorProto.DataType.values() if t}


@cache
def _dtype_names() -> dict[int, str]:
    return {number: name for name, number in _element_types().items()}


def element_type(dtype: str) -> int:
    """ONNX's number for an element type given by numpy's name."""
    try:
        return _element_types()[dtype]
    except KeyError:
        raise ModelError(f"ONNX has no element type '{dtype}'") from None


def dtype_name(number: int) -> str:
    """Numpy's name of an ONNX element type; "" when it is undefined or unknown."""
    return _dtype_names().get(number, "")


def type_proto(dtype: str, shape: Shape | None) -> onnx.TypeProto:
    """The type of a value; `"?"` dimensions are left empty.

    `dtype` may be a container's: `"sequence(float32)"`, `"optional(sequence(int64))"`, `"map(int64, float32)"`.
    """
    from onnx import TypeProto

    proto = TypeProto()
    if container := _CONTAINER.fullmatch(dtype):
        kind, key, inner = container.groups()
        if kind == "map":
            proto.map_type.key_type = element_type(key)
            proto.map_type.value_type.CopyFrom(type_proto(inner, None))
        else:
            getattr(proto, f"{kind}_type").elem_type.CopyFrom(type_proto(inner, None))
    elif dtype:
        tensor = proto.tensor_type
        tensor.elem_type = element_type(dtype)
        if shape is not None:
            tensor.shape.SetInParent()
            for dim in shape:
                entry = tensor.shape.dim.add()
                if isinstance(dim, int):
                    entry.dim_value = dim
                elif dim != "?":
                    entry.dim_param = dim
    return proto


def read_type(proto: onnx.TypeProto) -> tuple[str, Shape | None]:
    """Element type and shape; the inverse of `type_proto`. Sparse and opaque types give ("", None)."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        tensor = proto.tensor_type
        shape = tuple(_read_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
        return dtype_name(tensor.elem_type), shape
    if kind in ("sequence_type", "optional_type"):
        inner, _ = read_type(getattr(proto, kind).elem_type)
        return (f"{kind.removesuffix('_type')}({inner})" if inner else ""), None
    if kind == "map_type":
        key, inner = dtype_name(proto.map_type.key_type), read_type(proto.map_type.value_type)[0]
        return (f"map({key}, {inner})" if key and inner else ""), None
    return "", None


def _read_dim(dim: Any) -> int | str:
    if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0:
        return int(dim.dim_value)
    return str(dim.dim_param) or "?"


def tensor_proto(name: str, array: Array) -> onnx.TensorProto:
    """The tensor with its bytes inside."""
    from onnx import TensorProto, numpy_helper

    number = element_type(array.dtype.name)
    if array.dtype.kind in "biufc":
        return TensorProto(name=name, dims=array.shape, data_type=number, raw_data=array.tobytes())
    return numpy_helper.from_array(array, name)


def attribute_proto(name: str, value: Attribute, kind: int | None = None) -> onnx.AttributeProto:
    """One attribute.

    Args:
        kind: the type that the operator's schema gives it; decides between numbers and for empty lists.
    """
    from onnx import AttributeProto

    proto = AttributeProto(name=name)
    if isinstance(value, Opaque):
        proto.ParseFromString(value.data)
        proto.name = name
    elif isinstance(value, np.ndarray):
        proto.type = AttributeProto.TENSOR
        proto.t.CopyFrom(tensor_proto("", value))
    elif isinstance(value, tuple | list):
        items = [item.item() if isinstance(item, np.generic) else item for item in value]
        _set_list(proto, items, kind)
    elif isinstance(value, str | bytes):
        proto.type = AttributeProto.STRING
        proto.s = _encoded(value)
    elif isinstance(value, float | np.floating) or kind == AttributeProto.FLOAT:
        proto.type = AttributeProto.FLOAT
        proto.f = float(value)
    else:
        proto.type = AttributeProto.INT
        proto.i = int(value)
    return proto


def _set_list(proto: onnx.AttributeProto, items: list[Any], kind: int | None) -> None:
    from onnx import AttributeProto

    if not items and kind is not None:
        proto.type = kind  # type: ignore[assignment]
    elif any(isinstance(item, np.ndarray) for item in items):
        proto.type = AttributeProto.TENSORS
        proto.tensors.extend(tensor_proto("", item) for item in items)
    elif any(isinstance(item, str | bytes) for item in items):
        proto.type = AttributeProto.STRINGS
        proto.strings.extend(_encoded(item) for item in items)
    elif any(isinstance(item, float) for item in items) or kind == AttributeProto.FLOATS:
        proto.type = AttributeProto.FLOATS
        proto.floats.extend(float(item) for item in items)
    else:
        proto.type = AttributeProto.INTS
        proto.ints.extend(int(item) for item in items)


def _encoded(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@cache
def schema(op: str, domain: str, version: int) -> onnx.defs.OpSchema | None:
    """The operator's schema at an operator set version; None if ONNX does not know the operator."""
    import onnx

    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None


@cache
def _attribute_kinds(op: str, domain: str, version: int) -> dict[str, int]:
    known = schema(op, domain, version)
    return {} if known is None else {name: a.type.value for name, a in known.attributes.items()}  # type: ignore[attr-defined]


@cache
def optional_outputs(op: str, domain: str, version: int) -> frozenset[int]:
    """Positions of the outputs that a node may leave out."""
    known = schema(op, domain, version)
    if known is None:
        return frozenset()
    optional = type(known).FormalParameterOption.Optional
    return frozenset(i for i, output in enumerate(known.outputs) if output.option == optional)


@cache
def form(op: str, version: int) -> tuple[object, ...] | None:
    """What a standard operator takes and gives at a version, types aside; None if there is none."""
    known = schema(op, "", version)
    if known is None:
        return None
    attributes = [(n, a.type, a.required, a.default_value.SerializeToString()) for n, a in known.attributes.items()]
    places = ([(p.name, p.option) for p in known.inputs], [(p.name, p.option) for p in known.outputs])
    return (*map(tuple, places), tuple(sorted(attributes, key=lambda a: a[0])))


def is_float(array: Array) -> bool:
    """Whether the elements are floating-point numbers of any width."""
    return array.dtype.name.startswith(("float", "bfloat"))


def node_proto(node: Node, version: int) -> onnx.NodeProto:
    """The node as ONNX spells it, for the operator set `version` of its domain."""
    from onnx import NodeProto

    kinds = _attribute_kinds(node.op, node.domain, version)
    return NodeProto(
        name=node.name,
        op_type=node.op,
        domain=node.domain or None,
        input=node.inputs,
        output=node.outputs,
        attribute=[attribute_proto(n, a, kinds.get(n)) for n, a in node.attributes.items()],
    )
