"""Calibration and evaluation data: `.npz` files, folders of pictures, functions of the user's.

A `Dataset` holds one array an input of the model, already checked against the model: names, shapes, element
types, finite values, as many labels as samples. Samples lie along the axis that the model takes for the batch,
the first of nearly all; an input without a batch has one array for all samples; where no input has one, samples
lie along an axis in front of the model's own (`amcc.passes.batching`).
`split` gives the search and the report disjoint samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amcc.errors import DataError, UsageError
from amcc.ir import Array, Graph, Shape
from amcc.passes.batching import SAMPLES_FIRST, Batching, batching
from amcc.passes.inputs import spell
from amcc.usercode import call, is_named, named_function

Spec = str | Path | Mapping[str, Any] | Sequence[Any] | Callable[..., Any]
_LABEL_NAMES = ("label", "labels")
_MOST_PICTURE_BYTES = 2 << 30
_CHUNK = 256


@dataclass(frozen=True)
class Dataset:
    """Samples for a model.

    Attributes:
        inputs: an array for every input of the model, `[samples, ...]` for nearly all.
        labels: an array `[samples, ...]`, or None.
        source: where it came from, for people.
        sha256: of the file, the pictures or the arrays.
        notes: what was done to make it fit.
        synthetic: whether amcc made it up.
        batching: along which axis of each array the samples lie.
    """

    inputs: dict[str, Array]
    labels: Array | None
    source: str
    sha256: str
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    batching: Batching = SAMPLES_FIRST

    def __len__(self) -> int:
        return self.batching.count(self.inputs)

    def runs(self) -> list[dict[str, Array]]:
        """What one run over all samples is fed or, of samples that go alone, each run."""
        if not self.batching.alone:
            return [self.inputs]
        return [self.batching.feeds(self.inputs, i, i + 1) for i in range(len(self))]

    def take(self, indices: Array, part: str = "") -> Dataset:
        """Some of the samples, in ascending order so that mapped files are read in order."""
        chosen = np.sort(indices)
        described = f"{part} ({len(chosen)} of {len(self)} samples of {self.source})" if part else self.source
        return dataclasses.replace(
            self,
            inputs={name: np.asarray(array) for name, array in self.batching.take(self.inputs, chosen).items()},
            labels=None if self.labels is None else np.asarray(self.labels[chosen]),
            source=described,
        )


_MOST_FINALS = 5000


@dataclass(frozen=True)
class Splits:
    """What recovery, the search and the report each use. The report's samples are in no other part.

    Attributes:
        finals: for the last choice, what no other part uses; where that is less than the search's samples, these too.
        guard: what a guarantee is checked on, in no other part; None where none was asked for.
    """

    calibration: Dataset
    search: Dataset
    report: Dataset
    finals: Dataset
    guard: Dataset | None = None


def load_data(
    spec: Spec,
    graph: Graph,
    *,
    preprocess: str | Callable[..., Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    option: str = "--data",
) -> Dataset:
    """Read data and check it against the model.

    Args:
        spec: an `.npz` file with `input` or the model's input names, and `label` where there are
            labels; a folder of class folders of pictures, or a flat one; `module:function`, or a
            function, giving a mapping or a tuple `(input, label)` of arrays; or those arrays.
        preprocess: for pictures: a preset or a function, see `amcc.images.read_pictures`.
        limit: use at most so many samples, drawn with the seed.
        option: what the user called it, for messages.

    Raises:
        DataError: the data cannot be read or does not fit the model.
        UsageError: an option is missing or names nothing.
    """
    if isinstance(spec, str | Path):
        path = Path(spec).expanduser()
        if path.is_dir():
            return _from_folder(path, graph, preprocess, limit, seed, option)
        if path.is_file():
            return _conform(*_read_npz(path, graph), graph, str(spec), _hash_file(path), limit, seed)
        if not is_named(str(spec)):
            raise DataError(f"no such file or folder: '{spec}'", where=option)
        spec = named_function(str(spec), option=option)
    if callable(spec):
        name = f"{getattr(spec, '__module__', '')}:{getattr(spec, '__qualname__', repr(spec))}"
        found = call(spec, name=name)
    else:
        name, found = "arrays", spec
    arrays, labels = _named_arrays(found, graph, name)
    return _conform(arrays, labels, graph, name, _hash_arrays(arrays, labels), limit, seed)


def split(
    data: Dataset,
    *,
    seed: int,
    calibration: Dataset | None = None,
    report: Dataset | None = None,
    calibration_samples: int = 1500,
    search_samples: int = 1000,
    guarded: bool = False,
) -> Splits:
    """Divide data into disjoint parts, the same for the same seed.

    What was not given is drawn from `data`: a third for the report, then a third (half without a
    report part) for calibration; the search gets the rest. Calibration and search are capped; what they
    leave goes to the report, and half of it to the last choice where that is as much as the search has. With a
    guard, what they leave is the guard's, and a third of it the report's where that was not given.

    Raises:
        DataError: there are too few samples.
    """
    parts = 1 + (calibration is None) + (report is None) + guarded
    total = len(data)
    if total < parts:
        raise DataError(f"{total} samples cannot be divided into {parts} parts", where=data.source)
    order = np.random.default_rng([seed, 1]).permutation(total)
    share = total // parts
    search_count = min(search_samples, share if parts > 1 else total)
    calibration_count = 0 if calibration is not None else min(calibration_samples, share)
    rest = order[search_count + calibration_count :]
    guard = rest[len(rest) // 3 if report is None else 0 :] if guarded else None
    if guard is not None:
        rest = rest[: len(rest) - len(guard)]
    search = data.take(order[:search_count], "search part")
    unseen, finals = rest, search
    if report is None:
        half = len(rest) // 2
        rest, unseen = (rest[half:], rest[:half]) if half >= search_count and not guarded else (rest, rest[:0])
    unseen = unseen[:_MOST_FINALS]
    if len(unseen) >= search_count:  # else too few to do without the samples on which plans were found, and had luck
        finals = data.take(unseen, "choice part")
    elif len(unseen):
        finals = data.take(np.concatenate([order[:search_count], unseen]), "choice part")
    return Splits(
        calibration=calibration or data.take(order[search_count:][:calibration_count], "calibration part"),
        search=search,
        report=report or data.take(rest, "report part"),
        finals=finals,
        guard=None if guard is None else data.take(guard, "guard part"),
    )


def check_labels(labels: Array, samples: int, classes: int, source: str) -> Array:
    """Class numbers fit for top-1: integers in `[0, classes)`, one a sample.

    Raises:
        DataError: they are something else.
    """
    if labels.ndim > 1 and labels.shape[1:] == (1,) * (labels.ndim - 1):
        labels = labels.reshape(len(labels))
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"labels are {labels.dtype}, top-1 needs integers", where=source, hint="save class numbers as int64"
        )
    if labels.shape != (samples,):
        hint = "one-hot labels become class numbers with argmax" if labels.ndim == 2 else None
        raise DataError(f"labels have shape {list(labels.shape)}, top-1 needs [{samples}]", where=source, hint=hint)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"labels run from {low} to {high}, the model's first output has {classes} classes",
            where=source,
            hint=f"labels must be in 0..{classes - 1}",
        )
    return labels


def _read_npz(path: Path, graph: Graph) -> tuple[dict[str, Array], Array | None]:
    from amcc.npz import open_npz

    archive = open_npz(path)
    names = set(archive)
    if set(graph.inputs) <= names:
        arrays = {name: archive[name] for name in graph.inputs}
    elif len(graph.inputs) == 1 and "input" in names:
        arrays = {graph.inputs[0]: archive["input"]}
    else:
        wanted = " and ".join(f"'{n}'" for n in graph.inputs)
        alias = " (or 'input')" if len(graph.inputs) == 1 else ""
        raise DataError(f"holds {sorted(names)}, the model needs {wanted}{alias}", where=str(path))
    label = next((n for n in _LABEL_NAMES if n in names and n not in graph.inputs), None)
    return arrays, None if label is None else archive[label]


def _named_arrays(found: Any, graph: Graph, name: str) -> tuple[dict[str, Array], Array | None]:
    """Arrays by input name, and labels, from what a function gave."""
    if isinstance(found, Mapping):
        pool = {str(k): np.asarray(v) for k, v in found.items()}
        if len(graph.inputs) == 1 and graph.inputs[0] not in pool and "input" in pool:
            pool[graph.inputs[0]] = pool.pop("input")
        missing = [n for n in graph.inputs if n not in pool]
        if missing:
            raise DataError(f"gave {sorted(pool)}, the model also needs {missing}", where=name)
        label = next((n for n in _LABEL_NAMES if n in pool and n not in graph.inputs), None)
        return {n: pool[n] for n in graph.inputs}, None if label is None else pool[label]
    items = [found] if hasattr(found, "shape") else list(found) if isinstance(found, list | tuple) else []
    count = len(graph.inputs)
    if len(items) not in (count, count + 1) or any(i is None for i in items[:count]):
        raise DataError(
            f"gave {type(found).__name__}, not a mapping or a tuple of arrays for inputs {list(graph.inputs)}",
            where=name,
        )
    arrays = {n: np.asarray(a) for n, a in zip(graph.inputs, items, strict=False)}
    labels = items[count] if len(items) > count else None
    return arrays, None if labels is None else np.asarray(labels)


def _from_folder(
    folder: Path,
    graph: Graph,
    preprocess: str | Callable[..., Any] | None,
    limit: int | None,
    seed: int,
    option: str,
) -> Dataset:
    from amcc.images import PRESETS, layout_of, list_pictures, read_pictures

    if len(graph.inputs) != 1:
        raise DataError(f"the model has inputs {list(graph.inputs)}; a folder can feed only one", where=str(folder))
    if preprocess is None:
        known = ", ".join(PRESETS)
        raise UsageError("a folder of pictures needs --preprocess", where=option, hint=f"{known} or module:function")
    name = graph.inputs[0]
    layout = layout_of(graph.shape(name), name)
    listing = list_pictures(folder)
    classes = class_count(graph)
    if listing.labels is not None and not listing.numbered and classes not in (None, listing.classes):
        raise DataError(
            f"{listing.classes} class folders for a model of {classes} classes",
            where=str(folder),
            hint="name the folders by class number",
        )
    most = max(1, _MOST_PICTURE_BYTES // (4 * layout.channels * layout.height * layout.width))
    chosen = _choose(len(listing.paths), min(limit or most, most), seed)
    pictures, digest = read_pictures([listing.paths[i] for i in chosen], layout, preprocess)
    labels = None if listing.labels is None else np.asarray(listing.labels, np.int64)[chosen]
    return _conform({name: pictures}, labels, graph, str(folder), digest, None, seed)


def class_count(graph: Graph) -> int | None:
    """Classes of the model's first output, if it is shaped `[N, classes]`, extra dimensions being 1."""
    shape = graph.values[graph.outputs[0]].shape
    sizes = [] if shape is None else [s for s in (shape if batching(graph).stacked else shape[1:]) if s != 1]
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], int) else None


