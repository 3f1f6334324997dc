"""What of the original the smaller network is to match: outputs, and values between blocks.

A softmax at the end is looked through: what is compared are the numbers that it is given. Values between blocks are
those at which nothing else is alive (He et al. 2018, AMC, distil nothing; this is FitNets' idea, Romero et al. 2014,
arXiv 1412.6550, without its regressor: the channels that a plan keeps correspond one to one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amcc.data import class_count
from amcc.ir import Array, Graph, Node
from amcc.passes.recovery.linear import linears

FEATURES = 4
"""Places between blocks that are compared, at most."""


@dataclass(frozen=True)
class Target:
    """A value of both networks.

    Attributes:
        classes: the axis of class scores, which are compared as probabilities; None for numbers, which are compared
            by their squared difference.
        labelled: whether labels speak of it.
        kept: for each axis that is shorter in the smaller network, the original's indices.
        feature: whether it lies between blocks.
    """

    name: str
    classes: int | None = None
    labelled: bool = False
    kept: tuple[tuple[int, Array], ...] = ()
    feature: bool = False


def targets(
    student: Graph,
    original: Graph,
    kept: Mapping[tuple[str, int], Array],
    *,
    labelled: bool,
    features: bool,
) -> tuple[Target, ...]:
    """What to compare, outputs first.

    Args:
        kept: the original's indices that stay, for each (value, axis) that is shorter; see `Channels.kept`.
        labelled: whether there are class numbers for the first output.
        features: whether values between blocks are wanted.
    """
    found: dict[str, Target] = {}
    for place, output in enumerate(student.outputs):
        name, classes = _scores(student, original, output)
        first = labelled and place == 0 and class_count(student) is not None
        if classes is None and first:
            classes = 1
        if (target := _target(student, original, kept, name)) is not None:
            found.setdefault(name, Target(name, classes, first, target.kept))
    for name in _between(student, original) if features else ():
        target = _target(student, original, kept, name)
        if target is not None and name not in found:
            found[name] = target
    return tuple(found.values())


def _scores(student: Graph, original: Graph, output: str) -> tuple[str, int | None]:
    """What a softmax at the end is given, and its axis; else the output itself."""
    node, other = student.producers.get(output), original.producers.get(output)
    if node is None or other is None or node.op != other.op or node.op not in ("Softmax", "LogSoftmax"):
        return output, None
    shape, name = student.values[node.inputs[0]].shape, node.inputs[0]
    given = node.attributes.get("axis", -1 if student.opset >= 13 else 1)
    if shape is None or other.inputs[0] != name or not isinstance(given, int):
        return output, None
    axis = given % len(shape)
    return (name, axis) if student.opset >= 13 or axis == len(shape) - 1 else (output, None)


def _target(student: Graph, original: Graph, kept: Mapping[tuple[str, int], Array], name: str) -> Target | None:
    """A value as a target, if both networks have it as floats and the shapes fit by what is kept."""
    mine, theirs = student.values.get(name), original.values.get(name)
    if mine is None or theirs is None or name in student.params or name in student.inputs:
        return None
    if mine.shape is None or theirs.shape is None or len(mine.shape) != len(theirs.shape):
        return None
    if mine.dtype not in ("float32", "float16", "bfloat16", "float64") or name not in original.producers:
        return None
    shorter = []
    for axis, (own, whole) in enumerate(zip(mine.shape, theirs.shape, strict=True)):
        if (name, axis) in kept:
            if len(kept[name, axis]) != own:
                return None
            shorter.append((axis, kept[name, axis]))
        elif own != whole and isinstance(own, int) and isinstance(whole, int):
            return None
    return Target(name, kept=tuple(shorter), feature=True)


def _between(student: Graph, original: Graph) -> list[str]:
    """Values at which nothing else is alive, one between two operators with weights, spread evenly."""
    order = student.nodes
    last: dict[str, int] = {name: len(order) for name in student.outputs}
    for place, node in reversed(list(enumerate(order))):
        for name in node.reads:
            last.setdefault(name, place)
    alive = {name for name in student.inputs if name in last}
    weighted = set(linears(student))
    found: list[str] = []
    at: str | None = None
    for place, node in enumerate(order):
        if node.name in weighted and at is not None:
            found.append(at)
            at = None
        alive = {name for name in (*alive, *node.outputs) if last.get(name, -1) > place}
        if len(alive) == 1 and _large(student, node, alive):
            at = next(iter(alive))
    candidates = [name for name in found if name in original.producers and name not in student.inputs]
    count = min(FEATURES, len(candidates))
    return [candidates[(2 * place + 1) * len(candidates) // (2 * count)] for place in range(count)]


def _large(graph: Graph, node: Node, alive: set[str]) -> bool:
    """Whether the one value alive was just made and has more than one axis besides the batch, or one of channels."""
    name = next(iter(alive))
    shape = graph.values[name].shape
    return name in node.outputs and shape is not None and len(shape) > 1
