"""What becomes of one ONNX file as PyTorch: the folder of `amcc convert`, read back, and a training step with it."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any, Protocol


class Report(Protocol):
    """Takes facts, and exceptions that nobody expected."""

    def __call__(self, **facts: Any) -> None: ...

    def crashed(self, error: BaseException) -> None: ...


def run(path: Path, report: Report) -> None:
    """Convert one file; every end is reported as a status.

    ok: outputs as ONNX Runtime's, the state dict there and back, finite gradients for every parameter; wrong: other
    outputs; refused: amcc says that it cannot; untrained: some parameter has no finite gradient.
    """
    from amcc.certificate import rounds
    from amcc.conversion import convert
    from amcc.errors import AmccError, VerificationError

    report(stage="convert", mb=round(path.stat().st_size / 1e6, 2))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "out"
        try:
            made = convert(path, out=folder)
        except VerificationError as error:
            report(status="wrong", cause=str(error)[:300])
            return
        except AmccError as error:
            report(status="refused", cause=str(error)[:300])
            return
        except Exception as error:
            report.crashed(error)
            return
        report(stage="read back", error=made.error, unchecked=made.unchecked, quantised=rounds(made.graph))
        try:
            _back(folder, made.feeds, made.graph.inputs, report)
        except Exception as error:
            report.crashed(error)


def _back(folder: Path, feeds: Any, inputs: tuple[str, ...], report: Report) -> None:
    import torch
    from safetensors.torch import load_file

    from amcc.backends.torch_module import tensor

    module = _imported(folder)
    model, again = module.load(), module.Model()
    again.load_state_dict(model.state_dict())
    stored = load_file(folder / "model.safetensors")
    same = stored.keys() == again.state_dict().keys()
    same = same and all(torch.equal(t, stored[k]) for k, t in again.state_dict().items())
    report(stage="train", lines=len((folder / "model.py").read_text().splitlines()), round_trip=same)
    given = [tensor(feeds[name]) for name in inputs]
    why, mode = _step(model, given, train=True), "train"
    if "more than 1 value" in why:  # BatchNorm of one number, in a network fixed to one sample
        why, mode = _step(module.load(), given, train=False), "eval"
    report(mode=mode, status="untrained" if why else "ok" if same else "wrong", cause=why)


def _imported(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("written", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _step(model: Any, given: list[Any], *, train: bool) -> str:
    """One step of SGD on the sum of squares of the outputs; what is wrong with it, if anything."""
    import torch

    torch.manual_seed(0)
    model.train(train)
    try:
        found = model(*given)
    except ValueError as error:
        return str(error)[:300]
    outputs = [o for o in ([found] if isinstance(found, torch.Tensor) else found) if o.is_floating_point()]
    parameters = dict(model.named_parameters())
    if not parameters:
        return ""
    if not any(o.requires_grad for o in outputs):
        return "no output depends on a parameter"
    sum(o.float().square().mean() for o in outputs).backward()
    for name, parameter in parameters.items():
        if parameter.grad is None:
            return f"no gradient for {name}"
        if not parameter.grad.isfinite().all():
            return f"a gradient of {name} is not finite"
    torch.optim.SGD(parameters.values(), lr=1e-4).step()
    return next((f"{n} is not finite after a step" for n, p in parameters.items() if not p.isfinite().all()), "")