def _choose(total: int, limit: int | None, seed: int) -> Array:
    if limit is None or limit >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng([seed, 0]).permutation(total)[:limit])


def _conform(
    arrays: dict[str, Array],
    labels: Array | None,
    graph: Graph,
    source: str,
    digest: str,
    limit: int | None,
    seed: int,
) -> Dataset:
    """Check arrays against the model's inputs and bring floating types to the model's."""
    how = batching(graph)
    if how.stacked:
        arrays = _stacked(arrays, graph, source)
    counts = {n: a.shape[axis] if a.ndim > axis else 0 for n, a in arrays.items() if (axis := how.axis(n)) is not None}
    samples = next(iter(counts.values()), 0)
    if len(set(counts.values())) > 1:
        hint = "a number in --input-shape makes an input the same for all samples" if len(how.symbols) > 1 else None
        raise DataError(f"the inputs have different numbers of samples: {counts}", where=source, hint=hint)
    if samples == 0:
        raise DataError("there are no samples", where=source)
    if labels is not None and (labels.ndim == 0 or len(labels) != samples):
        raise DataError(f"{samples} samples and {len(labels) if labels.ndim else 'no'} labels", where=source)
    for name, array in arrays.items():
        shape = graph.shape(name)
        _check_shape(array, ("?", *shape) if how.stacked else shape, how.axis(name), name, source)
    chosen = _choose(samples, limit, seed)
    some = arrays if len(chosen) == samples else how.take(arrays, chosen)
    notes: list[str] = []
    inputs = {name: _cast(array, graph.values[name].dtype, name, source, notes) for name, array in some.items()}
    if labels is not None and len(chosen) < samples:
        labels = np.asarray(labels[chosen])
    return Dataset(inputs, labels, source, digest, tuple(notes), batching=how)


