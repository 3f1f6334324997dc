"""Where a shrunk network first differs from the masked original."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from amcc.data import Dataset
    from amcc.ir import Array, Graph
    from amcc.passes.channels import Channels, Removal

Found = TypeVar("Found")


def first_difference(channels: Channels, removal: Removal, shrunk: Graph, tolerance: float) -> str:
    """The first node whose outputs differ at the indices that stay, with its inputs and what is cut of them."""
    from amcc.backends.runtime import Session
    from amcc.certificate import difference
    from amcc.masking import masked_graph

    graph, masked = channels.graph, masked_graph(channels, removal)
    kept = channels.kept(removal)
    common = {o for node in masked.nodes for o in node.outputs} & {o for node in graph.nodes for o in node.outputs}
    watched = [o for node in shrunk.nodes for o in node.outputs if o and o in common]
    inputs, wanted = inputs_of(graph, 0, Session(masked, outputs=watched).run)
    found = Session(shrunk, outputs=watched).run(inputs)
    for node in shrunk.nodes:
        for output in filter(None, node.outputs):
            if output not in common:
                continue
            expected = np.asarray(wanted[output])
            for axis in range(expected.ndim):
                if (output, axis) in kept:
                    expected = expected.take(kept[output, axis], axis)
            error = difference(np.asarray(found[output]), expected)
            if error > tolerance:
                return f"first at {node.label}: {error:.1e}, inputs {', '.join(_reads(graph, shrunk, node.inputs))}"
    return "no node differs: outputs alone"


def _reads(graph: Graph, shrunk: Graph, inputs: Iterable[str]) -> Iterator[str]:
    """Shapes of a node's inputs before and after."""
    for name in filter(None, inputs):
        before, after = (list(g.shape(name)) if name in g.values else "new" for g in (graph, shrunk))
        yield str(before) if before == after else f"{before} to {after}"


def failing_side(channels: Channels, removal: Removal, shrunk: Graph) -> str:
    """Which of the two graphs does not run, and what ONNX Runtime says of it."""
    from amcc.backends.runtime import Session
    from amcc.errors import AmccError
    from amcc.masking import masked_graph

    inputs, _ = inputs_of(channels.graph, 0, Session(channels.graph).run)
    for side, graph in (("shrunk", shrunk), ("masked original", masked_graph(channels, removal))):
        try:
            Session(graph).run(inputs)
        except AmccError as error:
            return f"the {side} graph fails: {error}"
    return "either side runs alone"


def inputs_of(
    graph: Graph, seed: int, run: Callable[[Mapping[str, Array]], Found]
) -> tuple[Mapping[str, Array], Found]:
    """Random inputs on which something runs, and what it gives: as many samples as the graph is fixed to, else two.

    Raises:
        RunError: it runs on none.
    """
    from amcc.passes.batching import batching
    from amcc.synthetic import that_runs

    how = batching(graph)
    count = 1 if how.alone else how.size or 2

    def tried(data: Dataset) -> tuple[Mapping[str, Array], Found]:
        feeds = how.feeds(data.inputs, 0, count)
        return feeds, run(feeds)

    return that_runs(graph, count, tried, seed=seed)
