"""torchvision's own operators where its compiled library does not load, as with a PyTorch built without CUDA.

torchvision registers shapes for operators that only its library defines, so that without the library not even
`import torchvision` works. `prepare` defines them first: shapes for the exporter, and plain PyTorch for a run.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

DEFINITIONS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
}
_kept: list[Any] = []


def prepare() -> None:
    """Makes `import torchvision` work. Call before importing torchvision, timm or transformers."""
    import torch

    if _kept or hasattr(torch.ops.torchvision, "nms"):
        return
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    try:
        for library in Path(found.origin).parent.glob("_C*.so"):
            torch.ops.load_library(library)
            return
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    for name, schema in DEFINITIONS.items():
        library.define(name + schema)
    library.impl("nms", _nms, "CPU")
    library.impl("roi_align", _roi_align, "CPU")
    torch.library.register_fake("torchvision::roi_align", _roi_align_shape, lib=library)
    _kept.append(library)


def _nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """Greedy non-maximum suppression, boxes [N, 4] as corners; the indices kept, best first."""
    import torch

    order = scores.argsort(descending=True).tolist()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in order:
        if kept:
            low = torch.maximum(boxes[i, :2], boxes[kept, :2])
            high = torch.minimum(boxes[i, 2:], boxes[kept, 2:])
            shared = (high - low).clamp(min=0).prod(1)
            if bool((shared / (area[i] + area[kept] - shared) > threshold).any()):
                continue
        kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def _roi_align(x: Any, rois: Any, scale: float, height: int, width: int, ratio: int, aligned: bool) -> Any:
    import sys

    import torch

    function: Any = sys.modules["torchvision.ops.roi_align"]
    with torch.compiler.set_stance("force_eager"):  # it would compile itself first, for minutes
        return function._roi_align(x, rois, scale, height, width, ratio, aligned)


def _roi_align_shape(x: Any, rois: Any, scale: float, height: int, width: int, ratio: int, aligned: bool) -> Any:
    return x.new_empty(rois.shape[0], x.shape[1], height, width)
