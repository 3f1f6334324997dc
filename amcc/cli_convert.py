"""`amcc convert`: a network as PyTorch or ONNX, nothing cut."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amcc.console import Force, InputShapes, Json, Model, answering, input_shapes, print_json

_EMIT = "torch (model.py and model.safetensors), pt2, onnx; repeat or join with commas."


def convert_command(
    model: Model,
    emit: Annotated[list[str] | None, typer.Option("--emit", help=_EMIT, show_default="torch")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write; by default MODEL.torch.")
    ] = None,
    force: Force = False,
    input_shape: InputShapes = None,
    json: Json = False,
) -> None:
    """Write a network as PyTorch, or ONNX, with nothing cut, checked against ONNX Runtime."""
    with answering():
        from amcc import api
        from amcc.artifacts import default_output

        folder = output or default_output(model, ".torch")
        shapes = input_shapes(input_shape)
        found = api.convert(model, emit=emit or "torch", out=folder, force=force, input_shapes=shapes)
        files = sorted(path.name for path in folder.iterdir() if path.suffix != ".json")
        if json:
            print_json({"folder": str(folder), "files": files, "error": found.error, "unchecked": found.unchecked})
            return
        typer.echo(f"written {folder}: {', '.join(files)}")
        if found.error is not None:
            typer.echo(f"outputs as ONNX Runtime's within {found.error:.1e} on random inputs")
        elif found.unchecked:
            typer.echo(f"outputs not compared with ONNX Runtime's: {found.unchecked}")
