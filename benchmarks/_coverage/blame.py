"""Where a shrunk network first differs from the masked original."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from amcc.ir import Array, Graph
    from amcc.passes.channels import Channels, Removal


def first_difference(channels: Channels, removal: Removal, shrunk: Graph, tolerance: float) -> str:
    """The first node whose outputs differ at the indices that stay, with its inputs and what is cut of them."""
    from amcc.backends.runtime import Session
    from amcc.certificate import difference
    from amcc.masking import masked_graph

    graph, masked = channels.graph, masked_graph(channels, removal)
    kept = channels.kept(removal)
    common = {o for node in masked.nodes for o in node.outputs} & {o for node in graph.nodes for o in node.outputs}
    watched = [o for node in shrunk.nodes for o in node.outputs if o in common]
    inputs = inputs_of(graph, seed=0)
    wanted, found = (Session(g, outputs=watched).run(inputs) for g in (masked, shrunk))
    for node in shrunk.nodes:
        for output in node.outputs:
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

    for side, graph in (("shrunk", shrunk), ("masked original", masked_graph(channels, removal))):
        try:
            Session(graph).run(inputs_of(channels.graph, seed=0))
        except AmccError as error:
            return f"the {side} graph fails: {error}"
    return "either side runs alone"


def inputs_of(graph: Graph, seed: int) -> Mapping[str, Array]:
    """Random inputs: as many samples as the graph is fixed to, else two."""
    from amcc.synthetic import synthetic

    leading = {graph.shape(name)[0] for name in graph.inputs if graph.shape(name)}
    fixed = [dim for dim in leading if isinstance(dim, int)]
    return synthetic(graph, fixed[0] if len(leading) == 1 and fixed else 2, seed=seed).inputs
