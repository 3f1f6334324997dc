"""One row an operator and spelling: what `write_torch` must translate, checked against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amcc.ir import Array


@dataclass(frozen=True)
class Case:
    """One node.

    Attributes:
        shapes: of the dynamic inputs, which come first; float32 unless `dtypes` says otherwise.
        constants: the inputs that follow; None leaves one out.
        outputs: how many.
        dynamic: give the leading dimension of the inputs a symbol.
        low, high: range of the random inputs.
        reference: compare with onnx's reference, where ONNX Runtime lacks the operator.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...] = ((2, 4, 6, 6),)
    constants: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 21
    outputs: int = 1
    dynamic: bool = False
    dtype: type = np.float32
    low: float = -3.0
    high: float = 3.0
    reference: bool = False
    name: str = ""

    @property
    def id(self) -> str:
        given = "-".join(f"{k}={v}" for k, v in self.attributes.items() if not isinstance(v, onnx.TensorProto))
        return self.name or f"{self.op}-{self.opset}-{given}".replace(" ", "")[:70]


def case(op: str, *shapes: tuple[int, ...], **given: Any) -> Case:
    fields = {k: given.pop(k) for k in list(given) if k in Case.__dataclass_fields__}
    return Case(op, shapes or ((2, 4, 6, 6),), attributes=given, **fields)


def model(one: Case) -> onnx.ModelProto:
    inputs, names, initializers = [], [], []
    for i, shape in enumerate(one.shapes):
        sizes: list[int | str] = ["N", *shape[1:]] if one.dynamic else list(shape)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype))
        inputs.append(helper.make_tensor_value_info(f"x{i}", kind, sizes))
        names.append(f"x{i}")
    for i, constant in enumerate(one.constants):
        names.append("" if constant is None else f"c{i}")
        if constant is not None:
            initializers.append(numpy_helper.from_array(np.asarray(constant), f"c{i}"))
    outputs = [f"y{i}" for i in range(one.outputs)]
    node = helper.make_node(one.op, names, outputs, name="node", **one.attributes)
    infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "one", inputs, infos, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", one.opset)], ir_version=10)


def feeds(one: Case, batch: int | None = None) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    made = {}
    for i, shape in enumerate(one.shapes):
        sizes = (batch, *shape[1:]) if one.dynamic and batch else shape
        if one.dtype is bool:
            made[f"x{i}"] = rng.random(sizes) > 0.5
        elif np.issubdtype(one.dtype, np.integer):
            made[f"x{i}"] = rng.integers(int(one.low), 7, sizes).astype(one.dtype)
        else:
            made[f"x{i}"] = rng.uniform(one.low, one.high, sizes).astype(one.dtype)
    return made


def f32(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: float, dtype: type = np.float32) -> Array:
    return np.array(value, dtype)


def positive(*shape: int) -> Array:
    return np.abs(f32(*shape, seed=3)) + 0.5


FAR = np.iinfo(np.int64).max

_UNARY = (
    "Abs Atan Ceil Cos Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Mish Neg Reciprocal Relu Round Selu "
    "Sigmoid Sign Sin Softplus Softsign Tan Tanh ThresholdedRelu Celu Gelu Sinh Cosh Asinh Shrink"
)

