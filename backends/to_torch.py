"""The IR as PyTorch: `model.py`, which needs torch alone, and `model.safetensors`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from amcc.backends.readable import readable
from amcc.backends.torch_bodies import Bodies
from amcc.backends.torch_ops import EMITTERS, MOVING
from amcc.backends.torch_ops.source import module_source
from amcc.backends.torch_ops.state import State
from amcc.backends.torch_ops.writer import MARK, UNSIGNED, Statement, Writer
from amcc.errors import OutputError
from amcc.ir import Array, Graph, Node

CODE, WEIGHTS = "model.py", "model.safetensors"


def write_torch(graph: Graph, folder: str | Path) -> list[Path]:
    """Write the graph as a PyTorch module and its weights.

    `model.py` holds `class Model(torch.nn.Module)` and `load()`, which reads `model.safetensors`
    beside it. State-dict keys are the names of the graph's parameters, or those by which layers hold
    them (`backends.readable`); weights are trainable, running statistics are buffers. The same graph
    gives the same bytes.

    Returns:
        The files written.

    Raises:
        ModelError: an operator, or a way to use it, has no counterpart; names the node.
        OutputError: the folder cannot be written.
    """
    source, weights = torch_source(readable(graph))
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / WEIGHTS, _safetensors(weights))
        _write(folder / CODE, source.encode())
    except OSError as error:
        raise OutputError(f"cannot write the PyTorch module: {error.strerror or error}", where=str(folder)) from None
    return [folder / CODE, folder / WEIGHTS]


def torch_source(graph: Graph) -> tuple[str, dict[str, Array]]:
    """The text of `model.py`, and the arrays of its state dict by key.

    Raises:
        ModelError: see `write_torch`.
    """
    writer = Writer(graph)
    bodies = Bodies(writer, _statement, _live)
    live = bodies.statements((), graph.outputs)
    state = State(writer, live)
    return module_source(writer, live, state, bodies.methods), state.arrays


def _statement(w: Writer, node: Node) -> Statement | None:
    """The node as code; None if its output is its input."""
    if node.outputs[0] in w.absorbed:
        w.aliases[node.outputs[0]] = w.value(w.absorbed[node.outputs[0]])
        return None
    w.current = statement = Statement(node)
    emitter = EMITTERS.get(node.op) if node.domain in ("", "ai.onnx") else None
    if emitter is None:
        raise w.unsupported(node)
    if not MOVING.issuperset([node.op]) and (odd := _odd(w, node)):
        raise w.unsupported(node, f"of {odd}")
    statement.code = emitter(w, node)
    if not statement.several and any(w.used(name) for name in node.outputs[1:]):
        raise w.unsupported(node, f"with {len(node.outputs)} outputs")
    if not statement.several and MARK.fullmatch(statement.code):
        w.aliases[node.outputs[0]] = statement.code
        return None
    outputs = [*node.outputs, *[""] * (statement.several - len(node.outputs))][: statement.several or 1]
    statement.targets = tuple(w.value(name) if name else "_" for name in outputs)
    return statement


def _odd(w: Writer, node: Node) -> str:
    """The element type of an input that PyTorch does not compute with."""
    return next((v.dtype for v in map(w.graph.values.get, filter(None, node.inputs)) if v and v.dtype in UNSIGNED), "")


def _live(statements: list[Statement]) -> list[Statement]:
    """Without the statements that the last one does not need."""
    needed: set[str] = set()
    kept: list[Statement] = []
    for statement in reversed(statements):
        if not statement.targets or needed.intersection(statement.targets):
            kept.append(statement)
            needed.update(MARK.findall(statement.code))
    return kept[::-1]


def _safetensors(arrays: Mapping[str, Array]) -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({key: np.ascontiguousarray(arrays[key]).reshape(arrays[key].shape) for key in sorted(arrays)})


def _write(path: Path, data: bytes) -> None:
    """The file, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
