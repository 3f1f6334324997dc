"""onnx's own tests of every operator, in PyTorch: the right answer, or the operator named."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from amcc.backends.torch_module import array, tensor, torch_module
from amcc.errors import ModelError
from amcc.frontends.from_onnx import from_proto
from amcc.passes.inputs import bind_inputs
from amcc.passes.shapes import infer
from tests.onnx_models import operator_cases

RANDOM = re.compile("bernoulli|training_dropout")
# ONNX Runtime, and PyTorch, do otherwise: with a fractional size, they align the corners of the whole ones.
DISPUTED = re.compile("resize_downsample_scales_(linear|cubic)_align_corners")
ODD = ("object", "str", "float4", "float8")
HARDLY_ANY = 0.1


def runs(case: Any) -> str:
    """The operator that a refusal names; nothing where all is well."""
    import torch

    try:
        module, _ = torch_module(infer(bind_inputs(from_proto(case.model), {})))
    except ModelError as refused:
        assert any(node.op_type in str(refused) for node in case.model.graph.node), case.name
        return str(refused)
    for inputs, outputs in case.data_sets:
        with torch.no_grad():
            found = module(*map(tensor, inputs))
        for mine, theirs in zip([found] if len(outputs) == 1 else found, outputs, strict=True):
            same(array(mine), theirs, case.name)
    return ""


def same(mine: Any, theirs: Any, name: str) -> None:
    if isinstance(theirs, list):
        assert len(mine) == len(theirs), name
        for part, other in zip(mine, theirs, strict=True):
            same(part, other, name)
        return
    if theirs is None or mine is None:
        assert mine is theirs, name
        return
    assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), name
    a, b = (values.astype(np.float64) for values in (mine, theirs))
    largest = np.nanmax(np.abs(b[np.isfinite(b)]), initial=0.0)
    places = {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(theirs.dtype.name, 2.0**-23)  # the last one
    rtol = max(1e-3, 2 * places)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7 + 8 * places * largest, err_msg=name)


def is_number(case: Any) -> bool:
    def flat(value: Any) -> list[Any]:
        return [x for part in value for x in flat(part)] if isinstance(value, list | tuple) else [value]

    names = [np.asarray(v).dtype.name for sets in case.data_sets for v in flat(list(sets)) if v is not None]
    return not any(name.startswith(ODD) or name.endswith(("int2", "int4")) for name in names)


def test_every_third_case() -> None:
    counted = [
        c for c in operator_cases() if is_number(c) and not RANDOM.search(c.name) and not DISPUTED.search(c.name)
    ]
    counted = [c for c in counted if all(not node.domain for node in c.model.graph.node)]
    refused = {}
    with np.errstate(all="ignore"):
        for case in counted:
            if why := runs(case):
                refused[case.name] = why
    assert len(refused) < HARDLY_ANY * len(counted), refused


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_equal_elements_come_in_order(shape: tuple[int, ...]) -> None:
    import torch

    from amcc.backends.torch_ops.library.picks import top_k

    values, index = top_k(torch.ones(shape), 2, -1, True)
    assert values.shape[-1] == 2
    assert index.tolist() == torch.arange(2).expand(*shape[:-1], 2).tolist()
