"""Compute single nodes on known arrays: layout operators as views, the rest by onnx's reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amcc.ir import Array, Node, Opaque, frozen
from amcc.passes.protos import dtype_name, node_proto

Inputs = Sequence["Array | None"]


def without_repeats(array: Array) -> Array:
    """The array with length 1 on every axis along which it only repeats (stride 0)."""
    repeats = (stride == 0 and size > 1 for stride, size in zip(array.strides, array.shape, strict=True))
    return array[tuple(slice(0, 1) if repeat else slice(None) for repeat in repeats)]


# What depends on more than its inputs.
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)


def foldable(node: Node) -> bool:
    """Whether a node with known inputs may be computed ahead of time.

    Random operators, bodies, foreign domains and (de)quantisation may not.
    """
    return (
        node.domain == ""
        and node.op not in _RANDOM
        and "quantize" not in node.op.lower()
        and not node.op.endswith("Integer")
        and not node.op.startswith("QLinear")
        and not any(isinstance(a, Opaque) for a in node.attributes.values())
    )


def evaluate(node: Node, inputs: Inputs, opset: int) -> tuple[Array, ...] | None:
    """The outputs of a node, or None if they cannot be computed here.

    Args:
        inputs: one array an input, None where an optional one is left out.
    """
    try:
        layout = LAYOUT.get(node.op)
        if layout is not None and (result := layout(node, inputs)) is not None:
            return (frozen(result),)
        return _reference(node, inputs, opset)
    except Exception:  # the reference raises whatever numpy raises; unknown is a sound answer
        return None


def _reference(node: Node, inputs: Inputs, opset: int) -> tuple[Array, ...]:
    from onnx import FunctionProto, OperatorSetIdProto
    from onnx.reference import ReferenceEvaluator

    function = FunctionProto(
        name="node",
        domain="amcc",
        input=[name for name in dict.fromkeys(node.inputs) if name],
        output=[name for name in node.outputs if name],
        node=[node_proto(node, opset)],
        opset_import=[OperatorSetIdProto(domain="", version=opset)],
    )
    feeds = {name: array for name, array in zip(node.inputs, inputs, strict=True) if name}
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(function).run(None, feeds, attributes={})
    arrays = [np.asarray(result) for result in results]
    return tuple(frozen(array.astype(object) if array.dtype.kind == "U" else array) for array in arrays)


def _axes(node: Node, inputs: Inputs) -> tuple[int, ...] | None:
    """Axes from the second input (opset 13 on) or the attribute; None if neither is there."""
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(int(a) for a in inputs[1].reshape(-1))
    given: Any = node.attributes.get("axes")
    return None if given is None else tuple(given)


def _data(inputs: Inputs) -> Array:
    data = inputs[0]
    assert data is not None
    return data


def _transpose(node: Node, inputs: Inputs) -> Array:
    permutation: Any = node.attributes.get("perm")
    return _data(inputs).transpose(permutation)


def _reshape(node: Node, inputs: Inputs) -> Array | None:
    data, target = _data(inputs), inputs[1]
    if target is None:
        return None
    shape = [int(d) for d in target]
    if not node.attributes.get("allowzero", 0):
        shape = [data.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return data.reshape(shape)


def _squeeze(node: Node, inputs: Inputs) -> Array:
    return np.squeeze(_data(inputs), _axes(node, inputs))


def _unsqueeze(node: Node, inputs: Inputs) -> Array:
    return np.expand_dims(_data(inputs), _axes(node, inputs) or ())


def _flatten(node: Node, inputs: Inputs) -> Array:
    data = _data(inputs)
    axis: Any = node.attributes.get("axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(int(np.prod(data.shape[:axis])), -1) if data.size else data.reshape(0, 0)


def _identity(node: Node, inputs: Inputs) -> Array:
    return _data(inputs)


def _cast(node: Node, inputs: Inputs) -> Array | None:
    data = _data(inputs)
    to: Any = node.attributes["to"]
    target = np.dtype(dtype_name(to))
    if "O" in (data.dtype.kind, target.kind) or "saturate" in node.attributes:
        return None
    with np.errstate(all="ignore"):
        return np.broadcast_to(without_repeats(data).astype(target, copy=False), data.shape)


def _expand(node: Node, inputs: Inputs) -> Array | None:
    data, target = _data(inputs), inputs[1]
    if target is None:
        return None
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(int(d) for d in target)))


def _constant_of_shape(node: Node, inputs: Inputs) -> Array:
    value = node.attributes.get("value", np.zeros(1, np.float32))
    assert isinstance(value, np.ndarray)
    return np.broadcast_to(value.reshape(()), tuple(int(d) for d in _data(inputs)))


# Operators that only move elements, or repeat or recast them: computed at any size.
LAYOUT: dict[str, Callable[[Node, Inputs], Array | None]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Identity": _identity,
    "Cast": _cast,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
}

# Other operators that numpy computes about as fast as it reads the data: weight normalisation,
# normalisations spelled out, parameters joined or cut.
CHEAP = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "BatchNormalization",
        "CastLike",
        "Clip",
        "Concat",
        "Div",
        "Equal",
        "Exp",
        "Gather",
        "Greater",
        "InstanceNormalization",
        "LayerNormalization",
        "Less",
        "Log",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pad",
        "Pow",
        "Reciprocal",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "ReduceSumSquare",
        "Slice",
        "Softplus",
        "Split",
        "Sqrt",
        "Sub",
        "Sum",
        "Tile",
        "Where",
    }
)
