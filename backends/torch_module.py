"""A graph as a PyTorch module in memory, to be differentiated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amcc.backends.to_torch import torch_source
from amcc.backends.torch_ops.names import keys
from amcc.ir import Graph

if TYPE_CHECKING:
    from torch import nn


def torch_module(graph: Graph) -> tuple[nn.Module, dict[str, str]]:
    """The module that `write_torch` would write, with copies of the graph's arrays, ready for inference.

    What runs is the text that amcc itself makes: nothing of a model file gets into it but numbers and
    names fit for identifiers.

    Returns:
        The module, and for each of the graph's parameters that it holds the key in its state dict.

    Raises:
        ModelError: an operator, or a way to use it, has no counterpart in PyTorch; names the node.
    """
    import torch

    source, arrays = torch_source(graph)
    names: dict[str, Any] = {"__name__": "amcc.written", "__file__": "model.py"}
    exec(compile(source, "model.py", "exec"), names)
    module: nn.Module = names["Model"]()
    module.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in arrays.items()})
    return module.eval(), {name: key for name, key in keys(graph.params).items() if key in arrays}
