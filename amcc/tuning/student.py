"""The smaller network as a module to be trained, and the way back to a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amcc.errors import ModelError
from amcc.ir import Array, Graph, Node, frozen
from amcc.passes.batching import batching
from amcc.passes.recovery.linear import linears
from amcc.passes.sparsity import masks
from amcc.tuning.norms import Restored, folded, restored

if TYPE_CHECKING:
    from torch import Tensor, nn


class Student:
    """A graph in training.

    Args:
        graph: the smaller network, float32.
        targets: values that a forward pass gives, outputs or not.
        norms: whether batch normalisation is restored.
        feeds: samples on which its statistics are measured, run by run.

    Attributes:
        module: gives the targets, in order.
        targets: what it gives, by name.
        norms: how many batch normalisations were put in.
        weights: the parameters that are trained, by name.
        masks: where the zeros of sparse weights stay: true for what may change, by name.

    Raises:
        ModelError: PyTorch cannot run the network, or nothing in it can be trained.
    """

    def __init__(
        self, graph: Graph, targets: Sequence[str], feeds: Iterable[Mapping[str, Array]], *, norms: bool
    ) -> None:
        import torch

        from amcc.backends.torch_module import torch_module

        self._restored = restored(graph, feeds) if norms else Restored(graph, graph)
        self._inputs, self.targets = graph.inputs, tuple(targets)
        self._dtypes = {name: graph.values[name].dtype for name in graph.inputs}
        self.norms = len(self._restored.norms)
        with_norms = self._restored.graph
        self.module, self._keys = torch_module(with_norms.replace(outputs=self.targets).live())
        wanted = trainable(with_norms)
        parameters = dict(self.module.named_parameters())
        self.weights = {
            name: parameters[key] for name, key in self._keys.items() if name in wanted and key in parameters
        }
        if not self.weights:
            raise ModelError("nothing in this network can be trained", hint="it has no weights of a floating type")
        kept = {id(parameter) for parameter in self.weights.values()}
        for parameter in parameters.values():
            parameter.requires_grad_(id(parameter) in kept)
        sparse = masks(graph)
        self.masks = {name: torch.from_numpy(sparse[name]) for name in self.weights if name in sparse}

    @property
    def is_normed(self) -> bool:
        """Whether it has batch normalisation, its own or put in."""
        from torch.nn.modules.batchnorm import _BatchNorm

        return any(isinstance(part, _BatchNorm) for part in self.module.modules())

    def outputs(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The targets by name.

        Args:
            module: the module, or what wraps it.
        """
        found = module(*(_as_taken(inputs[name], self._dtypes[name]) for name in self._inputs))
        results = found if isinstance(found, tuple) else (found,)
        return dict(zip(self.targets, results, strict=True))

    def mask(self) -> None:
        """Put the zeros of sparse weights back."""
        import torch

        with torch.no_grad():
            for name, mask in self.masks.items():
                self.weights[name].mul_(mask)

    def to(self, device: str) -> None:
        """Move it, pictures' channels last in memory."""
        import torch

        self.module.to(device)
        if any(weight.dim() == 4 for weight in self.weights.values()):
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.masks = {name: mask.to(device) for name, mask in self.masks.items()}

    def train(self, *, frozen_norms: bool) -> None:
        """Training mode.

        Args:
            frozen_norms: batch normalisations keep their statistics: batches are too small for their own.
        """
        from torch.nn.modules.batchnorm import _BatchNorm

        self.module.train()
        for part in self.module.modules():
            if frozen_norms and isinstance(part, _BatchNorm):
                part.eval()

    def graph(self) -> Graph:
        """The network as it came, with the weights as they are now."""
        state = self.module.state_dict()
        graph = self._restored.graph
        arrays = {}
        for name, key in self._keys.items():
            array = np.ascontiguousarray(state[key].detach().cpu().numpy())
            arrays[name] = array.reshape(graph.params[name].shape).astype(graph.params[name].dtype, copy=False)
        if not self._restored.norms:
            return graph.with_params({name: arrays[name].copy() for name in arrays})
        return folded(self._restored, {n: frozen(a.copy()) for n, a in arrays.items()})


def batch_is_free(graph: Graph, module: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether a module made of a graph with a fixed batch computes other batches sample by sample all the same.

    Args:
        inputs: some samples, more than the fixed batch has.
    """
    import torch

    how = batching(graph)
    if how.alone or any(how.axis(name) != 0 for name in graph.inputs):
        return False
    if not how.size:
        return True
    with torch.no_grad():
        try:
            together = _results(module(*(inputs[name] for name in graph.inputs)))
            apart = _results(module(*(inputs[name][: how.size] for name in graph.inputs)))
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
    samples = len(next(iter(inputs.values())))
    return all(
        whole.dim() > 0
        and len(whole) * how.size == len(part) * samples
        and torch.allclose(whole[: len(part)].float(), part.float(), rtol=1e-3, atol=1e-4)
        for part, whole in zip(apart, together, strict=True)
    )


def _results(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def _as_taken(tensor: Tensor, dtype: str) -> Tensor:
    return tensor.float() if dtype == "float32" else tensor


_WEIGHTED = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), (0, 1, 2)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3)),
    **dict.fromkeys(
        ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"), (1, 2)
    ),
    "RMSNormalization": (1,),
    "PRelu": (1,),
    "Gather": (0,),
}
_RESPELLED = frozenset({"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity"})


def trainable(graph: Graph) -> frozenset[str]:
    """The parameters that are trained: weights, biases, scales and tables, not numbers that a graph holds as constants.

    All floating ones that an operator with weights reads, and vectors that are added, or multiplied with one number a
    channel.
    """
    found: set[str] = set()
    for linear in linears(graph).values():
        found.update(name for name in (linear.weight, linear.bias) if name)
    for node in graph.nodes:
        for place, name in enumerate(node.inputs):
            root = _root(graph, name)
            if root is not None and graph.params[root].dtype.kind in "fV" and _is_weight(graph, node, place, root):
                found.add(root)
    return frozenset(found)


def _is_weight(graph: Graph, node: Node, place: int, root: str) -> bool:
    if node.op in _WEIGHTED:
        return place in _WEIGHTED[node.op]
    if node.op == "Add":
        return graph.params[root].size > 1
    return node.op == "Mul" and sum(dim != 1 for dim in graph.params[root].shape) == 1


def _root(graph: Graph, name: str) -> str | None:
    """The parameter that a value is another spelling of, if it is one."""
    while name and name not in graph.params:
        node = graph.producers.get(name)
        if node is None or node.op not in _RESPELLED:
            return None
        name = node.inputs[0]
    return name or None
