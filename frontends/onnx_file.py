"""The ONNX file itself: is it one, is it whole, is its version known, and bring it up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amcc.errors import ModelError
from amcc.passes.wire import WireError, outline

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 7
# Bytes of the smallest file whose weights are mapped instead of read.
_MAPPED_FROM = 1 << 26
_AGAIN = "export or copy the model again"


def read_model(path: Path) -> onnx.ModelProto:
    """The parsed file, without its external data, functions inlined, operator set 7 or later.

    Raises:
        ModelError: it is missing, no ONNX, cut short, too new, or cannot be converted.
    """
    where = str(path)
    refuse_other_formats(path)
    model = _parsed(path, mapped=path.stat().st_size >= _MAPPED_FROM)
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError("not an ONNX model: it has no graph", where=where, hint=_AGAIN)
    if model.ir_version >= 3 and not model.opset_import:
        raise ModelError("it names no operator set, so it is cut short or broken", where=where, hint=_AGAIN)
    _check_versions(model, where)
    if _opset(model) < OLDEST_OPSET:
        model = _upgraded(path)
    return _inlined(model, where) if model.functions else model


def _parsed(path: Path, *, mapped: bool) -> onnx.ModelProto:
    """The file's message; when mapped, its large tensors are external data of the file itself."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = onnx.ModelProto()
    try:
        if mapped:
            model.ParseFromString(outline(np.memmap(path, np.uint8, mode="r").data, path.name))
        else:
            model.ParseFromString(path.read_bytes())
    except (DecodeError, WireError):
        raise ModelError("not an ONNX file, or cut short", where=str(path), hint=_AGAIN) from None
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return model


_SIGNATURES = (
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"PK\x03\x04", "a PyTorch checkpoint or another zip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to"),
)
_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"})


def refuse_other_formats(path: Path) -> None:
    """Say plainly what a file is when it cannot be an ONNX model; pickles are never opened.

    Raises:
        ModelError: the file is missing, empty, a folder, a pickle or another known format.
    """
    where = str(path)
    if not path.exists():
        raise ModelError("no such file", where=where)
    if path.is_dir():
        raise ModelError("this is a folder", where=where, hint="give the .onnx file inside it")
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=where) from None
    found = next((what for signature, what in _SIGNATURES if head.startswith(signature)), None)
    if found is None and path.suffix.lower() in _PICKLES:
        found = "a pickle by its name"
    if found:
        raise ModelError(
            f"this is {found}, not an ONNX model",
            where=where,
            hint="amcc opens no pickles, they can run any code; export to ONNX or give package.module:factory",
        )
    if not head:
        raise ModelError("the file is empty", where=where, hint=_AGAIN)


def _opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set; a model without one uses other domains only."""
    missing = OLDEST_OPSET if model.opset_import else 1
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), missing)


def _check_versions(model: onnx.ModelProto, where: str) -> None:
    import onnx

    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    newest["ai.onnx"] = newest[""]
    hint = "install a newer onnx package or export for an older operator set"
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"IR version {model.ir_version} is newer than {onnx.IR_VERSION}, the newest that onnx "
            f"{onnx.__version__} knows",
            where=where,
            hint=hint,
        )
    for opset in model.opset_import:
        if opset.version > newest.get(opset.domain, opset.version):
            raise ModelError(
                f"operator set {opset.version} of '{opset.domain or 'ai.onnx'}' is newer than "
                f"{newest[opset.domain]}, the newest that onnx {onnx.__version__} knows",
                where=where,
                hint=hint,
            )


def _inlined(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # the C++ inliner raises plain RuntimeErrors
        raise ModelError(f"its functions cannot be inlined: {_first_line(error)}", where=where) from None


def _upgraded(path: Path) -> onnx.ModelProto:
    """The model in operator set 7, read anew as the converter wants it: data inside, parameters listed as inputs."""
    from onnx import external_data_helper, helper, version_converter

    model = _parsed(path, mapped=False)
    old = _opset(model)
    listed = {i.name for i in model.graph.input}
    unlisted = [t for t in model.graph.initializer if t.name not in listed]
    model.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in unlisted)
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # the C++ converter raises plain RuntimeErrors
        raise ModelError(
            f"operator set {old} cannot be converted to {OLDEST_OPSET}: {_first_line(error)}",
            where=str(path),
            hint=f"export the model for operator set {OLDEST_OPSET} or later",
        ) from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
