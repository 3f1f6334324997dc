"""The plan: which units of which groups go, and what that makes of every node. `plan.json`.

A plan names parameters and indices, so that it can be put on the same file, on its PyTorch twin or
on a retrained checkpoint (`amcc.planning.removal_of`). It can be edited by hand: change `removed`
and `kept` of a group and delete its `slices`, which are worked out again.

Where weights go and not channels, the plan says how many of each layer, and a file of bits beside it which ones.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, SerializerFunctionWrapHandler, model_serializer, model_validator

from amcc.errors import PlanError
from amcc.ir import Array, Graph
from amcc.jsontext import Document, Filed

Index = Annotated[int, Field(ge=0)]
Indices = tuple[Index, ...]


class PlanGroup(Document):
    """What happens to one group.

    Attributes:
        size: units that the group has.
        kept: units that stay, at least one.
        removed: the units that go, ascending.
        slices: for every parameter and axis that the group cuts, the indices that go; None where a
            person deleted it.
        inexact: cutting it changes what other channels hold.
    """

    name: str
    size: Annotated[int, Field(ge=1)]
    kept: Annotated[int, Field(ge=1)]
    removed: Indices
    slices: dict[str, dict[Index, Indices]] | None = None
    inexact: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> PlanGroup:
        _check_ascending("removed", self.removed)
        if self.removed and self.removed[-1] >= self.size:
            raise ValueError(f"removed: there is no unit {self.removed[-1]} in a group of {self.size}")
        if self.kept + len(self.removed) != self.size:
            raise ValueError(f"kept is {self.kept} and {len(self.removed)} units are removed, of {self.size}")
        for param, axes in (self.slices or {}).items():
            for axis, indices in axes.items():
                _check_ascending(f"slices.{param}.{axis}", indices)
        return self


class PlanLayer(Document):
    """What stays of one linear layer's weights.

    Attributes:
        param: the parameter's name, `shape` its shape, and `outputs` the axis along which outputs lie.
        weights: how many there are, and `kept` how many stay.
        sparsity: share that goes.
    """

    name: str
    param: str
    shape: Indices
    outputs: Index
    weights: Annotated[int, Field(ge=1)]
    kept: Annotated[int, Field(ge=0)]
    sparsity: Annotated[float, Field(ge=0, le=1)]


class PlanSparsity(Document):
    """Which weights go.

    Attributes:
        granularity: `weight`, `2:4` or the like, `block=4x1` or the like.
        layers: all whose weights may go.
        sha256: of the file with the masks.
    """

    granularity: str
    layers: tuple[PlanLayer, ...]
    sha256: str


class PlanNode(Document):
    """What the plan makes of one node.

    Attributes:
        macs: multiply-accumulates of the node before.
        sparsity: share of its multiply-accumulates that goes; for a node without any, the share of
            its output elements.
    """

    name: str
    op: str
    macs: Index
    sparsity: Annotated[float, Field(ge=0, le=1)]


class PlanWeight(Document):
    """What a weight is known by in other exports of the network, see `amcc.passes.twins`."""

    path: str
    shape: tuple[int, ...]
    out: Index


class PlanInput(Document):
    """An input that the network was analysed with; a text in the shape is a free dimension."""

    dtype: str
    shape: tuple[int | str, ...]


class Plan(Filed):
    """A whole plan.

    Attributes:
        fingerprint: of the model's structure, see `fingerprint`.
        model: the model's file or name, for people.
        budget: as asked.
        policy: which one found it.
        exact: whether groups whose units cannot go exactly were left out.
        sparsity: which weights go; left out where channels do.
        inputs: of the network, by name, in order.
        weights: for weights that are cut, what they are known by where their names are others.
    """

    FILE: ClassVar = "plan.json"
    ERROR: ClassVar = PlanError

    version: Literal[1] = 1
    fingerprint: str
    model: str
    budget: str
    policy: str
    seed: int
    exact: bool = False
    inputs: dict[str, PlanInput] = Field(default_factory=dict)
    weights: dict[str, PlanWeight] = Field(default_factory=dict)
    groups: tuple[PlanGroup, ...]
    nodes: tuple[PlanNode, ...] = ()
    sparsity: PlanSparsity | None = None

    _packed: bytes = PrivateAttr(default=b"")

    @property
    def masks(self) -> dict[str, Array]:
        """For the parameter of each layer that loses weights, bool of its shape: what stays."""
        if self.sparsity is None:
            return {}
        return unpacked(self._packed, {layer.param: layer.shape for layer in self.sparsity.layers})

    def with_masks(self, file: bytes) -> Self:
        """The plan with the content of its file of masks.

        Raises:
            PlanError: it is not that file.
        """
        assert self.sparsity is not None
        if hashlib.sha256(file).hexdigest() != self.sparsity.sha256:
            raise PlanError("it is not the file of masks that belongs to this plan")
        found = self.model_copy()
        found._packed = file
        return found

    def write(self, path: Path, masks: Path | None = None) -> None:
        """Write the file, and where weights go the masks beside it, or at `masks`."""
        super().write(path)
        if self.sparsity is not None:
            (masks or masks_file(path)).write_bytes(self._packed)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file, or the one in an output folder, and its masks.

        Raises:
            PlanError: it cannot be read or breaks the schema; names the place in it.
        """
        plan = super().read(path)
        if plan.sparsity is None:
            return plan
        beside = masks_file(path / cls.FILE if path.is_dir() else path)
        try:
            return plan.with_masks(beside.read_bytes())
        except OSError as error:
            hint = "plan and masks belong together: move both"
            raise PlanError(f"the masks cannot be read: {error.strerror}", where=str(beside), hint=hint) from None
        except PlanError as error:
            raise PlanError(error.message, where=str(beside)) from None

    @model_serializer(mode="wrap")
    def _without_no_sparsity(self, standard: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = standard(self)
        if self.sparsity is None:
            del content["sparsity"]
        return content

    @model_validator(mode="after")
    def _names_once(self) -> Plan:
        seen: set[str] = set()
        for group in self.groups:
            if group.name in seen:
                raise ValueError(f"groups: '{group.name}' is there twice")
            seen.add(group.name)
        return self


def masks_file(plan: Path) -> Path:
    """Where the masks of a plan lie: `masks.safetensors` beside `plan.json`, else under the plan's own name."""
    return plan.with_name("masks.safetensors" if plan.name == Plan.FILE else f"{plan.stem}.masks.safetensors")


def packed(masks: Mapping[str, Array]) -> bytes:
    """Masks as a safetensors file: for each parameter its bits, in C order, eight to a byte, the first one highest."""
    from safetensors.numpy import save

    return save({name: np.packbits(mask.reshape(-1)) for name, mask in masks.items()})


def unpacked(file: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The masks in a file of `packed`, in the order of the shapes.

    Raises:
        PlanError: it is damaged, or holds a mask of another size.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        bits = load(file)
    except SafetensorError as error:
        raise PlanError(f"the masks cannot be read: {error}") from None
    if strangers := sorted(bits.keys() - shapes.keys()):
        raise PlanError(f"the masks do not belong to this plan: it does not know '{strangers[0]}'")
    found = {}
    for name in (name for name in shapes if name in bits):
        array, size = bits[name], math.prod(shapes[name])
        if array.dtype != np.uint8 or array.shape != (-(-size // 8),):
            raise PlanError(f"the masks do not belong to this plan: '{name}' is not of the size that it says")
        found[name] = np.unpackbits(array, count=size).reshape(shapes[name]).astype(bool)
    return found


def fingerprint(graph: Graph) -> str:
    """SHA-256 over the structure: operators, wiring, names, shapes and types, not the weights."""
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        digest.update(repr(parts).encode())

    add(graph.inputs, graph.outputs)
    for name in (*graph.inputs, *sorted(graph.params)):
        value = graph.values[name]
        add(name, value.dtype, value.shape)
    for node in graph.nodes:
        add(node.domain, node.op, node.inputs, node.outputs)
    return digest.hexdigest()


def _check_ascending(what: str, indices: Indices) -> None:
    if any(b <= a for a, b in pairwise(indices)):
        raise ValueError(f"{what}: indices must be ascending, each once")
