"""A graph as a PyTorch module in memory: to be differentiated, trained, traced."""

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
    module, _, held = written(graph)
    return module, held


def written(graph: Graph) -> tuple[nn.Module, dict[str, Any], dict[str, str]]:
    """As `torch_module`, with all names of the written file in between, its text under `__source__`."""

    source, arrays = torch_source(graph)
    names: dict[str, Any] = {"__name__": "amcc.written", "__file__": "model.py", "__source__": source}
    exec(compile(source, "model.py", "exec"), names)
    module: nn.Module = names["Model"]()
    module.load_state_dict({key: tensor(array) for key, array in arrays.items()})
    held = {name: key for name, key in keys(graph.params).items() if key in arrays}
    return module.eval(), names, held


def tensor(array: Any) -> Any:
    """A copy of an array as a tensor, bfloat16 too; of a list, a list."""
    import numpy as np
    import torch

    if array is None or isinstance(array, list):
        return array and [tensor(part) for part in array]
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":
        bits = np.ascontiguousarray(array).view(np.int16).copy()
        return torch.from_numpy(bits).view(torch.bfloat16).reshape(array.shape)
    return torch.from_numpy(array.copy())


def array(value: Any) -> Any:
    """A tensor as an array, bfloat16 too; of a list, a list."""
    import torch

    if not isinstance(value, torch.Tensor):
        return [array(part) for part in value] if isinstance(value, list | tuple) else value
    value = value.detach().cpu()
    if value.dtype == torch.bfloat16:
        import ml_dtypes

        return value.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()
