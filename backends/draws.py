"""Random operators made to draw the same numbers in every session.

A network may draw: ViTMAE masks patches by noise, a sampler picks tokens. Two graphs that are compared, or two
candidates that are scored, must see the same numbers. What is shipped keeps drawing as the user wrote it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from amcc.passes.bodies import inner_bodies

if TYPE_CHECKING:
    import onnx

_DRAWING = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_SEEDS = 1 << 20  # as many as a float32 attribute tells apart, and some spare


def settle(model: onnx.ModelProto) -> None:
    """Give every random node without a seed, in bodies too, one that follows from its output's name."""
    import onnx

    for node in _nodes(model.graph):
        if not _draws(node) or any(attribute.name == "seed" for attribute in node.attribute):
            continue
        seed = zlib.crc32(node.output[0].encode()) % _SEEDS
        node.attribute.append(onnx.helper.make_attribute("seed", seed if node.op_type == "Dropout" else float(seed)))


def _draws(node: onnx.NodeProto) -> bool:
    """Whether a node may draw; Dropout does so when it is told that this is training, by its third input."""
    return not node.domain and (node.op_type in _DRAWING or (node.op_type == "Dropout" and len(node.input) > 2))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in inner_bodies(attribute):
                yield from _nodes(body)
