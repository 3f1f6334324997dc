"""Small networks with an If, a Loop or a Scan in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)
WIDTH = 6


def weight(name: str, *shape: int) -> onnx.TensorProto:
    """A random weight."""
    return numpy_helper.from_array((RANDOM.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32), name)


def tensor(name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A described tensor."""
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    """A node; names are parted by spaces, `-` is a left-out one, and the first output gives the node its name."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, name=f"{op}_{names[1][0]}", **attributes)


def body(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    weights: Sequence[onnx.TensorProto] = (),
    name: str = "body",
) -> onnx.GraphProto:
    """A graph within a node."""
    return helper.make_graph(nodes, name, inputs, outputs, weights)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    """A checked model."""
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def two_branches(*, nested: bool = False, unlike: bool = False) -> onnx.ModelProto:
    """`x [2, 4]` through a layer, an If on an input, and a layer; the branches share the weight `shared`.

    Args:
        nested: the second branch is an If again.
        unlike: the second branch gives another width.
    """
    then = body(
        [node("MatMul", "h shared", "a"), node("Relu", "a", "b"), node("MatMul", "b out", "c")],
        [tensor("c", [2, WIDTH])],
        weights=[weight("out", 8, WIDTH)],
    )
    other = [node("MatMul", "h shared", "d"), node("Tanh", "d", "e"), node("MatMul", "e back", "f")]
    if unlike:
        otherwise = body([node("Concat", "h h", "f", axis=1)], [tensor("f", [2, 2 * WIDTH])])
    elif nested:
        choice = node(
            "If",
            "second",
            "g",
            then_branch=body(other, [tensor("f", [2, WIDTH])], weights=[weight("back", 8, WIDTH)]),
            else_branch=body([node("Sigmoid", "h", "s")], [tensor("s", [2, WIDTH])]),
        )
        otherwise = body([choice, node("Neg", "g", "n")], [tensor("n", [2, WIDTH])])
    else:
        otherwise = body(other, [tensor("f", [2, WIDTH])], weights=[weight("back", 8, WIDTH)])
    nodes = [
        node("MatMul", "x first", "h"),
        node("If", "first_only", "y", then_branch=then, else_branch=otherwise),
        node("ReduceSum" if unlike else "MatMul", "y axes" if unlike else "y last", "z"),
    ]
    inputs = [tensor("x", [2, 4]), tensor("first_only", [], TensorProto.BOOL)]
    if nested:
        inputs.append(tensor("second", [], TensorProto.BOOL))
    weights = [weight("first", 4, WIDTH), weight("shared", WIDTH, 8)]
    weights.append(numpy_helper.from_array(np.array([1]), "axes") if unlike else weight("last", WIDTH, 3))
    return model(nodes, inputs, [tensor("z", [2, 1 if unlike else 3])], weights)


def cell(element: str, state: str, after: str) -> list[onnx.NodeProto]:
    """A step of an RNN: `after = tanh(element U + state V + bias)`."""
    return [
        node("MatMul", f"{element} U", "from_element"),
        node("MatMul", f"{state} V", "from_state"),
        node("Add", "from_element from_state", "both"),
        node("Add", "both bias", "summed"),
        node("Tanh", "summed", after),
    ]


def cell_weights() -> list[onnx.TensorProto]:
    """Of the cell, and of a layer before and one behind."""
    return [
        weight("U", 5, WIDTH),
        weight("V", WIDTH, WIDTH),
        weight("bias", WIDTH),
        weight("before", 4, 5),
        weight("after", WIDTH, 3),
    ]


def scanned(axis: int = 0, *, reverse: bool = False) -> onnx.ModelProto:
    """`x [2, 7, 4]` through a layer, an RNN as a Scan and a layer on all steps and on the last state.

    Args:
        axis: of the steps where the Scan reads them.
        reverse: from the last step to the first, and stacked in that order too.
    """
    step = body(
        [*cell("element", "state", "next"), node("Identity", "next", "seen")],
        [tensor("next", [2, WIDTH]), tensor("seen", [2, WIDTH])],
        [tensor("state", [2, WIDTH]), tensor("element", [2, 5])],
    )
    given = {
        f"scan_{way}_{what}": [value]
        for way in ("input", "output")
        for what, value in (("axes", axis), ("directions", int(reverse)))
    }
    scan = node("Scan", "zero mixed", "final all", num_scan_inputs=1, body=step, **given)
    nodes = [
        node("MatMul", "x before", "early"),
        node("Transpose", "early", "mixed", perm=[1, 0, 2] if axis == 0 else [0, 1, 2]),
        scan,
        node("MatMul", "all after", "y"),
        node("MatMul", "final after_state", "z"),
    ]
    shape = [7, 2] if axis == 0 else [2, 7]
    zero = numpy_helper.from_array(np.zeros((2, WIDTH), np.float32), "zero")
    weights = [*cell_weights(), weight("after_state", WIDTH, 2), zero]
    return model(nodes, [tensor("x", [2, 7, 4])], [tensor("y", [*shape, 3]), tensor("z", [2, 2])], weights)


def looped(stop: str = "count", *, growing: bool = False) -> onnx.ModelProto:
    """An RNN as a Loop over the steps of `x [2, 7, 4]` that hands its weight V through, and stacks its states.

    Args:
        stop: `"count"` after a constant number of steps, `"counter"` as soon as a counter among the states says so,
            `"data"` as soon as the state says so.
        growing: the state grows from step to step.
    """
    nodes = [node("Gather", "mixed i", "element", axis=0), node("ReduceMean", "state", "one_state", axes=[0])]
    nodes = (
        [*nodes, *cell("element", "one_state", "next")] if growing else [*nodes[:1], *cell("element", "state", "next")]
    )
    nodes += [node("Add", "counter one", "more"), node("Identity", "V", "V_out")]
    nodes.append(
        {
            "count": node("Identity", "go", "on"),
            "counter": node("Less", "more five", "on"),
            "data": node("Less", "largest limit", "on"),
        }[stop]
    )
    if stop == "data":
        nodes[-1:-1] = [node("ReduceMax", "next", "largest", keepdims=0)]
    after = "next"
    if growing:
        nodes.append(node("Concat", "state next", "longer", axis=0))
        after = "longer"
    bool_, long = TensorProto.BOOL, TensorProto.INT64
    step = body(
        nodes,
        [
            tensor("on", [], bool_),
            tensor(after, ["n" if growing else 2, WIDTH]),
            tensor("more", [], long),
            tensor("V_out", [WIDTH, WIDTH]),
            tensor("next", [2, WIDTH]),
        ],
        [
            tensor("i", [], long),
            tensor("go", [], bool_),
            tensor("state", ["m" if growing else 2, WIDTH]),
            tensor("counter", [], long),
            tensor("V", [WIDTH, WIDTH]),
        ],
    )
    weights = cell_weights()
    weights[1].name = "recurrent"
    constants = {
        "zero": np.zeros((2, WIDTH), np.float32),
        "trips": np.array(7),
        "none": np.array(0),
        "one": np.array(1),
        "five": np.array(5),
        "limit": np.array(0.999, np.float32),
        "true": np.array(True),
    }
    weights += [numpy_helper.from_array(array, name) for name, array in constants.items()]
    nodes = [
        node("MatMul", "x before", "early"),
        node("Transpose", "early", "mixed", perm=[1, 0, 2]),
        node("Loop", "trips true zero none recurrent", "final counted handed all", body=step),
        node("ReduceMean", "all", "mean", axes=[0]),
        node("Add", "mean final", "sum") if not growing else node("ReduceMean", "final", "sum", axes=[0]),
        node("MatMul", "sum after", "y"),
    ]
    return model(nodes, [tensor("x", [2, 7, 4])], [tensor("y", [1, 3] if growing else [1, 2, 3])], weights)


def for_one_length() -> onnx.ModelProto:
    """`x [batch, n, 4]` through a layer and an If on an input: its second branch is for `n = 3` alone."""
    then = body(
        [node("MatMul", "h wide", "a"), node("Relu", "a", "b"), node("MatMul", "b out", "c")],
        [tensor("c", ["batch", "n", 3])],
        weights=[weight("wide", WIDTH, 8), weight("out", 8, 3)],
    )
    other = body(
        [node("MatMul", "h other", "d"), node("Mul", "d three", "e")],
        [tensor("e", ["batch", "n", 3])],
        weights=[weight("other", WIDTH, 3), weight("three", 3, 1)],
    )
    nodes = [node("MatMul", "x first", "h"), node("If", "flag", "y", then_branch=then, else_branch=other)]
    inputs = [tensor("x", ["batch", "n", 4]), tensor("flag", [], TensorProto.BOOL)]
    return model(nodes, inputs, [tensor("y", ["batch", "n", 3])], [weight("first", 4, WIDTH)])


def nested_loops(inner: str) -> onnx.ModelProto:
    """`x [2, 5, 4]` through a layer and a Loop of three steps, each with an If or another Loop in it; and a layer.

    Args:
        inner: `"if"` chooses by the step's number between two layers of the state, `"loop"` repeats one.
    """
    bool_, long = TensorProto.BOOL, TensorProto.INT64
    state = [2, 5, WIDTH]
    if inner == "if":
        branches = [
            body([node("MatMul", f"state {w}", f"m_{w}"), node(op, f"m_{w}", f"n_{w}")], [tensor(f"n_{w}", state)])
            for w, op in (("V", "Tanh"), ("W", "Relu"))
        ]
        steps = [
            node("Equal", "i one", "is_one"),
            node("If", "is_one", "chosen", then_branch=branches[0], else_branch=branches[1]),
            node("Add", "chosen h", "next"),
        ]
    else:
        step = body(
            [
                node("MatMul", "held V", "product"),
                node("Add", "product state", "sum"),
                node("Tanh", "sum", "bent"),
                node("Identity", "keep", "kept"),
            ],
            [tensor("kept", [], bool_), tensor("bent", state)],
            [tensor("j", [], long), tensor("keep", [], bool_), tensor("held", state)],
        )
        steps = [node("Loop", "two - state", "inner", body=step), node("MatMul", "inner W", "next")]
    steps.append(node("Identity", "go", "on"))
    outer = body(
        steps,
        [tensor("on", [], bool_), tensor("next", state)],
        [tensor("i", [], long), tensor("go", [], bool_), tensor("state", state)],
    )
    numbers = {"one": np.array(1), "two": np.array(2), "three": np.array(3)}
    weights = [
        weight("first", 4, WIDTH),
        weight("V", WIDTH, WIDTH),
        weight("W", WIDTH, WIDTH),
        weight("last", WIDTH, 3),
    ]
    return model(
        [
            node("MatMul", "x first", "h"),
            node("Loop", "three - h", "final", body=outer),
            node("MatMul", "final last", "y"),
        ],
        [tensor("x", [2, 5, 4])],
        [tensor("y", [2, 5, 3])],
        [*weights, *(numpy_helper.from_array(array, name) for name, array in numbers.items())],
    )


def loop_in_a_branch() -> onnx.ModelProto:
    """`x [2, 5, 4]` through a layer, then the mean of its steps or an RNN over them, and a layer."""
    line = [2, WIDTH]
    step = body(
        [*cell("element", "state", "next")], [tensor("next", line)], [tensor("state", line), tensor("element", [2, 5])]
    )
    zero = numpy_helper.from_array(np.zeros(line, np.float32), "zero")
    then = body(
        [node("Scan", "zero early", "r", num_scan_inputs=1, body=step, scan_input_axes=[1])],
        [tensor("r", line)],
        weights=[zero],
    )
    other = body(
        [node("ReduceMean", "early", "mean", axes=[1], keepdims=0), node("MatMul", "mean mix", "m")],
        [tensor("m", line)],
        weights=[weight("mix", 5, WIDTH)],
    )
    return model(
        [
            node("MatMul", "x before", "early"),
            node("If", "flag", "y", then_branch=then, else_branch=other),
            node("MatMul", "y after", "z"),
        ],
        [tensor("x", [2, 5, 4]), tensor("flag", [], TensorProto.BOOL)],
        [tensor("z", [2, 3])],
        cell_weights(),
    )


def drawing() -> onnx.ModelProto:
    """`x [2, 4]` through a Loop that adds noise and a layer of its own."""
    step = body(
        [
            node("MatMul", "state square", "mixed"),
            node("RandomNormalLike", "mixed", "noise"),
            node("Add", "mixed noise", "next"),
            node("Identity", "go", "on"),
        ],
        [tensor("on", [], TensorProto.BOOL), tensor("next", [2, 4])],
        [tensor("i", [], TensorProto.INT64), tensor("go", [], TensorProto.BOOL), tensor("state", [2, 4])],
    )
    trips = numpy_helper.from_array(np.array(3), "trips")
    return model(
        [node("Loop", "trips - x", "y", body=step)],
        [tensor("x", [2, 4])],
        [tensor("y", [2, 4])],
        [weight("square", 4, 4), trips],
    )
