"""Tensors of an ONNX file as read-only arrays: raw bytes without a copy, external data memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amcc.errors import ModelError
from amcc.ir import Array, frozen

if TYPE_CHECKING:
    import onnx


class TensorReader:
    """Reads the tensors of one model; each external file is mapped once.

    Args:
        model: the model's file; external data must lie in its folder. A large model's weights are
            external data of the model file itself (`onnx_file.read_model`).
    """

    def __init__(self, model: Path) -> None:
        self.model = model
        self.folder = model.parent.resolve()
        self._files: dict[str, Array] = {}

    def read(self, tensor: onnx.TensorProto, name: str) -> Array:
        """The tensor's array.

        Raises:
            ModelError: names the tensor: its data is missing, outside the folder, cut short or malformed.
        """
        from onnx import TensorProto, helper, numpy_helper

        where = f"tensor '{name}'"
        if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
            raise ModelError(f"unknown element type {tensor.data_type}", where=where)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        if min(shape, default=0) < 0:
            raise ModelError(f"has a negative dimension: {list(shape)}", where=where)
        raw: Array | bytes | None = None
        if tensor.data_location == TensorProto.EXTERNAL:
            raw = self.raw(tensor, where)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
        try:
            if raw is None or _packed(tensor.data_type):
                if raw is not None:
                    inline = TensorProto(data_type=tensor.data_type, dims=shape, raw_data=bytes(raw))
                    return frozen(numpy_helper.to_array(inline))
                return frozen(numpy_helper.to_array(tensor))
            array = np.frombuffer(raw, dtype=dtype, count=int(np.prod(shape)))
            return frozen(array.reshape(shape))
        except (ValueError, TypeError) as error:
            raise ModelError(f"its data does not fill {dtype.name}{list(shape)}: {error}", where=where) from None

    def raw(self, tensor: onnx.TensorProto, where: str) -> Array:
        """The bytes of an external tensor, as a view of the mapped file."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        data = self._map(location, where)
        try:
            offset = int(entries.get("offset", "0") or 0)
            length = int(entries["length"]) if entries.get("length") else data.size - offset
        except ValueError:
            raise ModelError(f"external data has a broken offset or length: {entries}", where=where) from None
        if offset < 0 or length < 0 or offset + length > data.size:
            raise ModelError(
                f"external data asks for bytes {offset} to {offset + length} of '{location}', which has {data.size}",
                where=where,
                hint="the file is cut short or belongs to another model; copy it again",
            )
        return data[offset : offset + length]

    def _map(self, location: str, where: str) -> Array:
        if location not in self._files:
            path = self.model if location == self.model.name else (self.folder / location).resolve()
            if not location or not (path is self.model or path.is_relative_to(self.folder)):
                raise ModelError(
                    f"external data '{location}' lies outside the model's folder",
                    where=where,
                    hint="put the data file beside the model and save it with a relative location",
                )
            if not path.is_file():
                raise ModelError(
                    f"external data file '{location}' is missing",
                    where=where,
                    hint=f"put it into {self.folder}",
                )
            empty = path.stat().st_size == 0
            mapped = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, mode="r")
            self._files[location] = np.asarray(mapped)
        return self._files[location]


def _packed(data_type: int) -> bool:
    """Whether several elements share a byte, or elements have no fixed width."""
    from onnx import TensorProto, helper

    if data_type == TensorProto.STRING:
        return True
    name = helper.tensor_dtype_to_string(data_type)
    return any(name.endswith(suffix) for suffix in ("INT4", "INT2", "FLOAT4E2M1", "FLOAT6E2M3", "FLOAT6E3M2"))
