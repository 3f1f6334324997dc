"""Where a shrunk network first differs from the masked original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from amcc.ir import Graph
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
                reads = [
                    f"{list(graph.shape(i))} to {list(shrunk.shape(i))}" for i in node.inputs if i in shrunk.values
                ]
                return f"first at {node.label}: {error:.1e}, inputs {', '.join(reads)}"
    return "no node differs: outputs alone"
