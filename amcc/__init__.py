"""amcc makes trained neural networks smaller.

    import amcc

    result = amcc.compile("model.onnx", budget="flops=0.5", data="val.npz")

The names below are resolved on first use: `import amcc` brings in neither torch nor onnxruntime.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from amcc import errors

if TYPE_CHECKING:
    from amcc.api import apply, bench, compare, compile, convert, inspect, load, pareto, plan, tune, verify
    from amcc.frontends.torch_call import Call
    from amcc.settings import Measuring, Tuning

__version__ = "0.1.0"

__all__ = [
    "Call",
    "Measuring",
    "Tuning",
    "__version__",
    "apply",
    "bench",
    "compare",
    "compile",
    "convert",
    "errors",
    "inspect",
    "load",
    "pareto",
    "plan",
    "tune",
    "verify",
]

_OPTIONS = frozenset({"Measuring", "Tuning"})
_API = frozenset(__all__) - {"__version__", "errors", "Call", *_OPTIONS}


class _Package(ModuleType):
    """Keeps `amcc.plan` and `amcc.bench` the functions when the modules of these names are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _API and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _OPTIONS:
        from amcc import settings

        return getattr(settings, name)
    if name == "Call":
        from amcc.frontends.torch_call import Call

        return Call
    if name not in _API:
        raise AttributeError(f"module 'amcc' has no attribute '{name}'")
    from amcc import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
