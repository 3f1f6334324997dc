"""Cases with one backend, in a process of its own: paths of cases come in, a line of JSON for each goes out.

Needs onnx, numpy, torch and the backend; for onnx2torch torchvision, whose operators may be lent (`zoo.operators`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Run = Callable[..., Any]
RTOL, ATOL = 1e-3, 1e-7  # of onnx's own runner
BFLOAT16 = 2**-6  # its tolerance for bfloat16
SECONDS = 60
_LAST_PLACES = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


class Refused(Exception):
    """The backend says that it cannot."""


def with_amcc(path: Path) -> Run:
    """Through the IR into the PyTorch module that `amcc convert` writes."""
    import torch

    from amcc.backends.readable import readable
    from amcc.backends.torch_module import torch_module
    from amcc.errors import AmccError
    from amcc.frontends.load import load

    try:
        module, _ = torch_module(readable(load(path, tidied=False)))
    except AmccError as error:
        raise Refused(str(error)) from None

    def run(*inputs: Any) -> Any:
        with torch.no_grad():
            return module(*inputs)

    return run


def with_onnx2torch(path: Path, opset: int = 0) -> Run:
    """onnx2torch's module.

    Args:
        opset: what to call the operator set, for it knows old ones; 0 for what it is.
    """
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from zoo.operators import prepare

    prepare()
    from onnx2torch import convert

    model = onnx.load(path)
    for given in model.opset_import:
        given.version = min(given.version, opset or given.version)
    try:
        module = convert(model).eval()
    except NotImplementedError as error:
        raise Refused(str(error)) from None

    def run(*inputs: Any) -> Any:
        with torch.no_grad():
            return module(*inputs)

    return run


# What is tried in turn. Most operators of new sets are what they were in old ones; the peer gets the best of all.
BACKENDS: dict[str, list[Callable[[Path], Run]]] = {
    "amcc": [with_amcc],
    "onnx2torch": [partial(with_onnx2torch, opset=opset) for opset in (0, *range(21, 8, -1))],
}


def best(case: Path, ways: Sequence[Callable[[Path], Run]]) -> dict[str, str]:
    """What became of a case with the first way that passes it, or else with the first."""
    found = []
    for way in ways:
        found.append(judged(case, way))
        if found[-1]["status"] == "pass":
            return found[-1]
    return found[0]


def judged(case: Path, prepare: Callable[[Path], Run]) -> dict[str, str]:
    """What became of a case: pass, wrong, refused or error; and why."""
    try:
        run = prepare(case / "model.onnx")
    except Refused as error:
        return {"status": "refused", "why": _line(error)}
    except Exception as error:
        return {"status": "error", "why": f"converting: {type(error).__name__}: {_line(error)}"}
    model = onnx.load(case / "model.onnx")
    held = {tensor.name for tensor in model.graph.initializer}
    fed = [info for info in model.graph.input if info.name not in held]
    for folder in sorted(case.glob("test_data_set_*")):
        feeds = [_value(folder / f"input_{i}.pb", info) for i, info in enumerate(fed)]
        expected = [_value(folder / f"output_{i}.pb", info) for i, info in enumerate(model.graph.output)]
        try:
            found = run(*map(_tensor, feeds))
            outputs = [_array(o) for o in ([found] if len(expected) == 1 else found)]
        except Exception as error:
            return {"status": "error", "why": f"running: {type(error).__name__}: {_line(error)}"}
        if why := differs(outputs, expected):
            if not differs(outputs, expected, strict=False):
                return {"status": "rounding", "why": why}
            return {"status": "wrong", "why": why, "onnxruntime": _runtime_agrees(model, feeds, outputs)}
    return {"status": "pass"}


def differs(found: Any, expected: Any, *, strict: bool = True) -> str:
    """What is unlike; nothing where all is well.

    Args:
        strict: by the tolerances of onnx's own runner, for every element by itself; else by what rounding may do to a
            sum, a few units in the last place of the largest element.
    """
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return "another number of outputs"
        pairs = zip(found, expected, strict=True)
        return next(filter(None, (differs(*pair, strict=strict) for pair in pairs)), "")
    if expected is None or found is None:
        return "" if found is expected else "there or not"
    if found.shape != expected.shape:
        return f"shape {list(found.shape)}, not {list(expected.shape)}"
    if found.dtype.name != expected.dtype.name:
        return f"type {found.dtype}, not {expected.dtype}"
    rtol = BFLOAT16 if expected.dtype.name == "bfloat16" else RTOL
    numbers = [a.astype(np.float64) if a.dtype.kind != "c" else a for a in (found, expected)]
    atol = ATOL
    if not strict and expected.size and expected.dtype.name in _LAST_PLACES:
        atol = 8 * _LAST_PLACES[expected.dtype.name] * float(np.nanmax(np.abs(numbers[1])))
    if np.allclose(*numbers, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    return f"values off by up to {np.nanmax(np.abs(numbers[0] - numbers[1])):.3g}"


def _runtime_agrees(model: onnx.ModelProto, feeds: Sequence[Any], outputs: Sequence[Any]) -> str:
    """Whether ONNX Runtime gives what the backend gave: "yes", "no", or "" where it cannot say."""
    try:
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        held = {tensor.name for tensor in model.graph.initializer}
        names = [info.name for info in model.graph.input if info.name not in held]
        return "no" if differs(outputs, session.run(None, dict(zip(names, feeds, strict=True)))) else "yes"
    except Exception:
        return ""


def _value(path: Path, info: onnx.ValueInfoProto) -> Any:
    kind, data = info.type.WhichOneof("value"), path.read_bytes()
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _tensor(value: Any) -> Any:
    import torch

    if isinstance(value, list):
        return [_tensor(part) for part in value]
    if value is None:
        return None
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(value.copy())


def _array(value: Any) -> Any:
    import torch

    if isinstance(value, list | tuple):
        return [_array(part) for part in value]
    if not isinstance(value, torch.Tensor):
        return None if value is None else np.asarray(value)
    if value.dtype == torch.bfloat16:
        import ml_dtypes

        return value.detach().contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.detach().numpy()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _late(*_: object) -> None:
    raise TimeoutError(f"{SECONDS} seconds")


def main() -> None:
    """`worker.py BACKEND`: a case's folder in each line of standard input."""
    import torch

    torch.set_num_threads(1)
    ways = BACKENDS[sys.argv[1]]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGALRM, _late)
    for line in sys.stdin:
        print(json.dumps({"begun": line.strip()}), file=out, flush=True)
        signal.alarm(SECONDS)
        with np.errstate(all="ignore"):
            found = best(Path(line.strip()), ways)
        signal.alarm(0)
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
