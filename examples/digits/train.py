"""Train the example's network and write its files; takes less than a minute on two cores.

    python examples/digits/train.py

writes, beside this file:

    model.onnx          the network, batch size free
    model.safetensors   the same weights for `net.make`
    val.npz             600 pictures with labels that training never saw
    calib.npz           the pictures it was trained on, without labels
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from net import DigitNet
from safetensors.torch import save_model
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
EPOCHS = 60
BATCH = 64


def pictures() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training inputs [1197, 1, 8, 8] and labels, validation inputs [600, 1, 8, 8] and labels."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    y = torch.from_numpy(labels.astype(np.int64))
    train, val = train_test_split(np.arange(len(y)), test_size=600, stratify=labels, random_state=0)
    return x[train], y[train], x[val], y[val]


def shifted(x: Tensor) -> Tensor:
    """The batch moved by up to one pixel each way, the border filled with background."""
    down, right = (int(i) for i in torch.randint(0, 3, (2,)))
    return nn.functional.pad(x, (1, 1, 1, 1))[:, :, down : down + 8, right : right + 8]


def train(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """SGD with momentum and a cosine schedule."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for batch in order.split(BATCH)[: len(x) // BATCH]:
            loss = nn.functional.cross_entropy(net(shifted(x[batch])), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def export(net: nn.Module, example: Tensor, path: Path) -> None:
    """Write the network as one ONNX file whose batch size is free."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    model = program.model_proto
    # The exporter notes the source line of every node, with the path on the machine that ran it.
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
    graph.name = "digits"
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the example's network and write its files.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    started = time.perf_counter()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # the network is too small for more to help
    x, y, x_val, y_val = pictures()
    net = DigitNet()
    train(net, x, y)
    with torch.no_grad():
        top1 = (net(x_val).argmax(1) == y_val).float().mean().item()
    print(f"validation top-1 {top1:.2%} on {len(y_val)} pictures, {time.perf_counter() - started:.0f} s of training")

    export(net, x_val[:2], options.out / "model.onnx")
    save_model(net, str(options.out / "model.safetensors"))
    np.savez_compressed(options.out / "val.npz", input=x_val.numpy(), label=y_val.numpy())
    np.savez_compressed(options.out / "calib.npz", input=x.numpy())
    print(f"wrote model.onnx, model.safetensors, val.npz and calib.npz to {options.out}")


if __name__ == "__main__":
    main()
