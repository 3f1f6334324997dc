"""Sliding windows: kernel, strides, dilations and padding of convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amcc.backends.torch_ops.writer import Writer, compact, spelled
from amcc.ir import Node, Shape


@dataclass(frozen=True)
class Window:
    """One number a spatial axis.

    Attributes:
        begin: padding before each axis; with `end` None when it depends on a size unknown until run time.
        end: padding after each axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether both sides are padded alike, by nothing negative."""
        return self.begin == self.end and min(self.begin, default=0) >= 0

    def options(self) -> dict[str, str | None]:
        """Arguments that differ from PyTorch's defaults for a convolution."""
        return {
            "stride": None if set(self.strides) <= {1} else compact(self.strides),
            "padding": compact(self.begin) if self.symmetric and any(self.begin) else None,
            "dilation": None if set(self.dilations) <= {1} else compact(self.dilations),
        }


def window(w: Writer, node: Node, kernel: Sequence[int], *, fixed: Sequence[int] | None = None) -> Window:
    """The window of a node whose input 0 is `[N, C, *spatial]`.

    Args:
        fixed: paddings (begins, then ends) that stand in for the attribute.

    Raises:
        ModelError: automatic padding of an axis whose size is unknown.
    """
    count = len(kernel)

    def listed(name: str, default: int) -> tuple[int, ...]:
        given = node.attributes.get(name)
        return tuple(int(i) for i in given) if isinstance(given, tuple) else (default,) * count

    strides, dilations = listed("strides", 1), listed("dilations", 1)
    pads = node.attributes.get("pads")
    begin = end = (0,) * count
    mode = w.text(node, "auto_pad", "NOTSET")
    if fixed is None and mode == "NOTSET" and isinstance(pads, tuple):
        fixed = [int(i) for i in pads]
    if fixed is not None:
        begin, end = tuple(fixed[:count]), tuple(fixed[count:])
    elif mode.startswith("SAME"):
        spatial = _known(w, node, w.shape(node), strides)
        begin, end = _same(spatial, kernel, strides, dilations, upper=mode == "SAME_UPPER")
    return Window(tuple(kernel), strides, dilations, begin, end)


def _known(w: Writer, node: Node, shape: Shape, strides: Sequence[int]) -> list[int]:
    """The spatial sizes; any size does where the stride is 1."""
    sizes: list[int] = []
    for dim, stride in zip(shape[2:], strides, strict=True):
        if not isinstance(dim, int) and stride != 1:
            raise w.unsupported(node, f"with auto_pad over an axis of unknown size {dim}")
        sizes.append(dim if isinstance(dim, int) else 0)
    return sizes


def _same(
    spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], *, upper: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    begin, end = [], []
    for size, k, s, d in zip(spatial, kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        begin.append(less if upper else more)
        end.append(more if upper else less)
    return tuple(begin), tuple(end)


def padded(x: str, begin: Sequence[int], end: Sequence[int], value: str = "") -> str:
    """`x` padded along its last axes; `F.pad` counts from the last axis."""
    if not any(begin) and not any(end):
        return x
    pairs = [p for b, e in zip(reversed(begin), reversed(end), strict=True) for p in (b, e)]
    return f"F.pad({x}, {spelled(pairs)}{f', value={value}' if value else ''})"