ELEMENTWISE = [
    *(case(op) for op in _UNARY.split()),
    *(case(op, low=0.1) for op in ("Log", "Sqrt")),
    case("Acosh", low=1.1),
    *(case(op, low=-0.9, high=0.9) for op in ("Acos", "Asin", "Atanh")),
    *(case(f"Bitwise{op}", (2, 3), (2, 3), dtype=np.int32) for op in ("And", "Or", "Xor")),
    case("BitwiseNot", (2, 3), dtype=np.int32),
    *(case("BitShift", (2, 3), (2, 3), dtype=np.uint8, low=0, direction=way) for way in ("LEFT", "RIGHT")),
    case("CastLike", (2, 3), constants=(i64(1),)),
    case("Selu", alpha=1.5, gamma=1.1),
    case("Elu", alpha=0.3),
    case("HardSigmoid", alpha=1 / 6, beta=0.5),
    case("HardSigmoid", alpha=0.3, beta=0.4),
    case("Gelu", approximate="tanh"),
    case("LeakyRelu", alpha=0.3),
    case("Shrink", lambd=1.0, bias=0.5),
    case("Not", dtype=bool),
    *(case(op, (2, 3), (2, 3), dtype=bool) for op in ("And", "Or", "Xor")),
    *(case(op, (2, 4, 3), (4, 1)) for op in "Add Sub Mul Div Equal Greater Less GreaterOrEqual LessOrEqual".split()),
    *(case(op, (2, 4, 3), constants=(scalar(0.7),)) for op in "Add Sub Mul Div Greater Max Min".split()),
    *(case(op, (2, 4, 3), constants=(f32(4, 1),)) for op in "Add Mul Max Min".split()),
    case("Add", (3,), constants=(f32(1, 1, 1),), name="Add-number-that-adds-rank"),
    case("Div", (2, 4), (2, 4), dtype=np.int64, low=1.0, name="Div-int"),
    case("Div", (2, 4), constants=(scalar(-4, np.int64),), dtype=np.int64, name="Div-int-towards-zero"),
    case("Mod", (2, 4), constants=(scalar(3, np.int64),), dtype=np.int64),
    case("Mod", (2, 4), constants=(scalar(3),), fmod=1),
    case("Pow", (2, 4), constants=(scalar(2),)),
    case("Pow", (2, 4), constants=(scalar(2, np.int64),), name="Pow-int-exponent"),
    case("Pow", (2, 4), (2, 4), low=0.1),
    *(case(op, (2, 4), (2, 4), (4,)) for op in ("Sum", "Mean", "Max", "Min")),
    case("Max", (2, 4), (2, 4)),
    case("Clip", constants=(scalar(-1), scalar(2))),
    case("Clip", constants=(None, scalar(2)), name="Clip-upper"),
    case("Clip", min=0.0, max=6.0, opset=10),
    case("Clip", opset=11, name="Clip-nothing"),
    case("PRelu", constants=(f32(4, 1, 1),)),
    case("PRelu", constants=(f32(1),), name="PRelu-one"),
    case("Where", constants=(scalar(1.0), scalar(-2.0)), dtype=bool),
    case("Where", constants=(f32(6), scalar(-2.0)), dtype=bool, name="Where-mixed"),
    case("Cast", to=TensorProto.INT64),
    case("Cast", to=TensorProto.BOOL),
    case("Dropout", opset=10),
    case("Dropout", constants=(scalar(0.3),), opset=13),
    case("IsNaN"),
    case("IsInf"),
]

