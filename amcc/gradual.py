"""A budget reached in steps: cut a little, train, cut again, as AMC does for high ratios.

The steps are geometric: of n, the k-th leaves the share `ratio^(k/n)` of each resource. Every step analyses what the
one before left and searches anew; the original teaches all of them. In the end there is one plan for the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from amcc.budget import Budget, Key, Term
from amcc.deadline import choose
from amcc.errors import UsageError, VerificationError
from amcc.finals import recovered
from amcc.ir import Array, Graph
from amcc.passes.channels import Channels, analyze
from amcc.passes.sparsity import layers_of
from amcc.problems import costs_of, limits_of
from amcc.stages import learn, weights_hash
from amcc.study import Study, find, hire
from amcc.summary import TuningLine
from amcc.target import Target
from amcc.training import Training

Kept = Mapping[tuple[str, int], Array]
"""The original's indices that stay, for each (value, axis) that is shorter."""


@dataclass(frozen=True)
class Narrowed:
    """What the steps came to, the last one's training aside.

    Attributes:
        removal: of the original's units.
        graph: the network after the last cut, its weights recovered.
        policy: that found the last plan.
        lines: of the trainings so far.
    """

    removal: dict[int, Array]
    graph: Graph
    policy: str
    lines: tuple[TuningLine, ...]


def check_training(asked: Budget, target: Target | None, training: Training) -> None:
    """Refuse what does not go together.

    Raises:
        UsageError: a guarantee, or a budget of latency in steps.
    """
    if target is not None:
        hint = "compile with --budget, or tune the folder afterwards"
        raise UsageError(f"--{target.kind} holds for weights that are not trained on", where="--tune", hint=hint)
    if training.steps > 1 and asked.of("latency") is not None:
        raise UsageError("a budget of latency is not reached in steps", where="--steps", hint="ask for flops")


def narrowed(
    study: Study, asked: Budget, training: Training, journal: Path | None, *, ship_on_interrupt: bool
) -> Narrowed:
    """Go all steps, training after each but the last.

    Raises:
        BudgetError: a step's budget is out of reach.
        Interrupted: Ctrl-C; what is done is not done again.
    """
    channels, steps = study.subject.channels, training.steps
    kept: dict[tuple[str, int], Array] = {}
    lines: list[TuningLine] = []
    graph = study.subject.graph
    for step in range(1, steps + 1):
        budget = _budget(study, asked, step / steps) if step < steps else _exactly(study, asked)
        study.clock.observer.phase(f"step {step} of {steps}: {budget}")
        own = study if step == 1 else _on(study, graph, steps)
        with own:
            place = journal if journal is None or step == steps else journal.with_name(f"{journal.name}.{step}")
            chosen = choose(own, budget, find(own, budget, place, ship_on_interrupt=ship_on_interrupt))
        removal = own.subject.removal(chosen.record.keep, own.learned.orders)
        graph = recovered(own, removal, chosen.finalists[0].graph if chosen.finalists else None)
        kept = _composed(kept, own.subject.channels, own.subject.cut(removal).channels)
        if step < steps:
            graph, line = training.run(study, kept, graph, step)
            lines.append(line)
    total = _removal(channels, kept) if study.subject.layers is None else removal  # zeros are the first to go again
    _check(study.subject.pure(total), graph)
    return Narrowed(total, graph, chosen.record.policy, tuple(lines))


@contextmanager
def step_journals(journal: Path | None, steps: int, *, fresh: bool) -> Iterator[None]:
    """The journals of all steps but the last: gone once what is within is written, and before where wanted fresh."""
    files = [] if journal is None else [journal.with_name(f"{journal.name}.{step}") for step in range(1, steps)]
    for file in files if fresh else ():
        file.unlink(missing_ok=True)
    yield
    for file in files:
        file.unlink(missing_ok=True)


def _budget(study: Study, asked: Budget, share: float) -> Budget:
    """What a step is to reach, in whole units of the original."""
    before = costs_of(study.subject, asked).original
    limits = dict(asked.resolve(before).items())
    return Budget(tuple(_term(k, round(before.of(k) * (limits[k] / before.of(k)) ** share)) for k in limits))


def _exactly(study: Study, asked: Budget) -> Budget:
    """The budget itself, in whole units of the original."""
    model = costs_of(study.subject, asked)
    return Budget(tuple(_term(key, limit) for key, limit in limits_of(asked, model).items()))


def _term(key: Key, limit: int) -> Term:
    return Term(key, Fraction(limit), relative=False, text=str(limit))


def _on(study: Study, graph: Graph, steps: int) -> Study:
    """The study of the network that a step left; metric and data are the original's."""
    settings = study.settings
    if settings.min_keep < 1:
        settings = replace(settings, min_keep=settings.min_keep ** (1 / steps))
    channels = analyze(graph, locked=_there(graph, settings.lock), exact=settings.exact)
    layers = study.subject.layers
    if layers is not None:
        layers = layers_of(graph, layers.granularity, locked=settings.lock)
    subject = replace(study.subject, channels=channels, layers=layers, sha256=weights_hash(graph))
    with study.clock.phase("calibration", "calibrating"):
        learned = learn(subject, study.splits.calibration, settings)
    return hire(replace(study, subject=subject, learned=learned, settings=settings, pool=None))


def _there(graph: Graph, names: tuple[str, ...]) -> tuple[str, ...]:
    nodes = {node.name for node in graph.nodes}
    return tuple(name for name in names if name in graph.values or name in nodes)


def _composed(before: Kept, channels: Channels, removal: Mapping[int, Array]) -> dict[tuple[str, int], Array]:
    """What stays of the original after one more cut."""
    found = dict(before)
    for place, indices in channels.kept(removal).items():
        name, axis = place
        length = channels.graph.shape(name)[axis]
        period = len(channels.axes[place])
        if isinstance(length, int) and length != period:
            indices = (np.arange(0, length, period)[:, None] + indices).ravel()
        found[place] = before[place][indices] if place in before else indices
    return found


def _removal(channels: Channels, kept: Kept) -> dict[int, Array]:
    """The units of which nothing stays."""
    found: dict[int, Array] = {}
    for group in channels.groups:
        piece = group.slices[0]
        if (piece.param, piece.axis) not in kept:
            continue
        left = kept[piece.param, piece.axis]
        gone = [unit for unit in range(group.size) if not np.isin(piece.indices[unit], left).all()]
        if gone:
            found[group.index] = np.array(gone, np.int64)
    return found


def _check(pure: Graph, graph: Graph) -> None:
    """Whether the plan for the original leaves what the steps left.

    Raises:
        VerificationError: a parameter has another shape.
    """
    for name, array in pure.params.items():
        if name not in graph.params or graph.params[name].shape != array.shape:
            found = graph.params[name].shape if name in graph.params else None
            raise VerificationError(
                f"after all steps '{name}' is {found}, by the plan for the original {array.shape}",
                hint="this is a fault of amcc: please report the model; without --steps it is not met",
            )