def _stacked(arrays: Mapping[str, Array], graph: Graph, source: str) -> dict[str, Array]:
    """Whole sets of inputs, samples in front.

    An array of its input's own shape is the same in all sets; a leading 1 of the input's may be left out.
    """
    shapes = {name: graph.shape(name) for name in arrays}
    sets: dict[str, Array] = {}
    same: list[str] = []
    for name, array in arrays.items():
        shape = shapes[name]
        if _fits(array.shape, shape):
            same.append(name)
        elif shape[:1] == (1,) and array.ndim == len(shape) and _fits(array.shape[1:], shape[1:]):
            sets[name] = array[:, None]
        elif array.ndim == len(shape) + 1:
            sets[name] = array
        else:
            raise DataError(
                f"'{name}' has shape {spell(array.shape)}, the model takes {spell(shape)}",
                where=source,
                hint=f"its inputs have no batch in common: give {spell(('samples', *shape))}, "
                f"or {spell(shape)} for the same in all samples",
            )
    count = min((len(array) for array in sets.values()), default=1)
    sets |= {name: np.broadcast_to(arrays[name], (count, *arrays[name].shape)) for name in same}
    return {name: sets[name] for name in arrays}


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    return len(found) == len(shape) and all(isinstance(d, str) or d == n for d, n in zip(shape, found, strict=True))


