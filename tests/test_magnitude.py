"""Magnitudes against norms worked out by hand."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from amcc.passes.channels import analyze
from amcc.passes.magnitude import magnitudes
from amcc.stages import weights_hash
from tests import tiny_models


def test_magnitude_is_the_mean_share_of_each_weights_scale() -> None:
    channels = analyze(tiny_models.graph())
    weights = tiny_models.weights()
    inner = next(g for g in channels.groups if g.name == "conv2.weight")
    out, into = weights["conv2.weight"].astype(float), weights["conv3.weight"].astype(float)
    expected = [
        (np.sqrt((out[u] ** 2).mean() / (out**2).mean()) + np.sqrt((into[:, u] ** 2).mean() / (into**2).mean())) / 2
        for u in range(8)
    ]
    np.testing.assert_allclose(magnitudes(channels)[inner.index], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_every_float_type_has_magnitudes_and_a_hash(dtype: type) -> None:
    graph = tiny_models.graph()
    channels = analyze(graph)
    values = {
        n: v if n not in graph.params else type(v)(n, np.dtype(dtype).name, v.shape) for n, v in graph.values.items()
    }
    cast = graph.replace(params={n: a.astype(dtype) for n, a in graph.params.items()}, values=values)
    for exact, rounded in zip(magnitudes(channels), magnitudes(analyze(cast)), strict=True):
        np.testing.assert_allclose(rounded, exact, rtol=0.02)
        assert exact.std() > 0
    assert weights_hash(cast) != weights_hash(graph)


def test_scale_of_a_layer_does_not_matter() -> None:
    graph = tiny_models.graph()
    scaled = graph.with_params({"conv2.weight": 100 * tiny_models.weights()["conv2.weight"]})
    for one, other in zip(magnitudes(analyze(graph)), magnitudes(analyze(scaled)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
