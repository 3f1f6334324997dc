"""Losses."""

from __future__ import annotations

from amcc.backends.torch_ops.names import quoted
from amcc.backends.torch_ops.writer import Table, Writer, call
from amcc.ir import Node


def _options(w: Writer, node: Node) -> dict[str, str | None]:
    reduction = w.text(node, "reduction", "mean")
    ignored = node.attributes.get("ignore_index")
    return {
        "weight": w.optional(node, 2),
        "ignore_index": None if ignored is None else str(ignored),
        "reduction": None if reduction == "mean" else quoted(reduction),
    }


def _nll(w: Writer, node: Node) -> str:
    return call("F.nll_loss", w.tensor(node, 0), f"{w.tensor(node, 1)}.long()", **_options(w, node))


def _cross_entropy(w: Writer, node: Node) -> str:
    x, target = w.tensor(node, 0), f"{w.tensor(node, 1)}.long()"
    if len(node.outputs) > 1 and w.used(node.outputs[1]):
        logs = f"F.log_softmax({x}, 1)"
        return w.several(node, f"({call('F.nll_loss', logs, target, **_options(w, node))}, {logs})", 2)
    return call("F.cross_entropy", x, target, **_options(w, node))


EMITTERS: Table = {"NegativeLogLikelihoodLoss": _nll, "SoftmaxCrossEntropyLoss": _cross_entropy}
