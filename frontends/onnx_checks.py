"""What must hold of a model before anything is made of it."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

from amcc.errors import ModelError
from amcc.ir import Array, Graph

if TYPE_CHECKING:
    import onnx

# Operators whose float parameters are trained weights; elsewhere an infinity can be meant (masks, bounds).
_WEIGHTED = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "RMSNormalization",
        "PRelu",
        "LSTM",
        "GRU",
        "RNN",
        "DeformConv",
        "Einsum",
    }
)
# Elements looked at together: enough to be fast, few enough not to fill the memory.
_CHUNK = 1 << 20


def check_text(model: onnx.ModelProto) -> None:
    """Every name is text: protocol buffers hand over what is not as bytes.

    Raises:
        ModelError: a name is damaged.
    """
    graph = model.graph
    described = (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node)
    texts: list[object] = [graph.name, *(d.name for d in described), *(o.domain for o in model.opset_import)]
    texts += [text for p in model.metadata_props for text in (p.key, p.value)]
    for node in graph.node:
        texts += [node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    if damaged := next((text for text in texts if not isinstance(text, str)), None):
        raise ModelError(f"the name {damaged!r} is not UTF-8 text", hint="the file is damaged; copy it again")


def check_names(graph: Graph) -> None:
    """Every name is made exactly once, and whatever is read is made.

    Raises:
        ModelError: names the node and the value.
    """
    made: dict[str, str] = dict.fromkeys(graph.params, "a parameter")
    for name in graph.inputs:
        if name in made:
            raise ModelError(f"two inputs are called '{name}'")
        made[name] = "a graph input"
    for node in graph.nodes:
        for output in filter(None, node.outputs):
            if output in made:
                raise ModelError(f"makes '{output}', already made by {made[output]}", where=node.label)
            made[output] = node.label
    for node in graph.nodes:
        for read in node.reads:
            if read not in made:
                raise ModelError(f"reads '{read}', which nothing in the graph makes", where=node.label)
    for output in graph.outputs:
        if output not in made:
            raise ModelError(f"nothing in the graph makes the output '{output}'")


def check_numbers(graph: Graph, *, mapped: bool = False) -> None:
    """No parameter holds a NaN, no weight an infinity.

    Args:
        mapped: check those that lie in mapped files, rather than those in memory. Reading a large file takes
            time, so that this waits until its numbers are needed; its pages are given back.

    Raises:
        ModelError: names the parameter and who reads it.
    """
    for name, array in graph.params.items():
        file = _mapping(array)
        if (file is not None) != mapped or not array.dtype.name.startswith(("float", "bfloat", "complex")):
            continue
        users = graph.consumers.get(name, ())
        weighed = next((n for n in users if n.op in _WEIGHTED), None)
        fault = _fault(array)
        if file is not None and hasattr(file, "madvise"):
            file.madvise(mmap.MADV_DONTNEED)
        if fault == "NaN" or (fault and weighed):
            reader = (weighed or users[0]).label if users else "nothing"
            raise ModelError(
                f"parameter '{name}' {list(array.shape)}, read by {reader}, contains {fault}",
                hint="training diverged or the export is broken; use a sound checkpoint",
            )


def _mapping(array: Array) -> mmap.mmap | None:
    """The file mapping that holds an array, if one does."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _fault(array: Array) -> str:
    """`"NaN"` if there is one, else `"infinity"` if there is one, else ""."""
    flat = array.reshape(-1)
    found = ""
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        if not np.isfinite(part).all():
            found = "infinity"
            if np.isnan(part).any():
                return "NaN"
    return found
