"""Fine-grained sparsity: masks, choice, repair, budgets, artifacts."""

from __future__ import annotations

import numpy as np

from amcc.passes.sparsity import masks, zeroed

from . import tiny_models


def test_masks_are_read_off_the_zeros() -> None:
    graph = tiny_models.graph()
    assert masks(graph) == {}
    random = np.random.default_rng(0)
    chosen = {name: random.random(graph.params[name].shape) < 0.4 for name in ("conv2.weight", "fc.weight")}
    sparse = zeroed(graph, chosen)
    found = masks(sparse)
    assert found.keys() == chosen.keys()
    for name, mask in chosen.items():
        assert np.array_equal(found[name], mask)
        assert np.array_equal(sparse.params[name][mask], graph.params[name][mask])
        assert not sparse.params[name][~mask].any()
