"""Small dense detectors and classifiers written here, with their decode arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zoo.entry import BATCH

if TYPE_CHECKING:
    import torch

    Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def _yolo(anchors: int, decode_with_distribution: bool) -> Built:
    """CSP backbone, SPPF, top-down and bottom-up necks, decoupled or anchored heads with decoding."""
    import torch
    from torch import nn

    from zoo.written import _chain, _conv, _normal

    classes, bins = 4, 8

    class Bottleneck(nn.Module):
        def __init__(self, width: int, add: bool) -> None:
            super().__init__()
            self.add, self.body = add, _chain(_conv(width, width), _conv(width, width))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.body(x) if self.add else self.body(x)

    class Stage(nn.Module):
        """Splits in two, keeps every step, joins them all."""

        def __init__(self, inputs: int, outputs: int, depth: int = 1, add: bool = True) -> None:
            super().__init__()
            self.enter = _conv(inputs, outputs, 1)
            self.blocks = nn.ModuleList(Bottleneck(outputs // 2, add) for _ in range(depth))
            self.leave = _conv((2 + depth) * (outputs // 2), outputs, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = list(self.enter(x).chunk(2, 1))
            for block in self.blocks:
                parts.append(block(parts[-1]))
            return self.leave(torch.cat(parts, 1))

    class Pool(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.enter, self.leave = _conv(width, width // 2, 1), _conv(2 * width, width, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = [self.enter(x)]
            for _ in range(3):
                parts.append(nn.functional.max_pool2d(parts[-1], 5, 1, 2))
            return self.leave(torch.cat(parts, 1))

    class Head(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            if decode_with_distribution:
                self.boxes = _chain(_conv(width, 16), nn.Conv2d(16, 4 * bins, 1))
                self.scores = _chain(_conv(width, 16, 3, groups=1), nn.Conv2d(16, classes, 1))
            else:
                self.out = nn.Conv2d(width, anchors * (5 + classes), 1)
                self.sizes = nn.Parameter(torch.rand(anchors, 1, 1, 2) + 0.5)

        def forward(self, x: torch.Tensor, stride: int) -> torch.Tensor:
            b, _, h, w = x.shape
            rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack([columns, rows], -1).float()
            if not decode_with_distribution:
                y = self.out(x).view(b, anchors, 5 + classes, h, w).permute(0, 1, 3, 4, 2).sigmoid()
                centre = (y[..., 0:2] * 2 - 0.5 + grid) * stride
                size = (y[..., 2:4] * 2) ** 2 * self.sizes
                return torch.cat([centre, size, y[..., 4:]], -1).reshape(b, -1, 5 + classes)
            boxes = self.boxes(x).view(b, 4, bins, h * w).softmax(2)
            sides = (boxes * torch.arange(bins).float().view(1, 1, -1, 1)).sum(2).transpose(1, 2)
            centre = grid.reshape(1, h * w, 2) + 0.5
            corners = torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], -1) * stride
            return torch.cat([corners, self.scores(x).flatten(2).transpose(1, 2).sigmoid()], -1)

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = _chain(_conv(3, 16, 3, 2), _conv(16, 16, 3, 2))
            self.c3 = Stage(16, 24, 2)
            self.c4 = _chain(_conv(24, 32, 3, 2), Stage(32, 32, 2))
            self.c5 = _chain(_conv(32, 48, 3, 2), Stage(48, 48), Pool(48))
            self.p4, self.p3 = Stage(48 + 32, 32, add=False), Stage(32 + 24, 24, add=False)
            self.d3, self.n4 = _conv(24, 24, 3, 2), Stage(24 + 32, 32, add=False)
            self.heads = nn.ModuleList([Head(24), Head(32)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            c3 = self.c3(self.stem(x))
            c4 = self.c4(c3)
            up = nn.functional.interpolate
            p4 = self.p4(torch.cat([up(self.c5(c4), scale_factor=2.0), c4], 1))
            p3 = self.p3(torch.cat([up(p4, scale_factor=2.0), c3], 1))
            n4 = self.n4(torch.cat([self.d3(p3), p4], 1))
            return torch.cat([self.heads[0](p3, 4), self.heads[1](n4, 8)], 1)

    return Detector(), (_normal(BATCH, 3, 64, 64),)


def yolo_like() -> Built:
    """Anchored heads."""
    return _yolo(anchors=3, decode_with_distribution=False)


def yolo_distribution() -> Built:
    """Anchor-free heads that decode a distribution over distances."""
    return _yolo(anchors=1, decode_with_distribution=True)


def bifpn() -> Built:
    """Weighted feature fusion over three levels (Tan et al., 2020)."""
    import torch
    from torch import nn
    from torch.nn import functional

    from zoo.written import _chain, _conv, _normal

    class Fuse(nn.Module):
        def __init__(self, inputs: int, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(inputs))
            self.conv = _chain(_conv(width, width, groups=width), nn.Conv2d(width, width, 1))

        def forward(self, *features: torch.Tensor) -> torch.Tensor:
            weight = self.weight.relu()
            weight = weight / (weight.sum() + 1e-4)
            return self.conv(torch.stack([f * weight[i] for i, f in enumerate(features)]).sum(0))

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList([_conv(3, 16, 3, 4), _conv(16, 24, 3, 2), _conv(24, 40, 3, 2)])
            self.sides = nn.ModuleList(nn.Conv2d(w, 24, 1) for w in (16, 24, 40))
            self.down = nn.ModuleList([Fuse(2, 24), Fuse(2, 24)])
            self.up = nn.ModuleList([Fuse(3, 24), Fuse(2, 24)])
            self.head = _chain(_conv(24, 24), nn.Conv2d(24, 6, 1))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            features = []
            for stage in self.stages:
                x = stage(x)
                features.append(x)
            a, b, c = (side(f) for side, f in zip(self.sides, features, strict=True))
            mid = self.down[0](b, functional.interpolate(c, scale_factor=2.0))
            low = self.down[1](a, functional.interpolate(mid, scale_factor=2.0))
            mid = self.up[0](b, mid, functional.max_pool2d(low, 2))
            high = self.up[1](c, functional.max_pool2d(mid, 2))
            return tuple(self.head(f).flatten(2) for f in (low, mid, high))

    return Pyramid(), (_normal(BATCH, 3, 64, 64),)


def centre_points() -> Built:
    """Peaks of a heat map by max pooling, TopK, and values gathered at them (Zhou et al., 2019)."""
    from torch import nn
    from torch.nn import functional

    from zoo.written import _chain, _conv, _normal

    class Centre(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = _chain(_conv(3, 16, 3, 2), _conv(16, 32, 3, 2), _conv(32, 32))
            self.heat = _chain(_conv(32, 16), nn.Conv2d(16, 3, 1))
            self.size = _chain(_conv(32, 16), nn.Conv2d(16, 2, 1))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.body(x)
            heat = self.heat(x).sigmoid()
            heat = (heat * (functional.max_pool2d(heat, 3, 1, 1) == heat).float()).flatten(1)
            scores, where = heat.topk(5)
            size = self.size(x).flatten(2)
            cell = (where % size.shape[-1]).unsqueeze(1).expand(-1, 2, -1)
            return scores, size.gather(2, cell)

    return Centre(), (_normal(BATCH, 3, 64, 64),)


def spatial_transformer() -> Built:
    """A predicted affine warp by GridSample before a classifier (Jaderberg et al., 2015)."""
    import torch
    from torch import nn
    from torch.nn import functional

    from zoo.written import _chain, _conv, _normal

    class Warp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = _conv(1, 16)
            self.where = _chain(_conv(16, 16, 3, 4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 6))
            self.rest = _chain(_conv(16, 32, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            matrix = self.where(x).view(-1, 2, 3) + torch.eye(2, 3)
            axis = torch.linspace(-1, 1, 28)
            rows, columns = torch.meshgrid(axis, axis, indexing="ij")
            points = torch.stack([columns, rows, torch.ones_like(rows)], -1).reshape(-1, 3)
            grid = (points @ matrix.transpose(1, 2)).view(-1, 28, 28, 2)
            return self.rest(functional.grid_sample(x, grid, align_corners=False))

    return Warp(), (_normal(BATCH, 1, 28, 28),)


def dynamic_convolution() -> Built:
    """Kernels mixed by attention over the input, batch 1 (Chen et al., 2020)."""
    import torch
    from torch import nn
    from torch.nn import functional

    from zoo.written import _conv, _normal

    class Dynamic(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.kernels = nn.Parameter(torch.randn(4, outputs, inputs, 3, 3) / (9 * inputs) ** 0.5)
            self.mix = nn.Linear(inputs, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.mix(x.mean((2, 3))).softmax(-1).view(4, 1, 1, 1, 1)
            return functional.relu(functional.conv2d(x, (weight * self.kernels).sum(0), padding=1))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first, self.second = _conv(3, 16, 3, 2), Dynamic(16, 24), Dynamic(24, 32)
            self.head = nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(self.first(self.stem(x))).mean((2, 3)))

    return Network(), (_normal(1, 3, 32, 32),)


def hypernetwork() -> Built:
    """A network whose convolution weight another network computes from an embedding (Ha et al., 2017)."""
    import torch
    from torch import nn
    from torch.nn import functional

    from zoo.written import _conv, _normal

    class Hyper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.embedding = _conv(3, 16, 3, 2), nn.Parameter(torch.randn(8))
            self.make = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 24 * 16 * 9))
            self.head = nn.Linear(24, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.make(self.embedding).view(24, 16, 3, 3) * 0.1
            return self.head(functional.relu(functional.conv2d(self.stem(x), weight, padding=1)).mean((2, 3)))

    return Hyper(), (_normal(BATCH, 3, 32, 32),)


TABLE: dict[str, tuple[str, Callable[[], Built], tuple[int | None, ...] | None]] = {
    "yolo_like": ("YOLO", yolo_like, (0,)),
    "yolo_distribution": ("YOLO, anchor-free", yolo_distribution, (0,)),
    "bifpn": ("BiFPN", bifpn, (0,)),
    "centre_points": ("CenterNet", centre_points, (0,)),
    "spatial_transformer": ("spatial transformer", spatial_transformer, (0,)),
    "dynamic_convolution": ("dynamic convolution", dynamic_convolution, None),
    "hypernetwork": ("hypernetwork", hypernetwork, (0,)),
}
