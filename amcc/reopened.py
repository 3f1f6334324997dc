"""The cut network with those sizes free again that a user's numbers fixed for the analysis.

`--input-shape x=1x3x224x224` gives height and width a number. The plan made for that size is put on the same file
loaded with its own symbols in place of the numbers: where the channels are the same there, the cut carries over.
That it does is measured in ONNX Runtime: at the given size against the fixed network, and at other sizes, if
the original itself runs at some, against the original with its removed units masked.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from amcc.backends.runtime import LITERAL, Session
from amcc.certificate import TOLERANCE, Certificate, certify, difference
from amcc.data import Dataset
from amcc.errors import ModelError, PlanError, RunError, VerificationError
from amcc.ir import Array, Graph, Shape
from amcc.passes.batching import batching
from amcc.passes.channels import Channels, Removal, analyze
from amcc.passes.inputs import bind_inputs, spell, unbind_inputs
from amcc.passes.protos import read_type
from amcc.passes.recovery.masked import NO_MASKS
from amcc.passes.rewrite import check_shapes, shrink
from amcc.passes.sparsity import Masks, zeroed
from amcc.plan import Plan
from amcc.planning import removal_of
from amcc.synthetic import that_runs

if TYPE_CHECKING:
    import onnxruntime

    from amcc.frontends.load import Origin

Shapes = Mapping[str, Shape]
Place = tuple[str, int]

_SAMPLES = 2
_SAME = 1e-5
"""Relative difference between the fixed network and the reopened one; a tenth of other tolerances than float32's."""
_COMMON_STRIDE = 64
"""Half of a multiple of this is still one of the strides that networks have."""
_MOST_ALONE = 4


