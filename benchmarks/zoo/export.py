"""Writes the zoo as ONNX files: python -m zoo.export [NAME...] --to FOLDER

One subprocess a network, so that neither a crash, a hang nor its memory touches the rest. NAME.onnx is what
`torch.onnx.export(dynamo=True)` writes, NAME.raw.onnx the same before its optimiser, NAME.old.onnx what the old
exporter writes. export.jsonl has a line for each with what happened; networks it names are skipped, unless they
are asked for by name or --retry asks for those that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
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
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        for entry in catalogue().values():
            print(f"{entry.name:44}{entry.source:14}{entry.family}" + (f"  ({entry.failure})" * bool(entry.failure)))
        return 0
    unknown = [name for name in options.names if name not in catalogue()]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}; --list lists them")
    options.to.mkdir(parents=True, exist_ok=True)
    if options.one:
        print(json.dumps(export(catalogue()[options.names[0]], options.to)))
        return 0
    return _all(options)


def done(folder: Path) -> dict[str, dict[str, Any]]:
    """What the log says of each network, the latest line counting."""
    log = folder / LOG
    lines = log.read_text().splitlines() if log.exists() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def _all(options: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor

    before = done(options.to)
    wanted = options.names or [
        name
        for name, entry in catalogue().items()
        if name not in before or (options.retry and not before[name]["ok"] and not entry.failure)
    ]
    with ThreadPoolExecutor(options.jobs) as pool, (options.to / LOG).open("a") as log:
        for result in pool.map(lambda name: _guarded(catalogue()[name], options), wanted):
            log.write(json.dumps(result) + "\n")
            log.flush()
            print(f"{result['name']:44}{result['seconds']:6.0f} s  {result.get('error') or result['files']}", flush=True)
    return 0


def _guarded(entry: Entry, options: argparse.Namespace) -> dict[str, Any]:
    """The line of an entry, whatever happens to its subprocess."""
    line: dict[str, Any] = {"name": entry.name, "source": entry.source, "family": entry.family}
    start = time.perf_counter()
    if entry.failure:
        return {**line, "ok": False, "seconds": 0.0, "files": [], "error": entry.failure}
    command = [sys.executable, "-m", "zoo.export", "--one", entry.name, "--to", str(options.to)]
    limit = int(options.memory * 2**30)
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=options.timeout,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        text = run.stdout.strip().splitlines()
        found = json.loads(text[-1]) if run.returncode == 0 and text else None
        line |= found or {"ok": False, "files": [], "error": f"exit {run.returncode}: {run.stderr.strip()[-300:]}"}
    except subprocess.TimeoutExpired:
        line |= {"ok": False, "files": [], "error": f"more than {options.timeout:.0f} s"}
    return {**line, "seconds": round(time.perf_counter() - start, 1)}


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
        text = f"{type(error).__name__}: {str(error).strip()[:600]}"
        where = traceback.extract_tb(error.__traceback__)[-1]
        found |= {"ok": False, "error": f"{text} [{Path(where.filename).name}:{where.lineno}]"}
    return found


def _save_graph(entry: Entry, folder: Path, found: dict[str, Any]) -> None:
    import onnx

    assert entry.graph is not None
    source = onnx.load(folder / f"{entry.needs}.onnx") if entry.needs else None
    path = folder / f"{entry.name}.onnx"
    onnx.save(entry.graph(source), path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
    found["files"].append(path.name)


def _save_module(entry: Entry, folder: Path, found: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)
    module, inputs = load(entry.name)
    with torch.no_grad():
        expected = _flat(module(*inputs))
        moved = [i + 0.1 * torch.randn_like(i) if i.is_floating_point() else i.flip(-1) for i in inputs]
        other = _flat(module(*moved))
    if not all(bool(torch.isfinite(e).all()) for e in expected):
        raise ValueError("outputs are not finite")
    found["scale"] = [float(f"{e.float().abs().max():.3g}") for e in expected]
    found["moves"] = [float(f"{(e - o).abs().max() / (e.abs().max() + 1e-30):.3g}") for e, o in zip(expected, other, strict=True)]
    found["parameters"] = sum(p.numel() for p in module.parameters())
    found["shapes"] = [list(i.shape) for i in inputs]
    program = _capture(entry, module, inputs, found)
    if entry.raw:
        _save(program, folder / f"{entry.name}.raw.onnx", found)
    program.optimize()
    _save(program, folder / f"{entry.name}.onnx", found)
    found["error_ort"] = _difference(folder / f"{entry.name}.onnx", inputs, expected)
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
            found["notes"].append(f"static batch: {type(error).__name__}: {str(error).strip()[:200]}")
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
        found["notes"].append(f"old exporter: {type(error).__name__}: {str(error).strip()[:200]}")


def _flat(outputs: Any) -> list[torch.Tensor]:
    import torch
    from torch.utils import _pytree

    return [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _difference(path: Path, inputs: tuple[torch.Tensor, ...], expected: list[torch.Tensor]) -> float | str:
    """Largest relative difference between ONNX Runtime and PyTorch, or why it cannot be had."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        got = session.run(None, dict(zip(names, (i.numpy() for i in inputs), strict=True)))
        pairs = [(g.astype(np.float64), e.numpy().astype(np.float64)) for g, e in zip(got, expected, strict=True)]
        return float(f"{max(np.abs(g - e).max() / (np.abs(e).max() + 1e-30) for g, e in pairs):.2g}")
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"


if __name__ == "__main__":
    sys.exit(main())
