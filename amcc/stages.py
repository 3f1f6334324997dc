"""The stages of a compilation up to the search: capture, data, what recovery learns, the problem."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from amcc.data import Dataset, Spec, Splits, load_data, split
from amcc.errors import BudgetError
from amcc.frontends.torch_files import Stored, is_torch_file
from amcc.granularity import Granularity
from amcc.ir import Array, Graph, Opaque, Shape
from amcc.metric import Evaluator
from amcc.passes.channels import Channels, Removal, analyze
from amcc.passes.cost import CostModel
from amcc.passes.recovery.masked import NO_MASKS
from amcc.passes.rewrite import shrink
from amcc.passes.sparsity import Layers, Masks, layers_of, refit, zeroed
from amcc.plan import Plan, fingerprint
from amcc.planning import describe, describe_weights, removal_of, weights_of
from amcc.search.problem import Challenge
from amcc.settings import GUARD_SAMPLES, Settings
from amcc.synthetic import SAMPLES, synthetic

if TYPE_CHECKING:
    from amcc.frontends.load import Origin
    from amcc.latency.clock import Latency
    from amcc.passes.recovery import Repairer, Statistics

_SYNTHETIC_MACS = 200 * 10**9
_FEW_SAMPLES = 64
_LEAST_REPAIRED, _REPAIRED_OF_SCORED = 32, 32


@dataclass(frozen=True)
class Subject:
    """The network to compile.

    Attributes:
        name: the file, `module:factory` or class, for people.
        file: the ONNX file, None for a module.
        sha256: of the file, or of structure and weights.
        input_shapes: what the user gave for dynamic dimensions of the file's inputs.
        latency: its times on a device; None where nobody asks.
        layers: what goes are weights of these; None where channels go.
        origin: the module that it was captured from, in the process that did so.
    """

    name: str
    file: Path | None
    sha256: str
    channels: Channels
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    latency: Latency | None = None
    layers: Layers | None = None
    origin: Origin | None = None

    @property
    def graph(self) -> Graph:
        """The network as it came."""
        return self.channels.graph

    @property
    def cuts(self) -> Channels | Layers:
        """What may go: the groups of channels, or the layers of which weights go."""
        return self.channels if self.layers is None else self.layers

    def removal(self, keep: Sequence[int] | Array, orders: Sequence[Array]) -> dict[int, Array]:
        """For the number of a group or layer, the units that go under a keep; sorted."""
        return self.cuts.removal(keep, orders)

    def keep(self, removal: Removal) -> tuple[int, ...]:
        """What a search calls this plan."""
        if self.layers is not None:
            return self.layers.keep(removal)
        return tuple(group.size - len(removal.get(group.index, ())) for group in self.channels.groups)

    def cut(self, removal: Removal) -> Cut:
        """What a plan takes away: channels, or weights."""
        return Cut(removal, NO_MASKS) if self.layers is None else Cut({}, self.layers.masks(removal))

    def pure(self, removal: Removal) -> Graph:
        """The network without the removed units, every number that is left the very one that was there."""
        return shrink(self.channels, removal) if self.layers is None else zeroed(self.graph, self.cut(removal).masks)


def described(subject: Subject, removal: Removal, *, budget: str, policy: str, seed: int, exact: bool) -> Plan:
    """The plan that says what goes."""
    facts: dict[str, Any] = {"model": subject.name, "budget": budget, "policy": policy, "seed": seed, "exact": exact}
    if subject.layers is not None:
        return describe_weights(subject.layers, removal, **facts)
    return describe(subject.channels, removal, subject.pure(removal), **facts)


def planned(plan: Plan, subject: Subject) -> dict[int, Array]:
    """What a plan removes.

    Raises:
        PlanError: it does not fit the network.
    """
    return removal_of(plan, subject.channels) if subject.layers is None else weights_of(plan, subject.layers)


class Cut(NamedTuple):
    """What a plan takes away, one of them empty.

    Attributes:
        channels: the units of each group that go.
        masks: for the parameters of layers, what stays of them.
    """

    channels: Removal
    masks: Masks


@dataclass(frozen=True)
class DataSpec:
    """Where data come from; see `amcc.data.load_data` for what each may be."""

    data: Spec | None = None
    calib: Spec | None = None
    report: Spec | None = None
    preprocess: str | Callable[..., Any] | None = None


@dataclass(frozen=True)
class Learned:
    """What decides which units of a group, or layer, go first.

    Attributes:
        orders: a permutation of each group's units, first to go first.
        losses: float [size + 1] a group, the loss after removing the first k; None without statistics.
        magnitudes: float [size] a group, in removal order. A layer's size is its number of levels.
        statistics: for reconstruction; None when pure slices are wanted.
        repairer: of candidates, over a few samples, so that they are scored much as they would be shipped.
    """

    orders: tuple[Array, ...]
    losses: tuple[Array, ...] | None
    magnitudes: tuple[Array, ...]
    statistics: Statistics | None
    repairer: Repairer | None = None


@dataclass
class Notes:
    """Warnings, each once, in order."""

    texts: list[str] = field(default_factory=list)

    def add(self, *texts: str) -> None:
        """Note what is not noted yet."""
        self.texts += [text for text in texts if text not in self.texts]


def capture(
    model: Any,
    example_inputs: Any,
    input_shapes: Mapping[str, Shape] | None,
    lock: Sequence[str] = (),
    *,
    exact: bool = False,
    granularity: str = "channel",
) -> Subject:
    """Load and analyse a network.

    Raises:
        ModelError: it cannot be loaded, or its weights are no numbers.
        UsageError: a lock names nothing.
    """
    from amcc.frontends.load import captured
    from amcc.frontends.onnx_checks import check_numbers

    found = captured(model, example_inputs=example_inputs, input_shapes=input_shapes)
    graph, shapes = found.graph, input_shapes
    if found.origin is not None:
        shapes = {graph.inputs[i]: one_sample(graph.shape(graph.inputs[i])) for i in found.origin.free}
    check_numbers(graph, mapped=True)
    channels = analyze(graph, locked=lock, exact=exact)
    how = Granularity.parse(granularity)
    return Subject(
        model_name(model),
        model_file(model),
        model_hash(model, graph),
        channels,
        dict(shapes or {}),
        layers=None if how is None else layers_of(graph, how, locked=lock),
        origin=found.origin,
    )


def one_sample(shape: Shape) -> Shape:
    """The shape with a number for the batch."""
    return tuple(dim if isinstance(dim, int) else 1 for dim in shape)


def model_name(model: Any) -> str:
    """The file, `module:factory`, function or class, for people."""
    if isinstance(model, Stored):
        model = model.model
    if isinstance(model, str | Path):
        return Path(model).name
    return str(getattr(model, "__name__", None) or type(model).__name__)


def model_file(model: Any) -> Path | None:
    """The ONNX file, or None."""
    if isinstance(model, str | Path) and not is_torch_file(model) and Path(model).is_file():
        return Path(model)
    return None


def model_hash(model: Any, graph: Graph) -> str:
    """SHA-256 of the model's file; of a module, of its structure and weights."""
    path = model_file(model)
    if path is None:
        return weights_hash(graph)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(graph: Graph) -> str:
    """SHA-256 of structure and weights."""
    digest = hashlib.sha256(fingerprint(graph).encode())
    for name in sorted(graph.params):
        digest.update(np.ascontiguousarray(graph.params[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def check_prunable(cuts: Channels | Layers) -> None:
    """Check that there is something to search.

    Raises:
        BudgetError: no channel, or weight, may be removed; gives the reasons.
    """
    if cuts.groups:
        return
    what = "channels" if isinstance(cuts, Channels) else "linear layers with weights of their own"
    hint = reasons(cuts) or carried_bodies(cuts.graph) or f"it has no {what}"
    raise BudgetError("nothing in this network can be pruned", hint=hint)


def carried_bodies(graph: Graph) -> str:
    """The nodes whose bodies stay as they are, and why, for messages; "" where there is none."""
    whys = {n.label: a.why for n in graph.nodes for a in n.attributes.values() if isinstance(a, Opaque) and a.why}
    return "; ".join(f"the body of {label} stays as it is: {why}" for label, why in whys.items())


def reasons(cuts: Channels | Layers, most: int = 5) -> str:
    """What keeps most MACs out of reach, each reason with one place where it was met, for messages."""
    if not isinstance(cuts, Channels):
        return "; ".join(f"'{node}': {why}" for node, why in [*cuts.whole.items()][:most])
    texts = []
    costly = [obstacle for obstacle in cuts.obstacles if obstacle.macs] or cuts.obstacles
    for obstacle in costly[:most]:
        same = (lock for lock in cuts.ledger if (lock.op, lock.reason) == (obstacle.op, obstacle.reason))
        worst = max(same, key=lambda lock: lock.macs)
        times = f", and {obstacle.locks - 1} more" if obstacle.locks > 1 else ""
        texts.append(f"'{worst.value}' axis {worst.axis} ({obstacle.op or 'graph'}){times}: {obstacle.reason}")
    return "; ".join(texts)


def blank(subject: Subject) -> Learned:
    """Any order of the units, for what depends on their number alone."""
    if subject.layers is not None:
        return Learned((), None, tuple(np.arange(layer.levels) for layer in subject.layers.layers), None)
    orders = tuple(np.arange(group.size)[::-1] for group in subject.channels.groups)
    return Learned(orders, None, orders, None)


def gather(
    subject: Subject, spec: DataSpec, settings: Settings, notes: Notes, made_up: Dataset | None = None
) -> Splits:
    """Load the data and give each use its part; without any, the made-up inputs.

    Raises:
        DataError: data that cannot be read or do not fit.
    """

    def loaded(what: Spec, limit: int | None, option: str) -> Dataset:
        found = load_data(
            what, subject.graph, preprocess=spec.preprocess, limit=limit, seed=settings.seed, option=option
        )
        notes.add(*found.notes)
        return found

    report = None if spec.report is None else loaded(spec.report, settings.report_samples, "--report-data")
    calibration = None
    if spec.calib is not None and spec.data is not None:
        calibration = loaded(spec.calib, settings.calib_samples, "--calib")
    whole = settings.calib_samples + settings.eval_samples + settings.report_samples
    whole += GUARD_SAMPLES if settings.guarded else 0
    if spec.data is not None:
        data = loaded(spec.data, whole, "--data")
    elif spec.calib is not None:
        data = loaded(spec.calib, whole, "--calib")
        notes.add("no --data was given: candidates are compared by fidelity on parts of --calib")
    else:
        data = made_up or synthetic(subject.graph, samples_made_up(subject), seed=settings.seed)
        notes.add("no data was given: synthetic inputs stand in for real ones, which do better (--data, --calib)")
        notes.add(*data.notes)
    splits = split(
        data,
        seed=settings.seed,
        calibration=calibration,
        report=report,
        calibration_samples=settings.calib_samples,
        search_samples=settings.eval_samples,
        guarded=settings.guarded,
    )
    if not data.synthetic and len(splits.search) < _FEW_SAMPLES:
        notes.add(f"the search sees {len(splits.search)} samples only: its scores are coarse")
    return splits


def samples_made_up(subject: Subject) -> int:
    """How many samples are made up without data: fewer for large networks."""
    macs = max(CostModel(subject.channels).original.flops, 1)
    return max(24, min(SAMPLES, _SYNTHETIC_MACS // macs))


def learn(subject: Subject, calibration: Dataset, settings: Settings, *, searching: bool = True) -> Learned:
    """Find the order in which units go, by calibration or, for pure slices, by magnitude.

    Args:
        searching: false where it is settled what goes: orders are magnitudes' then, and losses none.
    """
    from amcc.passes.magnitude import magnitudes

    if subject.layers is not None:
        return _learn_weights(subject.layers, calibration, settings, searching=searching)
    channels = subject.channels
    sizes = magnitudes(channels)
    if settings.recover == "none" and settings.search != "lagrange":
        orders = tuple(np.argsort(size, kind="stable") for size in sizes)
        return Learned(orders, None, _arranged(sizes, orders), None)
    from amcc.passes.recovery import Repairer, calibrate, rank

    statistics = calibrate(channels, calibration.inputs, seed=settings.seed)
    if not searching:
        orders = tuple(np.argsort(size, kind="stable") for size in sizes)
        return Learned(orders, None, _arranged(sizes, orders), statistics)
    rankings = rank(channels, statistics)
    orders = tuple(ranking.order for ranking in rankings)
    losses = tuple(ranking.loss for ranking in rankings)
    if settings.recover == "none":
        return Learned(orders, losses, _arranged(sizes, orders), None)
    few = max(_LEAST_REPAIRED, settings.eval_samples // _REPAIRED_OF_SCORED)
    repairer = Repairer(
        channels, calibration.inputs, seed=settings.seed, limit=few, threads=settings.threads, quick=True
    )
    return Learned(orders, losses, _arranged(sizes, orders), statistics, repairer)


def _learn_weights(layers: Layers, calibration: Dataset, settings: Settings, *, searching: bool) -> Learned:
    from amcc.passes.sparsity import by_magnitude, choose, gather

    statistics = None
    if settings.recover != "none":
        statistics = gather(layers, calibration.inputs, seed=settings.seed)
    choices = by_magnitude(layers) if statistics is None or not searching else choose(layers, statistics)
    orders, losses, magnitudes = zip(*((c.order, c.loss, c.magnitude) for c in choices), strict=True)
    return Learned(orders, losses, magnitudes, statistics)


def _arranged(sizes: Sequence[Array], orders: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(size[order] for size, order in zip(sizes, orders, strict=True))


def candidate(subject: Subject, learned: Learned, removal: Removal) -> Graph:
    """The network without the removed units, reconstructed where there are statistics."""
    pure = subject.pure(removal)
    if learned.statistics is None:
        return pure
    if subject.layers is not None:
        return refit(subject.layers, removal, pure, learned.statistics)
    from amcc.passes.recovery import reconstruct

    return reconstruct(subject.channels, removal, pure, learned.statistics)


def quickly_repaired(subject: Subject, learned: Learned, removal: Removal) -> Graph:
    """The candidate as the search scores it: repaired over a few samples where weights are repaired."""
    graph = candidate(subject, learned, removal)
    return graph if learned.repairer is None else learned.repairer.repair(removal, graph)


@dataclass(frozen=True)
class Scorer:
    """Tells what a keep scores: the function that workers are sent, with all that it needs.

    What is the same for every plan belongs in `learned` before that, so that no worker has a copy of its own.
    """

    subject: Subject
    learned: Learned
    evaluator: Evaluator

    def __call__(self, plan: Array | Challenge) -> float:
        """The score of a plan, higher is better; the same in every process and for any number of threads."""
        keep, least = plan if isinstance(plan, Challenge) else (plan, None)
        removal = self.subject.removal(keep, self.learned.orders)
        return self.evaluator.score(quickly_repaired(self.subject, self.learned, removal), least)

    def on(self, threads: int) -> Scorer:
        """The same with another number of threads of ONNX Runtime."""
        repairer = self.learned.repairer and self.learned.repairer.on(threads)
        return Scorer(self.subject, replace(self.learned, repairer=repairer), self.evaluator.on(threads))
