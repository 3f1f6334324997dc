"""Networks that no exporter writes: light graphs, and exported ones after ONNX Runtime's optimiser or quantisation."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.entry import Entry

if TYPE_CHECKING:
    import onnx

SEED = 0

LIGHT = {
    "squeezenet": "SqueezeNet",
    "shufflenet": "ShuffleNet",
    "resnet50": "ResNet",
    "densenet121": "DenseNet",
    "inception_v1": "Inception v1",
    "inception_v2": "Inception v2",
    "bvlc_alexnet": "AlexNet",
    "zfnet512": "ZFNet",
    "vgg19": "VGG",
}
OPTIMISED = (
    "tv_resnet18",
    "tv_mobilenet_v3_small",
    "hf_bert",
    "hf_gpt2",
    "hf_vit_eager",
    "tv_convnext_tiny",
    "tv_efficientnet_b0",
    "hf_bert_mask",
    "hf_llama_gqa",
    "own_unet",
    "tv_swin",
    "own_yolo_like",
)
QUANTISED = ("tv_resnet18", "tv_mobilenet_v2", "own_unet", "hf_bert", "own_ds_cnn", "tv_shufflenet_v2_x0_5")


def _light(name: str) -> onnx.ModelProto:
    """A light graph of the onnx package with random weights in place of its made-up constants."""
    import light_graphs
    import onnx

    model = onnx.load(light_graphs.LIGHT / f"light_{name}.onnx")
    return light_graphs.with_random_weights(model, SEED, vectors=0.1)


def _optimised(source: onnx.ModelProto | None) -> onnx.ModelProto:
    """The graph that ONNX Runtime saves after its extended optimisations."""
    import onnx
    import onnxruntime

    assert source is not None
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = os.path.join(folder, "optimised.onnx")
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        onnxruntime.InferenceSession(source.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _quantised(source: onnx.ModelProto | None, per_channel: bool) -> onnx.ModelProto:
    """The graph after static quantisation to pairs of QuantizeLinear and DequantizeLinear."""
    import numpy as np
    import onnx
    from onnxruntime import quantization

    assert source is not None

    class Data(quantization.CalibrationDataReader):
        """Two random batches."""

        def __init__(self) -> None:
            random = np.random.default_rng(SEED)
            self.left = [example(source, random) for _ in range(2)]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(source, before)
        quantization.quantize_static(
            before, after, Data(), quant_format=quantization.QuantFormat.QDQ, per_channel=per_channel
        )
        return onnx.load(after)


def example(model: onnx.ModelProto, random: Any) -> dict[str, Any]:
    """Random inputs: dynamic axes of 2, integers below 90."""
    import numpy as np
    import onnx

    weights = {i.name for i in model.graph.initializer}
    feed = {}
    for value in model.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        shape = [d.dim_value or 2 for d in kind.shape.dim]
        if kind.elem_type == onnx.TensorProto.INT64:
            feed[value.name] = random.integers(3, 90, shape)
        else:
            feed[value.name] = random.standard_normal(shape).astype(np.float32)
    return feed


def entries() -> list[Entry]:
    """The entries of this file."""
    found = [
        Entry(f"light_{name}", "light", family, graph=lambda _, name=name: _light(name), rank=1)
        for name, family in LIGHT.items()
    ]
    found += [
        Entry(f"ort_{name}", "ort", "after ORT's optimiser", graph=_optimised, needs=name, rank=3) for name in OPTIMISED
    ]
    found += [
        Entry(
            f"qdq_{name}",
            "qdq",
            "after static quantisation",
            graph=lambda source, wide=i % 2 == 0: _quantised(source, wide),
            needs=name,
            rank=3,
        )
        for i, name in enumerate(QUANTISED)
    ]
    return found