CONVOLUTIONS = [
    case("Conv", (2, 4, 9), constants=(f32(6, 4, 3), f32(6)), pads=[1, 1], strides=[2]),
    case("Conv", constants=(f32(6, 4, 3, 3),)),
    case("Conv", constants=(f32(8, 2, 3, 3), f32(8)), group=2, dilations=[2, 1], pads=[2, 1, 2, 1]),
    case("Conv", constants=(f32(6, 4, 3, 3), f32(6)), pads=[0, 1, 2, 1], name="Conv-uneven-pads"),
    *(
        case("Conv", (2, 4, 7, 6), constants=(f32(6, 4, 4, 3), f32(6)), auto_pad=mode, strides=[2, 2])
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    case("Conv", (1, 2, 4, 5, 6), constants=(f32(3, 2, 2, 3, 3), f32(3)), pads=[1, 1, 1, 1, 1, 1]),
    case("Conv", (2, 4, 6, 6), (5, 4, 3, 3), name="Conv-computed-weight"),
    case(
        "ConvTranspose", constants=(f32(4, 3, 3, 3), f32(3)), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    ),
    case("ConvTranspose", constants=(f32(4, 2, 3, 3), f32(4)), group=2, dilations=[2, 2]),
    case("ConvTranspose", constants=(f32(4, 3, 3, 3),), strides=[2, 2], pads=[0, 1, 2, 1], name="ConvTranspose-uneven"),
    *(
        case("ConvTranspose", constants=(f32(4, 3, 4, 3),), strides=[2, 2], auto_pad=mode)
        for mode in ("SAME_UPPER", "SAME_LOWER")
    ),
    case("ConvTranspose", constants=(f32(4, 3, 3, 3),), strides=[2, 2], output_shape=[12, 12]),
    case("ConvTranspose", (2, 4, 7), constants=(f32(4, 3, 3), f32(3)), strides=[3]),
    case("ConvTranspose", (1, 2, 3, 3, 3), constants=(f32(2, 3, 2, 2, 2),), strides=[2, 2, 2]),
    case("Gemm", (3, 5), constants=(f32(4, 5), f32(4)), transB=1),
    case("Gemm", (3, 5), constants=(f32(4, 5),), transB=1, name="Gemm-no-bias"),
    case("Gemm", (5, 3), constants=(f32(5, 4), f32(3, 4)), transA=1, alpha=0.5, beta=2.0),
    case("Gemm", (3, 5), constants=(f32(5, 4), f32(1, 4))),
    case("Gemm", (3, 5), constants=(f32(4, 5), scalar(2.0)), transB=1, name="Gemm-number-bias"),
    case("MatMul", (2, 3, 5), constants=(f32(5, 4),)),
    case("MatMul", (2, 3, 5), (2, 5, 3)),
    case("Einsum", (2, 3, 5), constants=(f32(4, 5),), equation="bij,kj->bki"),
    case("BatchNormalization", constants=(f32(4), f32(4), f32(4), positive(4)), epsilon=1e-3),
    case("BatchNormalization", (3, 4), constants=(f32(4), f32(4), f32(4), positive(4))),
    case("InstanceNormalization", constants=(f32(4), f32(4)), epsilon=1e-3),
    case("InstanceNormalization", (2, 4, 1, 1), constants=(f32(4), f32(4)), name="InstanceNormalization-pixel"),
    case("GroupNormalization", constants=(f32(4), f32(4)), num_groups=2),
    case("GroupNormalization", constants=(f32(2), f32(2)), num_groups=2, opset=18),
    case("LayerNormalization", (2, 3, 4), constants=(f32(4), f32(4))),
    case("LayerNormalization", (2, 3, 4), constants=(f32(3, 4),), axis=1),
    case("LayerNormalization", (2, 3, 4), constants=(f32(4), f32(4)), axis=1, name="LayerNormalization-broadcast"),
    case("LRN", size=3, alpha=0.01, beta=0.6, bias=1.5),
    case("RMSNormalization", (2, 3, 4), constants=(f32(4),), opset=23, reference=True),
    case("Swish", opset=24, reference=True),
    case("Swish", alpha=0.5, opset=24, reference=True),
    case("LpNormalization", axis=1, p=2),
    case("LpNormalization", axis=1, p=1),
    case("MeanVarianceNormalization"),
]

_POOLS = [
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]},
    {"kernel_shape": [2, 2], "pads": [1, 0, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "dilations": [2, 2]},
    {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 1, 1, 0], "ceil_mode": 1},
]

