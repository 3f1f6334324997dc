from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.backends.runtime import Session
from amcc.errors import VerificationError
from amcc.frontends.from_onnx import from_onnx
from amcc.ir import Graph, Node, Value, verify
from amcc.passes.extract import sub_graph
from amcc.passes.shapes import infer
from tests.onnx_models import drawn, save
from tests.random_graphs import random_network


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 10), st.data())
def test_a_part_computes_what_the_whole_computes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, length: int, data: st.DataObject
) -> None:
    made = random_network(seed, length, dynamic=False, bodies=False)
    graph = infer(from_onnx(save(made, tmp_path_factory.mktemp("random"))))
    made = sorted(graph.producers)
    wanted = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    cut = data.draw(st.lists(st.sampled_from(made), max_size=4, unique=True))
    whole = Session(graph, outputs=sorted({*cut, *wanted}), threads=1).run({"x": drawn(*map(int, graph.shape("x")))})
    feeds = {"x": drawn(*map(int, graph.shape("x")))} | {name: whole[name] for name in cut}
    part = sub_graph(graph, list(feeds), wanted)
    found = Session(part, threads=1).run({name: feeds[name] for name in part.inputs})
    for name in wanted:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-4, atol=1e-4)


def chain() -> Graph:
    nodes = (
        Node("split", "Split", ("x",), ("a", "b"), {"axis": 0}),
        Node("relu", "Relu", ("a",), ("c",)),
        Node("add", "Add", ("b", "c"), ("y",)),
    )
    values = {name: Value(name, "float32", (4 if name == "x" else 2,)) for name in "xabcy"}
    return Graph(nodes, ("x",), ("y",), values, {}, {"": 11})


def test_only_what_is_between_is_kept() -> None:
    part = sub_graph(chain(), ["a"], ["c"])
    assert [n.name for n in part.nodes] == ["relu"]
    assert (part.inputs, part.outputs, set(part.values)) == (("a",), ("c",), {"a", "c"})


def test_a_node_whose_other_output_is_fed() -> None:
    part = sub_graph(chain(), ["x", "a"], ["y"])
    verify(part)
    assert part.nodes[0].outputs == ("a.made", "b")
    x, a = np.array([1, 2, 3, 4], np.float32), np.array([-5, 7], np.float32)
    assert Session(part, threads=1).run({"x": x, "a": a})["y"].tolist() == [3, 11]


def test_unneeded_inputs_are_left_out_and_fed_outputs_pass_through() -> None:
    part = sub_graph(chain(), ["x", "b", "c"], ["y", "c"])
    assert part.inputs == ("b", "c")
    assert [n.name for n in part.nodes] == ["add"]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(VerificationError, match="'x' is needed"):
        sub_graph(chain(), ["b"], ["y"])
    with pytest.raises(VerificationError, match="no value 'ghost'"):
        sub_graph(chain(), ["x"], ["ghost"])