@dataclass(frozen=True)
class Reopened:
    """A network and its cut, with sizes free.

    Attributes:
        file: the original.
        given: the shapes that the user gave.
        free: the shapes of the inputs, with names where numbers fixed a size.
        channels: the analysis of the original with sizes free.
        removal: what the plan removes there.
        pure: the cut, as slices of the original's weights.
        masks: what stays of the parameters of layers.
    """

    file: Path
    given: Shapes
    free: Shapes
    channels: Channels
    removal: Removal
    pure: Graph
    masks: Masks = field(default_factory=dict)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The inputs and axes that are free and that a number fixed."""
        return _fixed(self.given, self.free)

    @property
    def inputs(self) -> dict[str, Shape]:
        """The shapes of the inputs of which a number fixed a size."""
        return {name: self.pure.shape(name) for name in dict.fromkeys(name for name, _ in self.places)}

    def with_weights(self, pure: Graph, final: Graph) -> Graph:
        """The cut with the weights that recovery gave its fixed twin.

        Args:
            pure: the fixed twin as slices of the original's weights, and `final` with its weights recovered.

        Raises:
            VerificationError: a weight that recovery changed is none here.
        """
        weights = {}
        for name, array in final.params.items():
            if array is pure.params[name] or np.array_equal(array, pure.params[name]):
                continue
            if name not in self.pure.params:
                raise VerificationError(f"recovery changed '{name}', which is computed at run time with sizes free")
            weights[name] = array
        return self.pure.with_params(weights)

    def demand_same(self, graph: Graph, final: Graph, *, samples: Dataset | None = None) -> None:
        """Compare a reopened graph with its fixed twin, at the given size.

        Args:
            samples: for a network that runs on nothing random.

        Raises:
            VerificationError: they differ.
            ModelError: ONNX Runtime cannot run one of the two.
        """
        fixed, reopened = (Session(g, literal=True) for g in (final, bind_inputs(graph, self.given)))
        tolerance = max(_SAME, TOLERANCE.get(fixed.precision, 0.0) / 10)

        def gap(data: Dataset) -> float:
            pairs = ((reopened.run(feeds), fixed.run(feeds)) for feeds in data.runs())
            return max(difference(found[name], own[name]) for found, own in pairs for name in own)

        try:
            error = that_runs(final, _SAMPLES, gap)
        except ModelError:
            if samples is None:
                raise
            error = gap(samples.take(np.arange(min(_SAMPLES, len(samples)))))
        if not error <= tolerance:
            raise VerificationError(f"with sizes free it differs from the fixed network by {error:.1e}")

    def certify(self, graph: Graph, sizes: Shapes | None = None, *, samples: Dataset | None = None) -> Certificate:
        """The certificate of a reopened graph with the original's weights, at the given or another size.

        Raises:
            ModelError: ONNX Runtime cannot run it, or the masked original.
        """
        sizes = sizes or self.given
        at = dataclasses.replace(self.channels, graph=bind_inputs(self.channels.graph, sizes))
        return certify(self.file, at, self.removal, bind_inputs(graph, sizes), samples=samples, zeros=self.masks)

    def elsewhere(self) -> tuple[Shapes, ...]:
        """Other shapes at which the original runs: of round sizes and of odd ones, as far as it takes them.

        Raises:
            VerificationError: with sizes free, loading it made another network of it.
        """
        round_sizes = filter(self._original_runs, _others(self.given, self.places))
        odd_sizes = filter(self._original_runs, _odd(self.given, self.places))
        return (*islice(round_sizes, 1), *islice(odd_sizes, 1))

    def _original_runs(self, sizes: Shapes) -> bool:
        """Whether the file runs; what was loaded of it must run as well then, and give the same."""
        graph = bind_inputs(self.channels.graph, sizes)

        def outputs(data: Dataset) -> tuple[Dataset, list[dict[str, Array]]]:
            return data, [_run_file(self._session, graph.outputs, feeds) for feeds in data.runs()]

        try:
            data, runs = that_runs(graph, max(batching(graph).size, 1), outputs)
        except ModelError:
            return False
        loaded = Session(graph, literal=True)
        tolerance = TOLERANCE.get(loaded.precision, 0.0)
        for feeds, expected in zip(data.runs(), runs, strict=True):
            found = loaded.run(feeds)
            if not all(difference(found[name], expected[name]) <= tolerance for name in expected):
                raise VerificationError(f"loaded with sizes free, it is another network at {spelled(sizes)}")
        return True

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry(LITERAL, "1")
        try:
            return onnxruntime.InferenceSession(str(self.file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions have no common base but this
            raise ModelError(f"ONNX Runtime refuses the original: {error}", where=str(self.file)) from None


@contextmanager
def original_file(file: Path | None, origin: Origin | None) -> Iterator[Path | None]:
    """The file that sizes are free in: the user's, or for a module one made of it for a while; None where none are.

    Raises:
        ModelError: torch cannot capture the module with these sizes free.
    """
    if file is not None or origin is None or not origin.free:
        yield file
        return
    from amcc.backends.to_onnx import write_onnx
    from amcc.frontends.from_torch import from_torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "original.onnx"
        write_onnx(from_torch(origin.module, origin.call, free=origin.free), path)
        yield path


def free_shapes(file: Path, given: Shapes) -> dict[str, Shape]:
    """The shapes to load a file with, so that the sizes stay free that the given numbers fix; nothing if they fix none.

    Raises:
        ModelError: the file cannot be read.
    """
    from amcc.frontends.onnx_file import read_model

    graph = read_model(file).graph
    params = {tensor.name for tensor in graph.initializer}
    declared = {i.name: read_type(i.type)[1] for i in graph.input if i.name not in params}
    return unbind_inputs(declared, given)


def variants(given: Shapes, free: Shapes) -> Iterator[Shapes]:
    """Everything free, then one free size after another alone, where there are several."""
    yield free
    names = tuple(dict.fromkeys(free[name][axis] for name, axis in _fixed(given, free)))
    if 1 < len(names) <= _MOST_ALONE:
        sizes = {free[name][axis]: given[name][axis] for name, axis in _fixed(given, free)}
        for own in names:
            yield {n: tuple(d if d == own else sizes.get(d, d) for d in shape) for n, shape in free.items()}


def reopen(
    file: Path,
    given: Shapes,
    free: Shapes,
    plan: Plan,
    *,
    locked: Sequence[str] = (),
    exact: bool = False,
    masks: Masks = NO_MASKS,
) -> Reopened:
    """Put a plan on a file loaded with sizes free.

    Args:
        given: the shapes that the user gave, `free` those of `free_shapes` or `variants`.
        masks: what stays of the parameters of layers.

    Raises:
        ModelError, PlanError, UsageError, VerificationError: the channels are not the same with sizes free.
    """
    from amcc.frontends.load import load

    channels = analyze(load(file, input_shapes=free), locked=locked, exact=exact)
    try:
        removal = removal_of(plan, channels)
    except PlanError as error:
        raise PlanError(f"with sizes free its channels are others: {error.message}", where=error.where) from None
    pure = shrink(channels, removal)
    check_shapes(pure)
    if missing := sorted(masks.keys() - pure.params.keys()):
        raise VerificationError(f"weights go of '{missing[0]}', which is computed at run time with sizes free")
    return Reopened(file, given, free, channels, removal, zeroed(pure, masks), masks)


def spelled(shapes: Shapes) -> str:
    """Shapes as people write them: `x [1, 3, 32, 32]`."""
    return ", ".join(f"{name} {spell(shape)}" for name, shape in shapes.items())


def _run_file(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], feeds: Mapping[str, Array]
) -> dict[str, Array]:
    wanted = {i.name for i in session.get_inputs()}
    try:
        found = session.run(list(outputs), {name: array for name, array in feeds.items() if name in wanted})
    except Exception as error:  # the runtime's exceptions have no common base but this
        raise RunError(f"ONNX Runtime fails: {error}") from None
    return dict(zip(outputs, map(np.asarray, found), strict=True))


def _fixed(given: Shapes, free: Shapes) -> tuple[Place, ...]:
    return tuple(
        (name, axis)
        for name, shape in given.items()
        for axis, (new, dim) in enumerate(zip(shape, free[name], strict=True))
        if isinstance(new, int) and isinstance(dim, str) and (axis, new) != (0, 1)
    )


def _others(given: Shapes, places: Sequence[Place]) -> Iterator[Shapes]:
    """Sizes twice and half as large, of all free dimensions, then of one after another."""
    sizes = {(name, axis): cast(int, given[name][axis]) for name, axis in places}
    double = {place: 2 * n for place, n in sizes.items()}
    half = {place: n // 2 if n > 1 else 2 for place, n in sizes.items()}
    small_first = all(n % _COMMON_STRIDE == 0 for n in sizes.values())
    tries = [half, double] if small_first else [double, half]
    if len(places) > 1:
        tries += [{place: double[place]} for place in places[:_MOST_ALONE]]
    yield from (_resized(given, changed) for changed in tries)


def _odd(given: Shapes, places: Sequence[Place]) -> Iterator[Shapes]:
    """Sizes that no stride divides: what is padded to a multiple shows with them."""
    odd = {(name, axis): cast(int, given[name][axis]) // 2 * 2 + 3 for name, axis in places}
    yield _resized(given, odd)
    if len(places) > 1:
        yield from (_resized(given, {place: odd[place]}) for place in places[:_MOST_ALONE])


def _resized(given: Shapes, changed: Mapping[Place, int]) -> Shapes:
    return {
        name: tuple(changed.get((name, axis), dim) for axis, dim in enumerate(shape)) for name, shape in given.items()
    }
