"""torchvision: every classification, segmentation, video and optical-flow builder, one of each size family.

The large transformers are built from their classes in a tiny configuration. Detection is in `detection`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zoo import operators
from zoo.entry import BATCH, Entry

if TYPE_CHECKING:
    import torch

CLASSES = 10

# builder: (family, picture side, further arguments)
CLASSIFIERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "resnet18": ("ResNet", 64, {}),
    "mobilenet_v3_small": ("MobileNetV3", 64, {}),
    "shufflenet_v2_x0_5": ("ShuffleNetV2", 64, {}),
    "densenet121": ("DenseNet", 64, {}),
    "regnet_y_400mf": ("RegNetY", 64, {}),
    "efficientnet_b0": ("EfficientNet", 64, {}),
    "mobilenet_v2": ("MobileNetV2", 64, {}),
    "squeezenet1_1": ("SqueezeNet", 64, {}),
    "googlenet": ("GoogLeNet", 64, {"aux_logits": False, "init_weights": False}),
    "resnet50": ("ResNet bottleneck", 64, {}),
    "regnet_x_400mf": ("RegNetX", 64, {}),
    "mnasnet0_5": ("MNASNet", 64, {}),
    "inception_v3": ("Inception v3", 96, {"aux_logits": False, "init_weights": False}),
    "mobilenet_v3_large": ("MobileNetV3", 64, {}),
    "efficientnet_v2_s": ("EfficientNetV2", 64, {}),
    "convnext_tiny": ("ConvNeXt", 64, {}),
    "squeezenet1_0": ("SqueezeNet", 64, {}),
    "resnext50_32x4d": ("ResNeXt", 64, {}),
    "wide_resnet50_2": ("Wide ResNet", 64, {}),
    "shufflenet_v2_x1_0": ("ShuffleNetV2", 64, {}),
    "mnasnet1_0": ("MNASNet", 64, {}),
    "alexnet": ("AlexNet", 224, {}),
    "vgg11_bn": ("VGG with BatchNorm", 224, {}),
    "quantized_resnet18": ("quantisable ResNet", 64, {}),
    "quantized_mobilenet_v3_large": ("quantisable MobileNetV3", 64, {}),
    "quantized_shufflenet_v2_x0_5": ("quantisable ShuffleNetV2", 64, {}),
    "quantized_googlenet": ("quantisable GoogLeNet", 64, {"aux_logits": False, "init_weights": False}),
}

# name: (class, picture side, arguments)
TRANSFORMERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "vit": (
        "VisionTransformer",
        64,
        {"image_size": 64, "patch_size": 16, "num_layers": 3, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128},
    ),
    "swin": (
        "SwinTransformer",
        64,
        {
            "patch_size": [2, 2],
            "embed_dim": 32,
            "depths": [2, 2, 2],
            "num_heads": [2, 4, 8],
            "window_size": [4, 4],
        },
    ),
    "swin_v2": (
        "SwinTransformer",
        64,
        {"patch_size": [2, 2], "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4]},
    ),
    "maxvit": (
        "MaxVit",
        64,
        {
            "input_size": (64, 64),
            "stem_channels": 32,
            "partition_size": 4,
            "block_channels": [32, 64],
            "block_layers": [1, 2],
            "head_dim": 16,
            "stochastic_depth_prob": 0.1,
        },
    ),
}

SEGMENTERS: dict[str, str] = {
    "lraspp_mobilenet_v3_large": "LR-ASPP",
    "deeplabv3_mobilenet_v3_large": "DeepLabV3",
    "deeplabv3_resnet50": "DeepLabV3",
    "fcn_resnet50": "FCN",
}

VIDEO: dict[str, str] = {"r3d_18": "R3D", "mc3_18": "MC3", "r2plus1d_18": "R(2+1)D", "s3d": "S3D"}


def picture(side: int, channels: int = 3, batch: int = BATCH) -> torch.Tensor:
    """Normal noise [batch, channels, side, side]."""
    import torch

    return torch.randn(batch, channels, side, side)


def _classifier(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torchvision

    _, side, options = CLASSIFIERS[name]
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options), (picture(side),)


def _transformer(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torchvision
    from torchvision.models import swin_transformer

    kind, side, options = TRANSFORMERS[name]
    if name == "swin_v2":
        v2 = {"block": swin_transformer.SwinTransformerBlockV2, "downsample_layer": swin_transformer.PatchMergingV2}
        options = {**options, **v2}
    module = getattr(torchvision.models, kind)(num_classes=CLASSES, **options)
    return module, (picture(side),)


def _segmenter(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torchvision

    options: dict[str, Any] = {} if name.startswith("lraspp") else {"aux_loss": True}
    builder = torchvision.models.get_model_builder(name)
    return builder(weights=None, weights_backbone=None, num_classes=5, **options), (picture(64),)


def _video(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torch
    import torchvision

    module = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    if name == "s3d":
        module.avgpool = torch.nn.AvgPool3d((2, 2, 2), stride=1)  # its own needs 224 pixels
    return module, (torch.randn(BATCH, 3, 16 if name == "s3d" else 8, 64, 64),)


def _swin3d() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torch
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    module = SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=32,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=[2, 4, 4],
        num_classes=CLASSES,
    )
    return module, (torch.randn(BATCH, 3, 8, 32, 32),)


def _mvit(version: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torch
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    pooled = {"kernel_q": [3, 3, 3], "kernel_kv": [3, 3, 3], "stride_kv": [1, 2, 2]}
    widths = [(1, 32, 32, [1, 1, 1]), (2, 32, 64, [1, 2, 2]), (2, 64, 64, [1, 1, 1])]
    if version == 1:  # widens in the MLP instead of the attention, pools queries only where it strides
        blocks = [
            MSBlockConfig(1, 32, 64, [], [3, 3, 3], [], [1, 4, 4]),
            MSBlockConfig(2, 64, 64, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
            MSBlockConfig(2, 64, 64, [], [3, 3, 3], [], [1, 2, 2]),
        ]
    else:
        blocks = [MSBlockConfig(h, i, o, stride_q=q, **pooled) for h, i, o, q in widths]
    module = MViT(
        spatial_size=(32, 32),
        temporal_size=4,
        block_setting=blocks,
        residual_pool=version == 2,
        residual_with_cls_embed=False,
        rel_pos_embed=version == 2,
        proj_after_attn=version == 2,
        num_classes=CLASSES,
    )
    return module, (torch.randn(BATCH, 3, 4, 32, 32),)


def _flow(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    operators.prepare()
    import torch
    import torchvision

    class Flow(torch.nn.Module):
        """Two updates; the last flow field."""

        def __init__(self) -> None:
            super().__init__()
            self.raft = torchvision.models.get_model(name, weights=None)

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            fields: list[torch.Tensor] = self.raft(first, second, num_flow_updates=2)
            return fields[-1]

    return Flow(), (picture(128, batch=1), picture(128, batch=1))


OLD = {"resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121", "regnet_y_400mf", "googlenet"}
FIRST = {"resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121", "regnet_y_400mf", "efficientnet_b0"}


def entries() -> list[Entry]:
    """The entries of this file."""
    found = [
        Entry(
            f"tv_{name}",
            "torchvision",
            family,
            build=partial(_classifier, name),
            dynamic=(0,),
            old=name in OLD,
            raw=name not in ("alexnet", "vgg11_bn"),
            rank=0 if name in FIRST else 5 if name in ("alexnet", "vgg11_bn") else 2,
        )
        for name, (family, _, _) in CLASSIFIERS.items()
    ]
    found += [
        Entry(
            f"tv_{name}",
            "torchvision",
            kind,
            build=partial(_transformer, name),
            dynamic=(0,),
            old=name in ("vit", "swin"),
            rank=0 if name in ("vit", "swin") else 2,
        )
        for name, (kind, _, _) in TRANSFORMERS.items()
    ]
    found += [
        Entry(f"tv_{name}", "torchvision", family, partial(_segmenter, name), dynamic=(0,), rank=1)
        for name, family in SEGMENTERS.items()
    ]
    found += [
        Entry(f"tv_{name}", "torchvision", family, partial(_video, name), dynamic=(0,), rank=2)
        for name, family in VIDEO.items()
    ]
    found += [
        Entry("tv_swin3d", "torchvision", "Video Swin", _swin3d, dynamic=(0,), rank=2),
        Entry("tv_mvit_v1", "torchvision", "MViT", lambda: _mvit(1), dynamic=(0,), rank=2),
        Entry("tv_mvit_v2", "torchvision", "MViT v2", lambda: _mvit(2), dynamic=(0,), rank=2),
        Entry("tv_raft_small", "torchvision", "RAFT", lambda: _flow("raft_small"), rank=2),
        Entry("tv_raft_large", "torchvision", "RAFT", lambda: _flow("raft_large"), rank=3),
    ]
    return found
