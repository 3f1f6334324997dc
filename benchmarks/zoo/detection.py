"""torchvision's detectors as backbone and heads.

Whole, they resize pictures, filter and sort proposals in Python, and cannot be captured. Here the backbone feeds the
dense heads, and in two-stage detectors RoiAlign cuts fixed boxes out of the finest level for the box, mask and
key-point heads.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zoo import operators
from zoo.entry import Entry

if TYPE_CHECKING:
    import torch

CLASSES = 5

# builder: (family, picture side, batch is dynamic)
ONE_STAGE: dict[str, tuple[str, int]] = {
    "ssdlite320_mobilenet_v3_large": ("SSDLite", 128),
    "retinanet_resnet50_fpn": ("RetinaNet", 64),
    "fcos_resnet50_fpn": ("FCOS", 64),
    "ssd300_vgg16": ("SSD", 300),
    "retinanet_resnet50_fpn_v2": ("RetinaNet v2", 64),
}
TWO_STAGE: dict[str, tuple[str, int]] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("Faster R-CNN", 64),
    "maskrcnn_resnet50_fpn": ("Mask R-CNN", 64),
    "fasterrcnn_resnet50_fpn": ("Faster R-CNN", 64),
    "fasterrcnn_resnet50_fpn_v2": ("Faster R-CNN v2", 64),
    "fasterrcnn_mobilenet_v3_large_fpn": ("Faster R-CNN", 64),
    "keypointrcnn_resnet50_fpn": ("Keypoint R-CNN", 64),
    "maskrcnn_resnet50_fpn_v2": ("Mask R-CNN v2", 64),
}


def _detector(name: str) -> Any:
    operators.prepare()
    import torchvision

    return torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES)


def _one_stage(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    import torch
    from torch import nn

    whole = _detector(name)

    class Dense(nn.Module):
        """Scores and box offsets of every anchor."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = whole.backbone, whole.head

        def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = self.head(list(self.backbone(picture).values()))
            return tuple(found[key] for key in sorted(found))

    return Dense(), (torch.randn(2, 3, ONE_STAGE[name][1], ONE_STAGE[name][1]),)


def _two_stage(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    import torch
    from torch import nn

    whole = _detector(name)
    heads = whole.roi_heads
    side = TWO_STAGE[name][1]

    class TwoStage(nn.Module):
        """Objectness and offsets of every level, then the heads on given boxes [N, 5]: picture, corners in pixels."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.propose = whole.backbone, whole.rpn.head
            self.box, self.box_out = heads.box_head, heads.box_predictor
            self.mask, self.mask_out = getattr(heads, "mask_head", None), getattr(heads, "mask_predictor", None)
            self.point, self.point_out = (
                getattr(heads, "keypoint_head", None),
                getattr(heads, "keypoint_predictor", None),
            )

        def forward(self, picture: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            features = list(self.backbone(picture).values())
            objects, offsets = self.propose(features)
            scale = features[0].shape[-1] / side

            def cut(size: int) -> torch.Tensor:
                align = torch.ops.torchvision.roi_align
                found: torch.Tensor = align(features[0], boxes, scale, size, size, 2, False)
                return found

            results = [*objects, *offsets, *self.box_out(self.box(cut(7)))]
            if self.mask is not None:
                results.append(self.mask_out(self.mask(cut(14))))
            if self.point is not None:
                results.append(self.point_out(self.point(cut(14))))
            return tuple(results)

    boxes = torch.tensor([[0.0, 4.0, 4.0, 40.0, 36.0], [1.0, 10.0, 2.0, 60.0, 50.0]])
    return TwoStage(), (torch.randn(2, 3, side, side), boxes)


def entries() -> list[Entry]:
    """The entries of this file."""
    first = ("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")
    found = [
        Entry(
            f"tv_{name}",
            "torchvision",
            family,
            build=partial(_one_stage, name),
            dynamic=(0,),
            raw=name in first,
            rank=1 if name in first else 3,
        )
        for name, (family, _) in ONE_STAGE.items()
    ]
    found += [
        Entry(
            f"tv_{name}",
            "torchvision",
            family,
            build=partial(_two_stage, name),
            raw=name in first,
            rank=1 if name in first else 4,
        )
        for name, (family, _) in TWO_STAGE.items()
    ]
    return found