POOLING = [
    *(case("MaxPool", **given) for given in _POOLS),
    *(case("AveragePool", count_include_pad=counted, **given) for given in _POOLS for counted in (0, 1)),
    case("MaxPool", (2, 4, 7), kernel_shape=[2], strides=[2]),
    case("MaxPool", (1, 2, 4, 4, 4), kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
    case("AveragePool", (2, 4, 7), kernel_shape=[3], pads=[1, 1]),
    case("AveragePool", (1, 2, 4, 4, 4), kernel_shape=[2, 2, 2], pads=[0, 0, 0, 1, 1, 1]),
    case("LpPool", kernel_shape=[2, 2], strides=[2, 2], p=2, opset=18),
    *(case(op) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    *(
        case(f"Reduce{kind}", constants=(i64(2, 3),), keepdims=keep, low=0.1)
        for kind in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()
        for keep in (0, 1)
    ),
    *(case(f"Reduce{kind}", axes=[-1, 1], opset=11, low=0.1) for kind in "L2 Max Mean Min Prod Sum".split()),
    case("ReduceSum", name="ReduceSum-all"),
    case("ReduceSum", constants=(i64(),), noop_with_empty_axes=1, name="ReduceSum-none"),
    case("ReduceMean", keepdims=0, opset=11, name="ReduceMean-all"),
    case("ReduceSum", (2, 3), constants=(i64(1),), dtype=np.int32, name="ReduceSum-int32"),
    *(
        case(op, axis=axis, opset=opset)
        for op in ("Softmax", "LogSoftmax")
        for axis, opset in ((1, 13), (-1, 21), (1, 11), (3, 11))
    ),
    case("Softmax", opset=11, name="Softmax-default-11"),
    case("Hardmax", axis=1, opset=11),
    case("Hardmax", axis=1),
    *(case(op, axis=1, keepdims=keep) for op in ("ArgMax", "ArgMin") for keep in (0, 1)),
    case("ArgMax", (4, 6), axis=1, select_last_index=1, dtype=np.int32),
    case("ArgMax", (4, 6), axis=1, dtype=np.int32),
]

MOVEMENT = [
    case("Concat", (2, 3), (2, 4), axis=1),
    case("Concat", (2, 3), (2, 3), axis=-2),
    case("Split", constants=(i64(1, 3),), axis=1, outputs=2),
    case("Split", axis=1, split=[1, 2, 1], outputs=3, opset=11),
    case("Split", (2, 7), axis=1, num_outputs=3, outputs=3),
    case("Split", axis=1, outputs=2, opset=13),
    case("Split", constants=(i64(4),), axis=1, outputs=1, name="Split-one"),
    case("Slice", constants=(i64(1, 0), i64(3, -1), i64(1, 3))),
    case("Slice", constants=(i64(0, 0), i64(FAR, FAR), i64(2, -1), i64(2, 3))),
    case("Slice", constants=(i64(-1, 4), i64(-FAR, 1), i64(2, 3), i64(-1, -2)), name="Slice-backwards"),
    case("Slice", starts=[1, 0], ends=[9, 2], axes=[2, 1], opset=9),
    case("Slice", starts=[1], ends=[2], opset=9, name="Slice-no-axes"),
    case("Pad", constants=(i64(0, 0, 1, 2, 0, 1, 0, 3),)),
    case("Pad", constants=(i64(0, 0, 1, 2, 0, 0, 0, 3), scalar(1.5)), name="Pad-value"),
    case("Pad", constants=(i64(0, 0, -1, 2, 0, 0, 0, -1),), name="Pad-negative"),
    case("Pad", constants=(i64(1, 2), None, i64(3)), name="Pad-axes", opset=18),
    *(case("Pad", constants=(i64(0, 0, 1, 2, 0, 0, 2, 1),), mode=mode) for mode in ("reflect", "edge", "wrap")),
    *(
        case("Pad", (3, 4), constants=(i64(1, 2, 0, 1),), mode=mode, name=f"Pad-matrix-{mode}")
        for mode in ("reflect", "edge")
    ),
    case("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=2.0, opset=10),
    case("Transpose", perm=[0, 2, 3, 1]),
    case("Transpose"),
    *(case("Flatten", axis=axis) for axis in (0, 1, 2, 4, -1)),
    case("Reshape", constants=(i64(0, -1),)),
    case("Reshape", constants=(i64(0, 2, 2, 36),)),
    case("Reshape", constants=(i64(-1),), name="Reshape-flat"),
    case("Reshape", constants=(i64(-1, 8),), dynamic=True, name="Reshape-batch"),
    case("Squeeze", (2, 1, 3, 1), constants=(i64(1, -1),)),
    case("Squeeze", (2, 1, 3, 1), axes=[1], opset=11),
    case("Squeeze", (2, 1, 3, 1), name="Squeeze-all"),
    case("Unsqueeze", (2, 3), constants=(i64(0, -1),)),
    case("Unsqueeze", (2, 3), axes=[1, 3], opset=11),
    case("Expand", (3, 1), constants=(i64(2, 1, 4),)),
    case("Expand", (2, 1, 3), constants=(i64(1, 5, 1),), dynamic=True, name="Expand-batch"),
    case("Tile", (2, 3), constants=(i64(2, 3),)),
    case("DepthToSpace", (2, 8, 3, 3), blocksize=2),
    case("DepthToSpace", (2, 8, 3, 3), blocksize=2, mode="CRD"),
    case("SpaceToDepth", (2, 2, 6, 4), blocksize=2),
]

INDEXING = [
    case("Gather", constants=(i64(2, 0, -1),), axis=1),
    case("Gather", constants=(scalar(-1, np.int64),), axis=2, name="Gather-one"),
    case("Gather", constants=(np.array([[0, 1], [-1, 2]]),), axis=1, name="Gather-matrix"),
    case("Gather", (30, 3), constants=(np.arange(20),), name="Gather-many"),
    case("GatherElements", (2, 3), constants=(np.array([[0, -1, 1]]),), axis=1),
    case("GatherND", (2, 3), constants=(np.array([[0, 1], [1, -1]]),)),
    case("ScatterElements", (3, 4), constants=(np.array([[0, 2]]), f32(1, 2)), axis=1),
    case("ScatterElements", (3, 4), constants=(np.array([[0, 2]]), f32(1, 2)), axis=1, reduction="add"),
    case("ScatterND", (3, 4), constants=(np.array([[0], [2]]), f32(2, 4))),
    case("Shape", name="Shape"),
    case("Shape", start=1, end=3, dynamic=True),
    case("Size", dynamic=True),
    case("ConstantOfShape", (2,), dtype=np.int64, low=1.0),
    case("Range", (), constants=(scalar(11, np.int64), scalar(2, np.int64)), dtype=np.int64),
    case("CumSum", (3, 4), constants=(scalar(1, np.int64),)),
    case("CumSum", (3, 4), constants=(scalar(0, np.int64),), exclusive=1, reverse=1),
    case("Trilu", (4, 5), constants=(scalar(1, np.int64),)),
    case("Trilu", (4, 5), upper=0),
    case("TopK", (3, 8), constants=(i64(3),), outputs=2),
    case("TopK", (3, 8), constants=(i64(2),), outputs=2, largest=0, axis=0),
    case("OneHot", (5,), constants=(scalar(4, np.int64), i64(0, 1)), dtype=np.int64, low=-3.0, axis=0),
    case("NonZero", (3, 4), dtype=bool),
]

_UP = np.array([1, 1, 2, 2], np.float32)
_ODD = np.array([1, 1, 1.7, 0.6], np.float32)

_SCALES = {"up": _UP, "odd": _ODD}


def resize(mode: str, how: str, scales: str, **given: Any) -> Case:
    name = "-".join(["Resize", mode, how, *given.values(), scales])
    constants = (None, _SCALES[scales])
    return case("Resize", constants=constants, mode=mode, coordinate_transformation_mode=how, name=name, **given)


_COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
_ROUNDING = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
_FLOOR = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
_CORNER = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}

RESIZE = [
    case("Upsample", constants=(_UP,), opset=9),
    case("Upsample", constants=(_UP,), mode="linear", opset=9),
    case("Upsample", scales=[1.0, 1.0, 2.0, 3.0], opset=8),
    case("Resize", constants=(_UP,), opset=10),
    *(resize("nearest", how, s, nearest_mode=r) for how in _COORDINATES for r in _ROUNDING for s in _SCALES),
    *(
        resize(mode, how, s)
        for mode in ("linear", "cubic")
        for how in (*_COORDINATES, "half_pixel_symmetric")
        for s in _SCALES
    ),
    case("Resize", constants=(None, None, i64(2, 4, 5, 9)), mode="linear", name="Resize-sizes"),
    case("Resize", constants=(None, None, i64(2, 4, 12, 18)), mode="nearest", name="Resize-sizes-nearest"),
    case("Resize", constants=(None, None, i64(5, 9)), mode="linear", axes=[2, 3], dynamic=True, name="Resize-axes"),
    case("Resize", constants=(None, None, i64(2, 4, 1, 1)), name="Resize-to-one", **_CORNER),
    case("Resize", constants=(None, _ODD), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
    case("Resize", (2, 3, 8), constants=(None, np.array([1, 1, 2], np.float32)), mode="linear"),
    case("Resize", (1, 2, 3, 4, 4), constants=(None, np.array([1, 1, 2, 2, 2], np.float32)), **_FLOOR),
]

CASES = [*ELEMENTWISE, *CONVOLUTIONS, *POOLING, *MOVEMENT, *INDEXING, *RESIZE]
