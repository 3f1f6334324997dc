"""Folders of pictures as arrays: decoding, presets, class numbers. Needs Pillow (`amcc[images]`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from amcc.errors import DataError, UsageError
from amcc.ir import Array, Shape
from amcc.usercode import call, named_function

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PRESETS = ("imagenet", "half", "unit")
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class Layout(NamedTuple):
    """How a model's input holds pictures."""

    channels: int
    height: int
    width: int
    last: bool

    def arrange(self, picture: Array) -> Array:
        """`[C, H, W]` as the model holds it."""
        return picture.transpose(1, 2, 0) if self.last else picture


class Listing(NamedTuple):
    """The pictures of a folder, and their classes where the folder has class folders."""

    paths: list[Path]
    labels: list[int] | None
    classes: int
    numbered: bool


def layout_of(shape: Shape, name: str) -> Layout:
    """Read channels, height and width from an input's shape `[N, C, H, W]` or `[N, H, W, C]`.

    Raises:
        DataError: the input does not hold pictures of a known size.
    """
    sizes = shape[1:]
    if len(sizes) == 3 and all(isinstance(s, int) for s in sizes):
        a, b, c = (int(s) for s in sizes)
        if a in (1, 3):
            return Layout(a, b, c, last=False)
        if c in (1, 3):
            return Layout(c, a, b, last=True)
    raise DataError(
        f"input '{name}' of shape {list(shape)} does not hold pictures with 1 or 3 channels and a known size",
        hint="give --input-shape, or data as .npz",
    )


def list_pictures(folder: Path) -> Listing:
    """Find the pictures of a folder of class folders, or of a flat folder (no labels).

    Class folders whose names are all numbers give those numbers; otherwise the classes are counted
    in sorted order.

    Raises:
        DataError: there is no picture.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        paths = _pictures(folder)
        if not paths:
            raise DataError(f"no pictures in it (looked for {', '.join(sorted(SUFFIXES))})", where=str(folder))
        return Listing(paths, None, 0, numbered=False)
    numbered = all(p.name.isdecimal() for p in classes)
    paths, labels = [], []
    for index, one in enumerate(classes):
        found = _pictures(one)
        if not found:
            raise DataError(f"class folder '{one.name}' has no pictures", where=str(folder))
        paths += found
        labels += [int(one.name) if numbered else index] * len(found)
    return Listing(paths, labels, len(classes), numbered)


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def read_pictures(paths: Sequence[Path], layout: Layout, preprocess: str | Callable[..., Any]) -> tuple[Array, str]:
    """Decode and prepare pictures.

    Args:
        preprocess: a preset's name, `module:function` or a function taking a PIL image and giving a
            float array `[C, H, W]`.

    Returns:
        The array `[N, ...]` in the model's layout, and the SHA-256 of the files.
    """
    pillow = _pillow()
    prepare = _preparation(preprocess, layout)
    shown = preprocess if isinstance(preprocess, str) else getattr(preprocess, "__name__", "preprocess")
    digest = hashlib.sha256()
    pictures: Array | None = None
    for index, path in enumerate(paths):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
        try:
            with pillow.open(path) as opened:
                image = opened.convert("RGB" if layout.channels == 3 else "L")
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError("cannot be decoded as a picture", where=str(path)) from error
        picture = np.asarray(call(prepare, image, name=f"preprocess '{shown}'"))
        expected = (layout.channels, layout.height, layout.width)
        if picture.shape != expected or picture.dtype.kind != "f":
            raise DataError(
                f"preprocess '{shown}' gave {picture.dtype}{list(picture.shape)}, "
                f"the model takes float{list(expected)}",
                where=str(path),
            )
        if pictures is None:
            pictures = np.empty((len(paths), *layout.arrange(picture).shape), picture.dtype)
        pictures[index] = layout.arrange(picture)
    assert pictures is not None
    return pictures, digest.hexdigest()


def _preparation(preprocess: str | Callable[..., Any], layout: Layout) -> Callable[[Image], Array]:
    if not isinstance(preprocess, str):
        return preprocess
    size = (layout.height, layout.width)
    if preprocess == "imagenet":
        if layout.channels != 3:
            raise UsageError("preset 'imagenet' needs 3 channels", where="--preprocess", hint="use 'unit' or 'half'")
        return lambda image: ((_pixels(_centre(image, size, 0.875)) / 255 - _IMAGENET_MEAN) / _IMAGENET_STD).transpose(
            2, 0, 1
        )
    if preprocess == "half":
        return lambda image: ((_pixels(_centre(image, size)) - 128) / 128).transpose(2, 0, 1)
    if preprocess == "unit":
        return lambda image: (_pixels(_centre(image, size)) / 255).transpose(2, 0, 1)
    if ":" in preprocess:
        return named_function(preprocess, option="--preprocess")
    raise UsageError(
        f"no preset is called '{preprocess}'",
        where="--preprocess",
        hint=f"use one of {', '.join(PRESETS)} or module:function",
    )


def _pixels(image: Image) -> Array:
    pixels = np.asarray(image, np.float32)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _centre(image: Image, size: tuple[int, int], share: float = 1.0) -> Image:
    """Crop the centre to the wanted aspect, a share of the largest such box, and resize it."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height) * share
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    return image.resize((width, height), resample=_pillow().Resampling.BILINEAR, box=box)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError("reading pictures needs Pillow", hint="pip install 'amcc[images]'") from None
    return Image
