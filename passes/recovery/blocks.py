"""Block reconstruction: the operators of a block fitted together to what the block gave in the original.

A layer fitted by itself aims at its own channels in the original. In a block - between two places where the
network is narrow - the channels that stay may change, as long as what leaves the block does not: its operators
are fitted together, by gradient descent on the squared error of the block's outputs, each relative to its
variance (Li et al. 2021, arXiv 2102.05426, section 3.2, there for rounding). Blocks go front to back, each on
what the blocks before it, already fitted, give it. Calibration inputs alone are read, never a label; what
is kept of a block does best on samples that its descent did not see.

Left as they are: blocks that PyTorch cannot run, or whose samples do not lie along the first axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from amcc.errors import ModelError
from amcc.ir import Array, Graph, Node
from amcc.passes.batching import batching
from amcc.passes.channels.model import Channels, Removal
from amcc.passes.extract import sub_graph
from amcc.passes.recovery.affine import tail
from amcc.passes.recovery.chunks import chunks, sample_bytes
from amcc.passes.recovery.gram import generator
from amcc.passes.recovery.linear import linears
from amcc.passes.recovery.live import Live
from amcc.passes.recovery.masked import NO_MASKS, Masks
from amcc.passes.recovery.repair import LIVE_BYTES
from amcc.passes.recovery.schedule import front_to_back, frontiers

if TYPE_CHECKING:
    from torch import Tensor, nn

EPOCHS = 12
"""Passes over the samples for each block."""

BATCH = 64
"""Samples of a step."""

RATE = 0.01
"""Adam's rate at the start, in units of the root mean square of the weights; it falls to zero along a cosine."""

FEWEST, MOST = 4, 8
"""Linear operators of a block."""

HELD_OUT = 8
"""One of so many samples is held out to choose among the epochs."""

LEAST_SAMPLES = 32
"""Fewer say too little of what a block gives."""


def reconstruct_blocks(
    channels: Channels,
    removal: Removal,
    shrunk: Graph,
    inputs: Mapping[str, Array],
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    limit: int | None = None,
    threads: int = 0,
    progress: Callable[[float], None] | None = None,
    masks: Masks = NO_MASKS,
) -> Graph:
    """Fit the blocks of a shrunk network, front to back, to the original's.

    Args:
        shrunk: the original without the removed units, best as `repair` left it.
        inputs: calibration inputs, `[samples, ...]` for every input of the network.
        seed: of the order of samples.
        epochs: passes over the samples for each block.
        limit: samples to use, all that fit in memory by default.
        threads: of ONNX Runtime, which runs what is not differentiated; PyTorch runs on one thread.
        progress: told the share that is done.
        masks: for the names of weights, bool of their shape, false where they stay zero.

    Returns:
        `shrunk` with other weights and biases in the same places; parameters are never added.
    """
    graph = channels.graph
    order = front_to_back(graph)
    cuts = _cuts(graph, order)
    ends = [*cuts[1:], len(order)]
    samples = _samples(graph, frontiers(graph, order, cuts), inputs, limit)
    if samples is None:
        return shrunk
    left = {node.name for node in shrunk.nodes}
    starts = [sum(node.name in left for node in order[:cut]) for cut in cuts]
    ahead = Live(graph, order, ends, samples, threads)
    behind = Live(shrunk, [node for node in order if node.name in left], starts, samples, threads)
    kept = channels.kept(removal)
    for number, (start, end) in enumerate(zip(cuts, ends, strict=True)):
        nodes = {node.name for node in order[start:end]}
        results = {o for node in order[start:end] for o in node.outputs if o in graph.outputs}
        given = _joined(graph, behind.alive[number], behind.advance(shrunk, number, ()))
        wanted = _joined(graph, ahead.alive[number] | results, ahead.advance(graph, number, results))
        if given is None or wanted is None:
            continue
        goals = {n: _staying(kept, n, a) for n, a in wanted.items() if _is_goal(shrunk, nodes, n, a)}
        random = generator(seed, order[start].name, number)
        shrunk = shrunk.with_params(_fitted(shrunk, nodes, given, goals, epochs, random, masks))
        if progress:
            progress((number + 1) / len(cuts))
    return shrunk


