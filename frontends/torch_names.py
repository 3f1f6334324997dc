"""The exporter's ONNX as a graph with the module's own names."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from amcc.backends.torch_notes import BUFFERS, KEPT, note
from amcc.frontends.from_onnx import from_proto
from amcc.frontends.torch_clean import clean, substituted
from amcc.ir import Graph, Node, Value, verify
from amcc.passes.inputs import BATCH

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram


def named(model: onnx.ModelProto, program: ExportedProgram, name: str, free: Mapping[int, Mapping[int, str]]) -> Graph:
    """Read and clean the exporter's model, and name everything after the module.

    Parameters: state-dict keys. Nodes: the submodule they come from, and the call in it. Values: the
    node that makes them. Outputs: `output`, or `output_0`, `output_1`, ... Dynamic dimensions: `batch`, and
    those that `free` names, by the number of the input and the axis. The graph's metadata says what of the
    state dict PyTorch does not train, and which of its keys are the same tensor.
    """
    calls = {node.name: _call(node) for node in model.graph.node}
    _rename_symbols(model.graph, free)
    graph = from_proto(model)
    ties = _ties(program)
    for alias in [n for n in ties if n in graph.params]:
        graph = _renamed_param(graph, alias, ties[alias])
    state = frozenset(graph.params) & frozenset(program.state_dict)
    graph = _with_calls(clean(graph, state), calls)
    graph = graph.replace(name=name, metadata=_metadata(graph, program, ties, state))
    verify(graph, after="capturing the module")
    return graph


def _rename_symbols(graph: onnx.GraphProto, free: Mapping[int, Mapping[int, str]]) -> None:
    """torch's own symbols: the leading one is the batch, `free` names others; inference finds what is made of them."""
    shapes = [value.type.tensor_type.shape.dim for value in graph.input]
    names = {dims[0].dim_param: BATCH for dims in shapes if dims}
    names |= {shapes[i][axis].dim_param: name for i, axes in free.items() for axis, name in axes.items()}
    names.pop("", None)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
            elif dim.dim_param:
                dim.ClearField("dim_param")


def _ties(program: ExportedProgram) -> dict[str, str]:
    """Keys of the state dict that hold the tensor of an earlier key: key -> first key."""
    first: dict[tuple[object, ...], str] = {}
    ties: dict[str, str] = {}
    for key, tensor in program.state_dict.items():
        if tensor.numel():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if (met := first.setdefault(place, key)) != key:
                ties[key] = met
    return ties


def _renamed_param(graph: Graph, old: str, new: str) -> Graph:
    params = {n: a for n, a in graph.params.items() if n != old}
    params.setdefault(new, graph.params[old])
    values = {n: v for n, v in graph.values.items() if n != old}
    values[new] = Value(new, params[new].dtype.name, params[new].shape)
    return substituted(graph.replace(params=params, values=values), {old: new})


def _call(node: onnx.NodeProto) -> tuple[str, str]:
    """The submodule's path, and the name of the call in it without its number."""
    notes = {p.key: p.value for p in node.metadata_props}
    scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
    if len(scopes) < 2:
        return "", node.op_type.lower()
    path = str(scopes[-2])
    call = re.sub(r"(_[0-9]+)+$", "", str(scopes[-1])).strip("_")
    return ("" if path.startswith("_empty_nn_module") else path), call or node.op_type.lower()


def _with_calls(graph: Graph, calls: Mapping[str, tuple[str, str]]) -> Graph:
    """Nodes and their values under names that a person can find in the module."""
    weighted = Counter(calls.get(n.name, ("", ""))[0] for n in graph.nodes if _weighs(graph, n, calls))
    taken = {*graph.inputs, *graph.params}
    outputs = _output_names(graph, taken)
    taken |= set(outputs.values())
    nodes: list[Node] = []
    names: dict[str, str] = {}
    for node in graph.nodes:
        path, call = calls.get(node.name, ("", node.op.lower()))
        alone = path and weighted[path] == 1 and _weighs(graph, node, calls)
        name = _free(path if alone else f"{path}/{call}" if path else call, taken)
        taken.add(name)
        for index, output in enumerate(node.outputs):
            if output:
                names[output] = outputs.get(output) or (
                    name if len(node.outputs) == 1 else _free(f"{name}:{index}", taken)
                )
                taken.add(names[output])
        nodes.append(node.replace(name=name, source=path))
    values = {names.get(n, n): Value(names.get(n, n), v.dtype, v.shape) for n, v in graph.values.items()}
    renamed = tuple(
        node.replace(
            inputs=tuple(names.get(i, i) for i in node.inputs), outputs=tuple(names.get(o, o) for o in node.outputs)
        )
        for node in nodes
    )
    return graph.replace(nodes=renamed, values=values, outputs=tuple(names.get(o, o) for o in graph.outputs))


def _weighs(graph: Graph, node: Node, calls: Mapping[str, tuple[str, str]]) -> bool:
    """Whether the node is its submodule's own operation: it reads a parameter that the submodule holds."""
    path = calls.get(node.name, ("", ""))[0]
    return bool(path) and any(i in graph.params and i.rpartition(".")[0] == path for i in node.inputs)


def _output_names(graph: Graph, taken: set[str]) -> dict[str, str]:
    made = [o for o in dict.fromkeys(graph.outputs) if o in graph.producers]
    wished = ["output"] if len(graph.outputs) == 1 else [f"output_{i}" for i in range(len(graph.outputs))]
    return {o: _free(wished[graph.outputs.index(o)], taken) for o in made}


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _metadata(graph: Graph, program: ExportedProgram, ties: Mapping[str, str], state: frozenset[str]) -> dict[str, str]:
    signature = program.graph_signature
    trained = {ties.get(n, n) for n in signature.parameters}
    statistics = {i for node in graph.nodes if node.op == "BatchNormalization" for i in node.inputs[3:5]}
    floats = [n for n, a in graph.params.items() if a.dtype.kind in "fV" and a.ndim]
    listed = {
        BUFFERS: [n for n in floats if n not in trained and n not in statistics],
        KEPT: [n for n in graph.params if n in state and (graph.params[n].size == 1 or n not in floats)],
    }
    return note(listed, {n: first for n, first in ties.items() if first in graph.params and n in signature.parameters})
