"""What a graph's metadata says of a PyTorch source, where parameters themselves do not tell.

The frontend notes it, the backend keeps to it. Metadata can come from any file: what does not make
sense is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from amcc.ir import Graph

KEPT = "torch.kept"  # list of parameters in the state dict, though they look like constants
BUFFERS = "torch.buffers"  # list of parameters that are not trained, though they look like weights
TIED = "torch.tied"  # other keys of parameters: key -> parameter


def note(listed: Mapping[str, list[str]], tied: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a graph.

    Args:
        listed: parameters by `KEPT` and `BUFFERS`.
        tied: for `TIED`.
    """
    notes: dict[str, Any] = {**listed, TIED: dict(tied)}
    return {key: json.dumps(value) for key, value in notes.items() if value}


def noted(graph: Graph, key: str) -> frozenset[str]:
    """The parameters that the graph's metadata lists under a key."""
    names = _read(graph, key)
    listed = names if isinstance(names, list) else []
    return frozenset(n for n in listed if isinstance(n, str) and n in graph.params)


def tied(graph: Graph) -> dict[str, str]:
    """Other keys under which the source knows parameters: key -> parameter."""
    ties = _read(graph, TIED)
    pairs = ties.items() if isinstance(ties, dict) else ()
    return {
        key: name for key, name in pairs if isinstance(name, str) and name in graph.params and key not in graph.params
    }


def _read(graph: Graph, key: str) -> Any:
    try:
        return json.loads(graph.metadata.get(key, "null"))
    except (ValueError, RecursionError):
        return None