def _check_shape(array: Array, shape: Shape, axis: int | None, name: str, source: str) -> None:
    """Compare all dimensions but the samples'."""
    if axis is None:
        if not _fits(array.shape, shape):
            raise DataError(
                f"'{name}' has shape {spell(array.shape)}, the model takes {spell(shape)}",
                where=source,
                hint="it has no batch: give one array for all samples",
            )
        return
    expected = (*shape[:axis], *shape[axis + 1 :])
    if array.ndim == len(shape) and _fits((*array.shape[:axis], *array.shape[axis + 1 :]), expected):
        return
    hint = None
    turned = (array.shape[0], *array.shape[-1:], *array.shape[1:-1])
    if axis == 0 and array.ndim == len(shape) and turned[1:] == expected:
        hint = "channels come last here: transpose to [N, C, H, W]"
    found = (*array.shape[:axis], *array.shape[axis + 1 :])
    raise DataError(
        f"samples for '{name}' have shape {list(found)}, the model takes {list(expected)}",
        where=source,
        hint=hint,
    )


def _cast(array: Array, dtype: str, name: str, source: str, notes: list[str]) -> Array:
    wanted = element_type(dtype)
    if array.dtype.kind == "f" and is_float(wanted):
        rows = np.atleast_1d(array)
        for start in range(0, len(rows), _CHUNK):
            if not np.isfinite(rows[start : start + _CHUNK]).all():
                raise DataError(f"samples for '{name}' hold NaN or infinite values", where=source)
        if array.dtype != wanted:
            notes.append(f"{source}: '{name}' cast from {array.dtype} to {dtype}")
            return array.astype(wanted)
        return array
    if array.dtype == wanted:
        return array
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        bounds = np.iinfo(wanted)
        if not array.size or (array.min() >= bounds.min and array.max() <= bounds.max):
            return array.astype(wanted)
    hint = "prepare it as the model expects, for instance scaled, and save it as " + dtype if is_float(wanted) else None
    raise DataError(f"samples for '{name}' are {array.dtype}, the model takes {dtype}", where=source, hint=hint)


def element_type(name: str) -> np.dtype[Any]:
    """numpy's type of this name, bfloat16 and its kin included."""
    import ml_dtypes  # noqa: F401  (registers them)

    return np.dtype(name)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether it is a floating type, bfloat16 and its kin included."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_arrays(arrays: Mapping[str, Array], labels: Array | None) -> str:
    digest = hashlib.sha256()
    for name, array in [*sorted(arrays.items()), ("label", labels)]:
        if array is not None:
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
