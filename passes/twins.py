"""Which parameters of two graphs of one network are the same, where their names do not say so.

Exporters rename what they fold: the transposed weight of a Linear becomes `val_12` or `onnx::MatMul_308`, a
convolution's with its BatchNorm in it `onnx::Conv_193`. The submodule that the reading node comes from is still known:
by the new exporter's notes, or by the old one's node names (`/layer1/layer1.0/conv1/Conv`). A weight is known by that,
its shape and its orientation.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from amcc.ir import Graph, Node, Shape

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class Twin(NamedTuple):
    """What a weight is known by.

    Attributes:
        path: of the submodule that it belongs to.
        shape: with the axis of the outputs first, where there are two.
        out: the axis of the outputs, where there are two.
    """

    path: str
    shape: Shape
    out: int


def twins(graph: Graph) -> dict[str, Twin]:
    """Of every weight of a layer whose submodule is known, what it is known by."""
    return {name: twin for node in graph.nodes if node.op in _WEIGHTED for name, twin in _of(graph, node)}


def twin_of(wanted: Twin, found: dict[str, Twin], taken: Container[str]) -> str | None:
    """The one weight that is known by the same, if there is one."""
    same = [n for n, t in found.items() if n not in taken and (t.path, t.shape) == (wanted.path, wanted.shape)]
    return same[0] if len(same) == 1 else None


def module_path(node: Node) -> str:
    """The submodule that a node comes from, "" where that is not known."""
    if not node.source.startswith("/"):
        return node.source
    path: list[str] = []
    for part in node.source.split("/")[1:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()  # an item of a Sequential is called after it
        path.append(part)
    return ".".join(path)


def _of(graph: Graph, node: Node) -> Iterator[tuple[str, Twin]]:
    name, turned = node.input(1), False
    maker = graph.producers.get(name)
    if maker is not None and maker.op == "Transpose" and maker.attributes.get("perm", (1, 0)) == (1, 0):
        name, turned = maker.inputs[0], True
    path = module_path(node) or name.rpartition(".")[0]
    if name not in graph.params or not path:
        return
    shape = graph.params[name].shape
    if len(shape) != 2 or node.op.startswith("Conv"):
        yield name, Twin(path, shape, 0)
        return
    rows = node.op == "Gemm" and bool(node.attributes.get("transB", 0))
    out = 0 if rows != turned else 1
    yield name, Twin(path, shape if out == 0 else shape[::-1], out)
