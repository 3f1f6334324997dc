"""Random numbers: new ones at every call; a seed means nothing outside the runtime that it was given for."""

from __future__ import annotations

from amcc.backends.torch_ops.writer import Emitter, Table, Writer
from amcc.ir import Node


def _random(text: str, *, like: bool) -> Emitter:
    def emit(w: Writer, node: Node) -> str:
        names = ("low", "high") if "low" in text else ("mean", "scale")
        settings = {name: w.real(node, name, default) for name, default in zip(names, (0.0, 1.0), strict=True)}
        size = f"{w.tensor(node, 0)}.shape" if like else w.listed(node, "shape", 0) or "()"
        dtype = w.asked_dtype(node, "dtype", w.dtype(node) if like else "float32")
        return f"({text.format(size=size, device=w.device(), **settings)}).to({dtype})"

    return emit


_NORMAL = "torch.randn({size}, device={device}) * {scale} + {mean}"
_UNIFORM = "torch.rand({size}, device={device}) * ({high} - {low}) + {low}"


def _bernoulli(w: Writer, node: Node) -> str:
    return f"torch.bernoulli({w.tensor(node, 0)}).to({w.asked_dtype(node, 'dtype', w.dtype(node))})"


def _multinomial(w: Writer, node: Node) -> str:
    drawn = f"torch.multinomial({w.tensor(node, 0)}.softmax(-1), {w.integer(node, 'sample_size', 1)}, replacement=True)"
    return f"{drawn}.to({w.asked_dtype(node, 'dtype', 'int32')})"


EMITTERS: Table = {
    "Bernoulli": _bernoulli,
    "Multinomial": _multinomial,
    "RandomNormal": _random(_NORMAL, like=False),
    "RandomNormalLike": _random(_NORMAL, like=True),
    "RandomUniform": _random(_UNIFORM, like=False),
    "RandomUniformLike": _random(_UNIFORM, like=True),
}
