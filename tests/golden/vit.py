"""VisionTransformer, written by amcc 0.1.0.

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


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.proj = nn.Linear(32, 32)
        self.norm2 = nn.LayerNorm(32)
        self.fc1 = nn.Linear(32, 128)
        self.fc2 = nn.Linear(128, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        y = self.qkv(y)
        y = y.reshape(y.shape[0], 16, 3, 4, 8)
        y = y.permute(2, 0, 3, 1, 4)
        z = y[0]
        u = y[1]
        y = y[2]
        u = u.reshape(-1, 16, 8)
        u = u.permute(0, 2, 1)
        u = u.reshape(-1, 4, 8, 16)
        z = z * 0.59460354
        u = u * 0.59460354
        z = z @ u
        z = F.softmax(z, -1)
        y = z @ y
        y = y.permute(0, 2, 1, 3)
        y = y.reshape(y.shape[0], 16, 32)
        y = self.proj(y)
        x = x + y
        y = self.norm2(x)
        y = F.gelu(self.fc1(y))
        y = self.fc2(y)
        return x + y


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, stride=8)
        self.position = nn.Parameter(torch.zeros(1, 16, 32))
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        x = x.reshape(x.shape[0], 32, 16)
        x = x.permute(0, 2, 1)
        x = x + self.position
        x = self.blocks(x)
        x = self.norm(x)
        x = x.mean(1)
        return self.head(x)


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