def _cuts(graph: Graph, order: Sequence[Node]) -> list[int]:
    """Where blocks start: of the places between linear operators, those where fewest values are alive."""
    found = linears(graph)
    sites = [position for position, node in enumerate(order) if node.name in found]
    alive = _alive(graph, order)
    gaps = [min(range(b, a, -1), key=lambda place: alive[place]) for a, b in pairwise(sites)]
    cuts, at = [0], 0
    while len(sites) - at >= 2 * FEWEST:
        at = min(range(at + FEWEST, min(at + MOST, len(sites) - FEWEST) + 1), key=lambda site: alive[gaps[site - 1]])
        cuts.append(gaps[at - 1])
    return cuts


def _alive(graph: Graph, order: Sequence[Node]) -> list[int]:
    """For each place in an order, and its end, how many values made before it are read there or later."""
    last = {name: position for position, node in enumerate(order) for name in node.reads}
    change = [0] * (len(order) + 1)
    for position, node in enumerate(order):
        for name in node.outputs:
            if last.get(name, position) > position:
                change[position + 1] += 1
                change[last[name] + 1] -= 1
    for name in graph.inputs:
        if name in last:
            change[0] += 1
            change[last[name] + 1] -= 1
    return list(accumulate(change))


def _samples(
    graph: Graph, alive: Sequence[Collection[str]], inputs: Mapping[str, Array], limit: int | None
) -> list[dict[str, Array]] | None:
    """Chunks of as many samples as fit in memory; None where there are too few, or each must run alone."""
    how = batching(graph)
    most = max((sample_bytes(graph, names) for names in alive), default=1)
    fitting = max(1, LIVE_BYTES // max(4 * most, 1))
    names = sorted(set().union(*alive))
    found = list(chunks(graph, inputs, names, limit=fitting if limit is None else min(fitting, limit)))
    enough = not how.alone and sum(how.count_in(feeds) for feeds in found) >= LEAST_SAMPLES
    return found if enough else None


def _joined(graph: Graph, names: Collection[str], parts: Iterator[Mapping[str, Array]]) -> dict[str, Array] | None:
    """Values of all samples, one row a sample; None where one does not have its samples in front."""
    how = batching(graph)
    found: dict[str, list[Array]] = {name: [] for name in names}
    for values in parts:
        for name, arrays in found.items():
            arrays.append(values[name])
    for name in names:
        front = (graph.values[name].shape or ("?",))[:1]
        if not front or front[0] not in (how.symbols or {how.size}):
            return None
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _staying(kept: Mapping[tuple[str, int], Array], name: str, array: Array) -> Array:
    """What is left of a value of the original."""
    for axis in range(array.ndim):
        if (name, axis) in kept:
            array = array.take(kept[name, axis], axis)
    return array


def _is_goal(shrunk: Graph, nodes: Collection[str], name: str, array: Array) -> bool:
    made = shrunk.producers.get(name)
    return made is not None and made.name in nodes and array.dtype == np.float32 and bool(np.isfinite(array).all())


def _fitted(
    shrunk: Graph,
    nodes: Collection[str],
    given: Mapping[str, Array],
    goals: Mapping[str, Array],
    epochs: int,
    random: np.random.Generator,
    masks: Masks,
) -> dict[str, Array]:
    """The parameters of one block that its goals ask for; none where it cannot be differentiated, or does not gain.

    Args:
        nodes: of the block, by name.
        given: the values it reads, `[samples, ...]`.
        goals: what it is to give, `[samples, ...]`.
    """
    from amcc.backends.torch_module import torch_module

    free = _trainable(shrunk, nodes)
    if not goals or not free:
        return {}
    part = sub_graph(shrunk, sorted(given), sorted(goals))
    try:
        module, keys = torch_module(part)
    except ModelError:
        return {}
    weights = {name: module.get_parameter(keys[name]) for name in free if name in keys}
    kept = [masks.get(name) for name in weights]
    x = [given[name] for name in part.inputs]
    descent = _Descent(module, list(weights.values()), kept, x, [goals[name] for name in part.outputs], random)
    if not weights or not descent.run(epochs):
        return {}
    return {name: weight.detach().numpy().copy() for name, weight in weights.items()}


def _trainable(graph: Graph, nodes: Collection[str]) -> list[str]:
    """Weights and biases of a block's linear operators, and what takes up offsets behind them."""
    found: dict[str, None] = {}
    for name, linear in linears(graph).items():
        if name in nodes:
            found.update(dict.fromkeys((linear.weight, linear.bias, tail(graph, linear).holder)))
    return [name for name in found if name and graph.params[name].dtype == np.float32]


class _Descent:
    """Adam on the mean squared error of a block's outputs, each relative to its variance.

    Args:
        weights: of the module that may change; all others stay.
        masks: for each of them where it may, or None for everywhere.
        x, y: inputs and outputs wanted, `[samples, ...]` each.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Sequence[Tensor],
        masks: Sequence[Array | None],
        x: Sequence[Array],
        y: Sequence[Array],
        random: np.random.Generator,
    ) -> None:
        import torch

        self._module, self._weights, self._random = module.requires_grad_(False), weights, random
        self._masks = [None if mask is None else torch.tensor(mask) for mask in masks]
        self._x, self._y = ([torch.from_numpy(a) for a in arrays] for arrays in (x, y))
        self._scales = [1 / max(float(array.var(dtype=np.float64)), 1e-12) for array in y]
        order = random.permutation(len(y[0]))
        held = max(1, len(order) // HELD_OUT)
        self._fit, self._left_out = order[held:], np.sort(order[:held])

    def run(self, epochs: int) -> bool:
        """Leave in the module the weights that do best on samples left out; False where the first ones do."""
        import torch

        with _one_thread(), torch.enable_grad():
            try:
                least = first = self._error()
            except (RuntimeError, TypeError, IndexError, ValueError):  # written for another number of samples
                return False
            best = [weight.detach().clone() for weight in self._weights]
            for weight in self._weights:
                weight.requires_grad_(True)
            optimizer = torch.optim.Adam([{"params": [w], "rate": _rate(w)} for w in self._weights])
            steps, step = epochs * -(-len(self._fit) // BATCH), 0
            for _ in range(epochs):
                order = self._random.permutation(self._fit)
                for start in range(0, len(order), BATCH):
                    for group in optimizer.param_groups:
                        group["lr"] = group["rate"] * (1 + math.cos(math.pi * step / steps)) / 2
                    optimizer.zero_grad()
                    self._loss(order[start : start + BATCH]).backward()  # type: ignore[no-untyped-call]
                    self._hold()
                    optimizer.step()
                    step += 1
                error = self._error()
                if error < least:
                    least, best = error, [weight.detach().clone() for weight in self._weights]
            with torch.no_grad():
                for weight, value in zip(self._weights, best, strict=True):
                    weight.copy_(value)
        return least < first

    def _hold(self) -> None:
        """No gradient where a weight stays zero: Adam then leaves it there."""
        for weight, mask in zip(self._weights, self._masks, strict=True):
            if mask is not None and weight.grad is not None:
                weight.grad.mul_(mask)

    def _error(self) -> float:
        """The loss over the samples left out."""
        import torch

        parts = [self._left_out[a : a + BATCH] for a in range(0, len(self._left_out), BATCH)]
        with torch.no_grad():
            return sum(float(self._loss(part)) * len(part) for part in parts) / len(self._left_out)

    def _loss(self, rows: Array) -> Tensor:
        import torch

        found = self._module(*(x[rows] for x in self._x))
        outputs = found if isinstance(found, tuple) else (found,)
        errors = [
            scale * torch.nn.functional.mse_loss(output, y[rows])
            for output, y, scale in zip(outputs, self._y, self._scales, strict=True)
        ]
        return torch.stack(errors).mean()


def _rate(weight: Tensor) -> float:
    """Adam's rate for a parameter: relative to its weights, so that networks of any scale take equal steps."""
    size = float(weight.detach().square().mean().sqrt())
    return RATE * (size if size > 0 else 1.0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread, so that results do not depend on how many cores there are."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
