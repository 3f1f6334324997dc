"""Reading `.npz` without pickle; arrays stored uncompressed stay on disk until they are used."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from amcc.errors import DataError
from amcc.ir import Array


class Npz(Mapping[str, Array]):
    """The arrays of a file by name."""

    def __init__(self, path: Path, members: Mapping[str, zipfile.ZipInfo]) -> None:
        self._path = path
        self._members = members

    def __getitem__(self, name: str) -> Array:
        info = self._members[name]
        try:
            if info.compress_type == zipfile.ZIP_STORED:
                return _mapped(self._path, info)
            with np.load(self._path, allow_pickle=False) as archive:
                return np.asarray(archive[name])
        except ValueError as error:
            if "pickle" in str(error).lower() or "object" in str(error).lower():
                raise DataError(
                    f"array '{name}' holds Python objects; amcc reads plain arrays only", where=str(self._path)
                ) from error
            raise DataError(f"array '{name}' cannot be read", where=str(self._path)) from error
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
            raise DataError(f"array '{name}' cannot be read; the file is damaged", where=str(self._path)) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def open_npz(path: Path) -> Npz:
    """Open an `.npz` file.

    Raises:
        DataError: it is no `.npz` file, or a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
    except zipfile.BadZipFile as error:
        raise DataError(
            "not an .npz file, or a damaged one", where=str(path), hint="write it with numpy.savez"
        ) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return Npz(path, members)


def _mapped(path: Path, info: zipfile.ZipInfo) -> Array:
    """Map a stored member: behind its local header lies a plain `.npy` file."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        local = file.read(30)
        if len(local) < 30 or local[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile("local header")
        name_length, extra_length = struct.unpack("<HH", local[26:30])
        file.seek(info.header_offset + 30 + name_length + extra_length)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("object array")
        offset = file.tell()
    if 0 in shape or not shape:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[info.filename.removesuffix(".npy")])
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
