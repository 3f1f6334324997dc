"""Writes the zoo as ONNX files: python -m zoo.export [NAME...] --to FOLDER

One process a network, so that neither a crash, a hang nor its memory touches the rest. NAME.onnx is what
`torch.onnx.export(dynamo=True)` writes, NAME.raw.onnx the same before its optimiser, NAME.old.onnx what the old
exporter writes. export.jsonl has a line for each with what happened; networks it names are skipped, unless they
are asked for by name or --retry asks for those that failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue import catalogue, load
from zoo.entry import Entry

if TYPE_CHECKING:
    import torch

LOG = "export.jsonl"
OPSET_OLD = 17


def main() -> int:
    """Exports what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; all that are not there yet by default")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="networks at once")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a network")
    parser.add_argument("--memory", type=float, default=12, help="GB of address space a network")
    parser.add_argument("--retry", action="store_true", help="those that failed, too")
    parser.add_argument("--list", action="store_true", help="list the catalogue and stop")
    options = parser.parse_args()
    if options.list:
        for entry in catalogue().values():
            print(f"{entry.name:44}{entry.source:14}{entry.family}" + (f"  ({entry.failure})" * bool(entry.failure)))
        return 0
    unknown = [name for name in options.names if name not in catalogue()]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}; --list lists them")
    options.to.mkdir(parents=True, exist_ok=True)
    return _all(options)


def done(folder: Path) -> dict[str, dict[str, Any]]:
    """What the log says of each network, the latest line counting."""
    log = folder / LOG
    lines = log.read_text().splitlines() if log.exists() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def _all(options: argparse.Namespace) -> int:
    before = done(options.to)
    queue = options.names or [
        name
        for name, entry in catalogue().items()
        if name not in before or (options.retry and not before[name]["ok"] and not entry.failure)
    ]
    _preload()
    running: list[_Job] = []
    with (options.to / LOG).open("a") as log:
        while queue or running:
            while queue and len(running) < options.jobs:
                running.append(_Job(catalogue()[queue.pop(0)], options))
            for job in [job for job in running if job.finished()]:
                running.remove(job)
                line = job.line
                log.write(json.dumps(line) + "\n")
                log.flush()
                print(f"{line['name']:44}{line['seconds']:6.0f} s  {line.get('error') or line['files']}", flush=True)
            time.sleep(0.05)
    return 0


def _preload() -> None:
    """Imports once what every network needs: a fork of this process starts at once."""
    import torch

    from zoo import operators

    operators.prepare()
    torch.set_num_threads(1)
    for name in ("torch.onnx", "onnxscript", "onnxruntime", "timm", "transformers"):
        importlib.import_module(name)


class _Job:
    """A fork of this process that exports one entry."""

    def __init__(self, entry: Entry, options: argparse.Namespace) -> None:
        self.line: dict[str, Any] = {"name": entry.name, "source": entry.source, "family": entry.family}
        self.limit, self.start = options.timeout, time.perf_counter()
        self.process: Any = None
        if entry.failure:
            self.line |= {"ok": False, "files": [], "error": entry.failure}
            return
        context = multiprocessing.get_context("fork")
        self.receive, send = context.Pipe(duplex=False)
        self.process = context.Process(target=_child, args=(entry, options.to, options.memory, send))
        self.process.start()
        send.close()

    def finished(self) -> bool:
        """Whether `line` is complete; ends a job beyond its time."""
        seconds = time.perf_counter() - self.start
        if self.process is not None:
            if self.receive.poll():
                try:
                    self.line |= self.receive.recv()
                except EOFError:
                    self.process.join()
                    self.line |= {"ok": False, "files": [], "error": f"ended with code {self.process.exitcode}"}
            elif seconds > self.limit:
                self.process.kill()
                self.line |= {"ok": False, "files": [], "error": f"more than {self.limit:.0f} s"}
            else:
                return False
            self.process.join()
        self.line["seconds"] = round(seconds, 1)
        return True


def _child(entry: Entry, folder: Path, memory: float, send: Any) -> None:
    limit = int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
        send.send(export(entry, folder))


def export(entry: Entry, folder: Path) -> dict[str, Any]:
    """Writes the files of an entry; what to log, errors included."""
    import warnings

    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {"ok": True, "files": [], "notes": []}
    try:
        if entry.graph is not None:
            _save_graph(entry, folder, found)
        else:
            _save_module(entry, folder, found)
    except Exception as error:  # whatever an exporter throws is the result
        found |= {"ok": False, "error": _reason(error)}
    return found


