"""MobileNet, written by amcc 0.1.0.

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


class Scope(nn.Module):
    """A part of the module tree; `scope[0]` is its child "0"."""

    def __getitem__(self, name: int | str):
        return getattr(self, str(name))

    def __setitem__(self, name: int | str, value) -> None:
        setattr(self, str(name), value)


class Block1(Scope):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self[0] = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self[1] = nn.BatchNorm2d(channels)
        self[3] = nn.Conv2d(channels, out_channels, 1, bias=False)
        self[4] = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x)
        x = self[1](x)
        x = F.relu6(x)
        x = self[3](x)
        x = self[4](x)
        return F.relu6(x)


class Block2(Scope):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self[0] = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        self[1] = nn.BatchNorm2d(channels)
        self[3] = nn.Conv2d(channels, out_channels, 1, bias=False)
        self[4] = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x)
        x = self[1](x)
        x = F.relu6(x)
        x = self[3](x)
        x = self[4](x)
        return F.relu6(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.features = nn.Sequential(
            Block1(8, 16),
            Block2(16, 32),
            Block1(32, 32),
            Block2(32, 64),
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        x = self.features(x)
        x = x.mean((2, 3))
        return self.classifier(x)


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
