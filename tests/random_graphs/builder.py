"""Grows a network node by node."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx.defs
from onnx import TensorProto, helper, numpy_helper

BATCH, SIDE = 2, 8


class Builder:
    """Grows a network node by node; `pool` holds the four-dimensional tensors made so far, by shape."""

    def __init__(self, seed: int, opset: int = 17, batch: int | str = BATCH) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.batch = batch
        self.nodes: list[onnx.NodeProto] = []
        self.count = 0
        self.constants: list[onnx.TensorProto] = []
        self.pool: list[tuple[str, tuple[int, ...]]] = [("x", (BATCH, 3, SIDE, SIDE))]

    def pick(self, low: int, high: int) -> int:
        """A random integer in [low, high]."""
        return int(self.random.integers(low, high + 1))

    def param(self, *shape: int, positive: bool = False) -> str:
        """A random weight."""
        fan = max(1, int(np.prod(shape[1:])))
        array = self.random.uniform(0.5, 1.5, shape) if positive else self.random.standard_normal(shape) / np.sqrt(fan)
        return self.constant(array.astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        """A given array."""
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        """A list of sizes or indices."""
        return self.constant(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Adds a node; gives its first output."""
        inputs, attributes = self._old_spelling(kind, inputs, attributes) if self.opset < 13 else (inputs, attributes)
        number, self.count = self.count, self.count + 1
        names = [f"t{number}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}_{number}", **attributes))
        return names[0]

    def _old_spelling(
        self, kind: str, inputs: tuple[str, ...], attributes: dict[str, object]
    ) -> tuple[tuple[str, ...], dict[str, object]]:
        """Before opset 13: lists as attributes, and only operators that there were."""
        if _first_opsets()[kind] > self.opset:
            raise LookupError(f"opset {self.opset} has no {kind}")
        if kind == "Resize":
            inputs = tuple(name or self.constant(np.zeros(0, np.float32)) for name in inputs)
        written = {"Split": "split", "Squeeze": "axes", "Unsqueeze": "axes"}.get(kind)
        if written and len(inputs) > 1:
            arrays = {c.name: c for c in self.constants}
            return inputs[:1], {**attributes, written: numpy_helper.to_array(arrays[inputs[1]]).tolist()}
        return inputs, attributes

    def reduce(self, kind: str, x: str, *axes: int, keep: bool = True) -> str:
        """A reduction over some axes, spelled as the opset wants it."""
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, x, self.ints(*axes), keepdims=int(keep))
        return self.op(kind, x, axes=list(axes), keepdims=int(keep))

    @property
    def dynamic(self) -> bool:
        """Whether the length of the batch is only known at run time."""
        return self.batch != BATCH

    def reshape(self, x: str, *sizes: int) -> str:
        """A Reshape to sizes of which the first is a multiple of the batch."""
        return self.op("Reshape", x, self.ints(-1 if self.dynamic else sizes[0], *sizes[1:]))

    def expand(self, x: str, like: str, *sizes: int) -> str:
        """An Expand to sizes of which the first is that of another tensor."""
        return self.op("Expand", x, self._spelled(like, 1, *sizes))

    def sizes(self, x: str, height: int, width: int, *, channels: int) -> str:
        """What a Resize of this tensor is to give."""
        return self._spelled(x, 2, BATCH, channels, height, width)

    def _spelled(self, like: str, read: int, *sizes: int) -> str:
        """Sizes as a constant; with a dynamic batch the first ones are read off a tensor at run time."""
        if not self.dynamic:
            return self.ints(*sizes)
        lengths = self.op("Slice", self.op("Shape", like), self.ints(0), self.ints(read), self.ints(0))
        return self.op("Concat", lengths, self.ints(*sizes[read:]), axis=0)

    def put(self, name: str, shape: tuple[int, ...]) -> None:
        """Makes a tensor available to later nodes."""
        self.pool.append((name, shape))

    def model(self, classes: int = 5) -> onnx.ModelProto:
        """The network with a head on its last tensors."""
        outputs = []
        for name, shape in self.pool[-self.pick(1, 2) :]:
            n = shape[1]
            if self.pick(0, 1):
                flat = self.op("Flatten", self.op("GlobalAveragePool", name))
            else:
                flat, n = self.reshape(name, BATCH, int(np.prod(shape[1:]))), int(np.prod(shape[1:]))
            if self.pick(0, 1):
                outputs.append(self.op("Gemm", flat, self.param(classes, n), self.param(classes), transB=1))
            else:
                outputs.append(self.op("Add", self.op("MatMul", flat, self.param(n, classes)), self.param(classes)))
        return self.finish(*dict.fromkeys(outputs))

    def finish(self, *outputs: str) -> onnx.ModelProto:
        """The network with these outputs."""
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [self.batch, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            self.constants,
        )
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@cache
def _first_opsets() -> dict[str, int]:
    """The operator set that each standard operator came with."""
    first: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            first[schema.name] = min(schema.since_version, first.get(schema.name, schema.since_version))
    return first


Tensor = tuple[str, tuple[int, ...]]