def _reason(error: BaseException) -> str:
    """The first cause in a chain of exceptions, on one line, with the place it came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {text} [{Path(where.filename).name}:{where.lineno}]"


def _save_graph(entry: Entry, folder: Path, found: dict[str, Any]) -> None:
    import numpy as np
    import onnx

    from zoo import derived

    assert entry.graph is not None
    source = onnx.load(folder / f"{entry.needs}.onnx") if entry.needs else None
    path = folder / f"{entry.name}.onnx"
    model = entry.graph(source)
    outputs = _session(model.SerializeToString()).run(None, derived.example(model, np.random.default_rng(0)))
    if not all(np.isfinite(output).all() for output in outputs):
        raise ValueError("outputs are not finite")
    onnx.save(model, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
    found["files"].append(path.name)


def _save_module(entry: Entry, folder: Path, found: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    module, inputs = load(entry.name)
    with torch.no_grad():
        expected = _flat(module(*inputs))
        moved = [i + 0.1 * torch.randn_like(i) if i.is_floating_point() else i.flip(-1) for i in inputs]
        other = _flat(module(*moved))
    if not expected or not all(bool(torch.isfinite(e).all()) for e in expected):
        raise ValueError("no outputs, or not finite ones")
    found["scale"] = [float(f"{e.float().abs().max():.3g}") for e in expected]
    found["moves"] = [
        float(f"{(e - o).abs().max() / (e.abs().max() + 1e-30):.3g}") for e, o in zip(expected, other, strict=True)
    ]
    found["parameters"] = sum(p.numel() for p in module.parameters())
    found["shapes"] = [list(i.shape) for i in inputs]
    program = _capture(entry, module, inputs, found)
    raw, optimised = folder / f"{entry.name}.raw.onnx", folder / f"{entry.name}.onnx"
    _save(program, raw, found)
    program.optimize()
    _save(program, optimised, found)
    refused = {}
    for file in (optimised, raw):
        try:
            found.setdefault("error_ort", _difference(file, inputs, expected))
        except Exception as error:  # no network then; perhaps the other is
            refused[file] = error
            found["notes"].append(f"ONNX Runtime refuses {file.name}: {_reason(error)}")
            _drop(file, found)
    if len(refused) == 2:
        raise refused[raw]
    if not entry.raw and optimised.exists():
        _drop(raw, found)
    if entry.old:
        _old(entry, module, inputs, folder, found)


def _capture(
    entry: Entry, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], found: dict[str, Any]
) -> torch.onnx.ONNXProgram:
    """The unoptimised ONNX program; batch dynamic where the entry and the exporter allow."""
    import torch

    def export(shapes: Any) -> torch.onnx.ONNXProgram:
        program = torch.onnx.export(module, inputs, dynamo=True, optimize=False, verbose=False, dynamic_shapes=shapes)
        assert program is not None
        return program

    if entry.dynamic:
        batch = torch.export.Dim("batch", min=1, max=1024)
        try:
            program = export(tuple({axis: batch} if axis is not None else None for axis in entry.dynamic))
            found["dynamic"] = True
            return program
        except Exception as error:  # a network that fixes its batch is exported with it fixed
            found["notes"].append(f"static batch: {_reason(error)}")
    found["dynamic"] = False
    return export(None)


def _save(program: torch.onnx.ONNXProgram, path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    program.save(temporary, external_data=False)
    os.replace(temporary, path)
    found["files"].append(path.name)


def _old(
    entry: Entry,
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    folder: Path,
    found: dict[str, Any],
) -> None:
    """The old exporter's file; a failure here is only a note."""
    import torch

    path = folder / f"{entry.name}.old.onnx"
    names = [f"input_{i}" for i in range(len(inputs))]
    axes = {n: {a: "batch"} for n, a in zip(names, entry.dynamic or (), strict=False) if a is not None}
    try:
        torch.onnx.export(
            module,
            inputs,
            str(path.with_suffix(".tmp")),
            dynamo=False,
            opset_version=OPSET_OLD,
            input_names=names,
            dynamic_axes=axes if found["dynamic"] else None,
        )
        os.replace(path.with_suffix(".tmp"), path)
        found["files"].append(path.name)
    except Exception as error:
        path.with_suffix(".tmp").unlink(missing_ok=True)
        found["notes"].append(f"old exporter: {_reason(error)}")


def _flat(outputs: Any) -> list[torch.Tensor]:
    import torch
    from torch.utils import _pytree

    return [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _drop(path: Path, found: dict[str, Any]) -> None:
    path.unlink(missing_ok=True)
    found["files"].remove(path.name)


def _session(model: str | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _difference(path: Path, inputs: tuple[torch.Tensor, ...], expected: list[torch.Tensor]) -> float:
    """Largest difference between ONNX Runtime and PyTorch, relative to the largest value of each output."""
    import numpy as np

    session = _session(str(path))
    names = [i.name for i in session.get_inputs()]
    got = session.run(None, dict(zip(names, (i.numpy() for i in inputs), strict=True)))
    pairs = [(g.astype(np.float64), e.numpy().astype(np.float64)) for g, e in zip(got, expected, strict=True)]
    return float(f"{max(np.abs(g - e).max() / (np.abs(e).max() + 1e-30) for g, e in pairs):.2g}")


if __name__ == "__main__":
    sys.exit(main())
