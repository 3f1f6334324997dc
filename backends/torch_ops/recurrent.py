"""Recurrent layers."""

from __future__ import annotations

from amcc.backends.torch_ops.names import quoted
from amcc.backends.torch_ops.writer import Emitter, Table, Writer, call, spelled
from amcc.ir import Node

_ACTIVATIONS = {
    "relu": "F.relu",
    "sigmoid": "torch.sigmoid",
    "softplus": "F.softplus",
    "softsign": "F.softsign",
    "tanh": "torch.tanh",
}
_REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def _recurrent(name: str, inputs: int, usual: tuple[str, ...], outputs: int) -> Emitter:
    """One of the three.

    Args:
        inputs: how many it may have.
        usual: activations of a direction.
    """

    def emit(w: Writer, node: Node) -> str:
        way = w.text(node, "direction", "forward")
        if way not in _REVERSE:
            raise w.unsupported(node, f"in direction {quoted(way)}")
        given = node.attributes.get("activations")
        called = [str(a).lower() for a in given] if isinstance(given, tuple) else [*usual] * len(_REVERSE[way])
        if unknown := [a for a in called if a not in _ACTIVATIONS]:
            raise w.unsupported(node, f"with activation {quoted(unknown[0])}")
        options: dict[str, str | None] = {
            "clip": w.real(node, "clip", 0.0) if "clip" in node.attributes else None,
            "coupled": "True" if w.flag(node, "input_forget", 0) else None,
            "reset_after": "True" if w.flag(node, "linear_before_reset", 0) else None,
            "batch_first": "True" if w.flag(node, "layout", 0) else None,
        }
        code = call(
            w.helper(name),
            *(w.tensor(node, i) for i in range(3)),
            *(w.optional(node, i) or "None" for i in range(3, inputs)),
            spelled([_ACTIVATIONS[a] for a in called]),
            spelled(_REVERSE[way]),
            **options,
        )
        if not w.used(node.outputs[0]) and len(node.outputs) > 1:
            w.current.several = outputs
            return code
        return w.several(node, code, outputs)

    return emit


EMITTERS: Table = {
    "GRU": _recurrent("gru", 6, ("sigmoid", "tanh"), 2),
    "LSTM": _recurrent("lstm", 8, ("sigmoid", "tanh", "tanh"), 3),
    "RNN": _recurrent("rnn", 6, ("tanh",), 2),
}
