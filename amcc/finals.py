"""The last round of a search: its best plans, each repaired as it would be shipped, on more samples.

The search scores a plan with weights from Gram matrices, which a repair front to back improves by an
amount that differs from plan to plan, and on few samples, where the best of many plans is partly luck.
So the best plan of each policy meets the others once more, repaired, on all samples that neither
recovery nor the report uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amcc.ir import Graph
from amcc.metric import Evaluator
from amcc.passes.channels import Removal
from amcc.passes.cost import CostModel
from amcc.search import SearchResult
from amcc.search.journal import Record
from amcc.stages import candidate
from amcc.study import Study

FINALISTS = 4
_MACS = 3 * 10**12
"""A last round repairs as many plans as stay below so many multiply-accumulates."""


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
    from amcc.passes.recovery import repair

    subject, inputs = study.subject, study.splits.calibration.inputs
    rounds: list[tuple[Finalist, ...]] = []
    known: dict[tuple[int, ...], Finalist] = {}
    with study.clock.phase("repair", "repairing the best plans front to back"):
        judge = Evaluator(subject.graph, study.splits.finals, study.settings.metric, threads=study.settings.threads)
        for one in found:
            entered: dict[tuple[int, ...], Finalist] = {}
            for record in entrants(one, most):
                if record.keep not in known:
                    removal = subject.channels.removal(record.keep, study.learned.orders)
                    quick = candidate(subject, study.learned, removal)
                    graph = repair(subject.channels, removal, quick, inputs, seed=study.settings.seed)
                    known[record.keep] = Finalist(record, graph, judge.score(graph), len(judge.data))
                entered[record.keep] = known[record.keep]
            for before in rounds[-1:]:
                entered.setdefault(before[0].record.keep, before[0])
            rounds.append(tuple(sorted(entered.values(), key=lambda finalist: -finalist.score)))
    return rounds


def winner(finalists: tuple[Finalist, ...], found: SearchResult) -> Record:
    """What is shipped: the best of the last round, or of the search where there was none."""
    return finalists[0].record if finalists else found.best


def recovered(study: Study, removal: Removal, repaired: Graph | None = None) -> Graph:
    """What is shipped: the better of the reconstructed and the repaired network, by the search's score.

    Args:
        repaired: the repaired one, where it is known.
    """
    quick = candidate(study.subject, study.learned, removal)
    if study.learned.statistics is None:
        return quick
    from amcc.passes.recovery import repair

    if repaired is None:
        inputs = study.splits.calibration.inputs
        repaired = repair(study.subject.channels, removal, quick, inputs, seed=study.settings.seed)
    score = study.evaluator.score
    return repaired if score(repaired) >= score(quick) else quick


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
