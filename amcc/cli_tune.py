"""`amcc tune`: the weights of an output folder trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amcc.console import (
    Emit,
    Force,
    InputShapes,
    Json,
    Metric,
    Preprocess,
    Quiet,
    ReportData,
    Seed,
    ShipOnInterrupt,
    answering,
    given,
    input_shapes,
    print_json,
    stdout,
    watching,
)


def tune_command(
    folder: Annotated[str, typer.Argument(help="An output folder of amcc's.", metavar="DIR")],
    train: Annotated[
        str | None,
        typer.Option("--train", help=".npz with input and label, folder of class folders, or module:function."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the samples; 10 by default.")] = None,
    samples: Annotated[
        int | None, typer.Option("--train-samples", help="Samples of an epoch, at most; by default all.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="The original; by default looked for by its name.")
    ] = None,
    report_data: ReportData = None,
    preprocess: Preprocess = None,
    metric: Metric = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Samples of a step, over all processes; 128.")] = None,
    optimiser: Annotated[str | None, typer.Option("--optimiser", help="auto, sgd, adamw, or module:function.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Highest learning rate: 0.005, of adamw 0.0002.")] = None,
    decay: Annotated[float | None, typer.Option("--decay", help="Weight decay: 0.0001, of adamw 0.01.")] = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", help="Of the rate: cosine, constant, or module:function.")
    ] = None,
    warmup: Annotated[
        float | None, typer.Option("--warmup", help="Share of the steps in which the rate rises; 0.05.")
    ] = None,
    label_weight: Annotated[float | None, typer.Option("--label-weight", help="Of the labels in the loss.")] = None,
    output_weight: Annotated[
        float | None, typer.Option("--output-weight", help="Of the original's outputs in the loss.")
    ] = None,
    feature_weight: Annotated[
        float | None, typer.Option("--feature-weight", help="Of what the original has between blocks.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="At which class probabilities are compared; 4.")
    ] = None,
    loss: Annotated[str | None, typer.Option("--loss", help="module:function in place of these.")] = None,
    augment: Annotated[
        str | None, typer.Option("--augment", help="auto, none, flip, shift, flip,shift, or module:function.")
    ] = None,
    no_norms: Annotated[
        bool, typer.Option("--no-norms", help="Train without putting batch normalisation back.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option("--precision", help="float32, bfloat16 (mixed), or auto: mixed on a GPU.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    held_out: Annotated[
        float | None, typer.Option("--held-out", help="Share of the samples that chooses the epoch; 0.1.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Epochs without a better one that end it; 0: never.")
    ] = None,
    checkpoint_seconds: Annotated[
        float | None, typer.Option("--checkpoint-seconds", help="The longest time between checkpoints; 60.")
    ] = None,
    seed: Seed = 0,
    emit: Emit = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write; by default DIR is replaced.")
    ] = None,
    force: Force = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, without the checkpoint.")] = False,
    input_shape: InputShapes = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Of PyTorch; 0 for its own choice.")] = None,
    ship_on_interrupt: ShipOnInterrupt = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train the weights of a compiled network, the original teaching; with torchrun, in several processes."""
    with answering():
        from amcc import api
        from amcc.report import print_summary
        from amcc.settings import Tuning
        from amcc.tuning.world import rank

        tuning = Tuning(
            norms=not no_norms,
            loss=loss,
            **given(
                epochs=epochs,
                samples=samples,
                batch=batch,
                optimiser=optimiser,
                rate=rate,
                decay=decay,
                schedule=schedule,
                warmup=warmup,
                label_weight=label_weight,
                output_weight=output_weight,
                feature_weight=feature_weight,
                temperature=temperature,
                augment=augment,
                precision=precision,
                device=device,
                held_out=held_out,
                patience=patience,
                checkpoint_seconds=checkpoint_seconds,
                threads=threads,
            ),
        )
        with watching(quiet) as observer:
            result = api.tune(
                folder,
                train,
                teacher=teacher,
                report_data=report_data,
                preprocess=preprocess,
                metric=metric,
                tuning=tuning,
                seed=seed,
                out=output,
                force=force,
                fresh=fresh,
                emit=emit,
                input_shapes=input_shapes(input_shape),
                keep_on_interrupt=ship_on_interrupt,
                observer=observer,
            )
        if rank():
            return
        if json:
            print_json(result.summary)
        else:
            print_summary(result.summary, result.folder, stdout())
