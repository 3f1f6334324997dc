"""The last round of a search: its best plans, each repaired as it would be shipped, on more samples.

The search scores a plan with weights from Gram matrices, which a repair front to back improves by an
amount that differs from plan to plan, and on few samples, where the best of many plans is partly luck.
So the best plan of each policy meets the others once more, repaired, on all samples that neither
recovery nor the report uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from amcc.ir import Array, Graph
from amcc.metric import Evaluator
from amcc.passes.channels import Removal
from amcc.passes.cost import CostModel, node_macs
from amcc.search import SearchResult
from amcc.search.journal import Record
from amcc.stages import Learned, Subject, candidate
from amcc.study import Study, side_by_side

FINALISTS = 4
_MACS = 3 * 10**12
"""A last round repairs as many plans as stay below so many multiply-accumulates."""

_BLOCK_MACS = 10**13
"""Block reconstruction stays below so many multiply-accumulates, gradients counted as two."""

_FEWEST_EPOCHS = 2
_AS_LONG_AS = 2
"""The blocks of several networks of one study take as long as those of so many by themselves."""


@dataclass(frozen=True)
class Finalist:
    """A plan in the last round.

    Attributes:
        graph: the repaired network.
        score: of that network, on `samples` samples.
    """

    record: Record
    graph: Graph
    score: float
    samples: int


@dataclass(frozen=True)
class _Finisher:
    """Repairs a plan as it would be shipped and judges it: for the last round, here or in workers."""

    subject: Subject
    learned: Learned
    inputs: Mapping[str, Array]
    judge: Evaluator
    seed: int
    threads: int

    def __call__(self, keep: Array) -> tuple[Graph, float]:
        from amcc.passes.recovery import repair

        channels = self.subject.channels
        removal = self.subject.removal(keep, self.learned.orders)
        quick, (cut, masks) = candidate(self.subject, self.learned, removal), self.subject.cut(removal)
        graph = repair(channels, cut, quick, self.inputs, seed=self.seed, threads=self.threads, masks=masks)
        return graph, self.judge.score(graph)

    def on(self, threads: int) -> _Finisher:
        """The same with another number of threads of ONNX Runtime."""
        return replace(self, judge=self.judge.on(threads), threads=threads)


def last_round(study: Study, found: SearchResult) -> tuple[Finalist, ...]:
    """The finalists, best first; none where weights are not repaired."""
    return last_rounds(study, [found], places(study))[0]


def last_rounds(study: Study, found: Sequence[SearchResult], most: int) -> list[tuple[Finalist, ...]]:
    """A last round for each of several budgets, the tightest first; the winner of each enters the next.

    So no budget ends with a lower score than a tighter one.

    Args:
        most: plans that each budget repairs.
    """
    if study.learned.statistics is None:
        return [() for _ in found]
    settings, entered = study.settings, [{record.keep: record for record in entrants(one, most)} for one in found]
    wanted = {keep: record for one in reversed(entered) for keep, record in one.items()}
    rounds: list[tuple[Finalist, ...]] = []
    with study.clock.phase("repair", "repairing the best plans front to back"):
        judge = study.judge
        inputs, learned = study.splits.calibration.inputs, replace(study.learned, repairer=None)
        finisher = _Finisher(study.subject, learned, inputs, judge, settings.seed, settings.threads)
        finished = side_by_side(study, finisher, [np.array(keep) for keep in wanted])
        known = {
            keep: Finalist(wanted[keep], graph, score, len(judge.data))
            for keep, (graph, score) in zip(wanted, finished, strict=True)
        }
        for one in entered:
            finalists = {keep: known[keep] for keep in one}
            for before in rounds[-1:]:
                finalists.setdefault(before[0].record.keep, before[0])
            rounds.append(tuple(sorted(finalists.values(), key=lambda finalist: -finalist.score)))
    return rounds


def winner(finalists: tuple[Finalist, ...], found: SearchResult) -> Record:
    """What is shipped: the best of the last round, or of the search where there was none."""
    return finalists[0].record if finalists else found.best


def recovered(study: Study, removal: Removal, repaired: Graph | None = None) -> Graph:
    """What is shipped: of the reconstructed, the repaired and the network fitted block by block, the best.

    Each should be better than the one before it: taken is the last that is not behind another by more than chance.

    Args:
        repaired: the repaired one, where it is known.
    """
    quick = candidate(study.subject, study.learned, removal)
    if study.learned.statistics is None:
        return quick
    from amcc.passes.recovery import reconstruct_blocks, repair

    channels, inputs, seed = study.subject.channels, study.splits.calibration.inputs, study.settings.seed
    cut, masks = study.subject.cut(removal)
    with study.clock.phase("repair", "repairing front to back"):
        if repaired is None:
            repaired = repair(channels, cut, quick, inputs, seed=seed, threads=study.settings.threads, masks=masks)
        tried = [quick, repaired]
    if epochs := _epochs(study, repaired):
        with study.clock.phase("blocks", "fitting blocks together"):
            fitted = reconstruct_blocks(channels, cut, repaired, inputs, seed=seed, epochs=epochs, masks=masks)
            tried.append(fitted)
    scores = [study.judge.score(graph) for graph in tried]
    best = max(scores)
    return [graph for graph, score in zip(tried, scores, strict=True) if score >= best - study.judge.noise(best)][-1]


def _epochs(study: Study, repaired: Graph) -> int:
    """How often block reconstruction goes over the samples: fewer times for large or many networks, or not at all."""
    from amcc.passes.recovery.blocks import EPOCHS

    samples = study.splits.calibration
    if study.settings.recover != "full" or samples.synthetic:
        return 0
    macs = 3 * sum(node_macs(repaired).values()) * len(samples)
    epochs = min(EPOCHS, EPOCHS * _AS_LONG_AS // study.results, _BLOCK_MACS // max(macs, 1))
    return epochs if epochs >= _FEWEST_EPOCHS else 0


def places(study: Study) -> int:
    """How many plans a last round has: fewer for large networks, at least one."""
    macs = CostModel(study.subject.channels).original.flops * len(study.splits.calibration)
    return max(1, min(FINALISTS, _MACS // max(macs, 1)))


def entrants(found: SearchResult, most: int) -> list[Record]:
    """The best plan, the best of each other policy, then the next best; no plan twice."""
    by_score = sorted(found.fitting, key=lambda record: (-record.score, record.episode))
    heads = sorted(found.by_policy.values(), key=lambda record: (-record.score, record.episode))
    chosen: dict[tuple[int, ...], Record] = {}
    for record in (found.best, *heads, *by_score):
        chosen.setdefault(record.keep, record)
    return list(chosen.values())[:most]
