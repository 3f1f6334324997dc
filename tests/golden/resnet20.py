"""ResNet20, written by amcc 0.1.0.

    from model import load
    model = load()  # weights from model.safetensors beside this file

Input x: float32[batch, 3, 32, 32]
Output output: float32[batch, 10]
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block1(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        y = F.relu(self.bn1(y))
        y = self.conv2(y)
        y = self.bn2(y)
        x = y + x
        return F.relu(x)


class Block2(nn.Module):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, stride=2, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        y = F.relu(self.bn1(y))
        y = self.conv2(y)
        y = self.bn2(y)
        x = self.shortcut(x)
        x = y + x
        return F.relu(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block1(16) for _ in range(3)))
        self.layer2 = nn.Sequential(
            Block2(16, 32),
            Block1(32),
            Block1(32),
        )
        self.layer3 = nn.Sequential(
            Block2(32, 64),
            Block1(64),
            Block1(64),
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = F.relu(self.bn1(x))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = x.mean((2, 3))
        return self.linear(x)


def load(folder: str | Path | None = None) -> Model:
    """The model with the weights of `model.safetensors`, ready for inference.

    Args:
        folder: where the file is; beside this one unless told otherwise.
    """
    folder = Path(__file__).parent if folder is None else Path(folder)
    model = Model()
    model.load_state_dict(read_weights(folder / "model.safetensors"))
    return model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file: a JSON header that says where each one lies."""
    dtypes = {
        "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
        "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    }  # fmt: skip
    tensors = {}
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                file.seek(8 + size + begin)
                tensor = torch.empty(entry["shape"], dtype=dtypes[entry["dtype"]])
                if end > begin:
                    tensor = torch.frombuffer(bytearray(file.read(end - begin)), dtype=tensor.dtype)
                tensors[name] = tensor.reshape(entry["shape"])
    return tensors
