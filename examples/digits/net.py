"""A small residual network with BatchNorm for scikit-learn's 8 x 8 pictures of digits.

`make` is what amcc takes when it is to compile the PyTorch module itself:

    amcc compile examples.digits.net:make --budget flops=0.5 --data examples/digits/val.npz
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """[N, 1, 8, 8] pictures in [0, 1] to [N, 10] logits; three stages of two blocks."""

    def __init__(self) -> None:
        super().__init__()
        first, *_, last = WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        blocks = []
        before = first
        for width in WIDTHS:
            blocks += [Block(before, width, stride=1 if width == before else 2), Block(width, width, stride=1)]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(last, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The trained network and an input for it."""
    net = DigitNet()
    load_model(net, HERE / "model.safetensors")
    return net.eval(), (torch.zeros(1, 1, 8, 8),)
