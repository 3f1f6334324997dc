"""Several points of one search: how much metric is left at which cost. `pareto.json`.

Nothing in it differs between two runs of the same command; latencies stand in the points' own summaries.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from amcc.budget import Key
from amcc.jsontext import Document, Filed
from amcc.summary import Count, Measured


class Cost(Document):
    """What a network costs.

    Attributes:
        macs: multiply-accumulates of one sample.
        params: elements of all parameters.
        bytes: of all parameters.
        memory: bytes of activations alive at once, one sample, at the worst moment.
    """

    macs: Count
    params: Count
    bytes: Count
    memory: Count


class Point(Document):
    """One budget and what met it.

    Attributes:
        asked: the budget as it was given.
        folder: with the artifacts, beside this file.
        limit: of the resource, in whole units; `reached` is at most that.
        policy: who proposed the plan.
        searched: the best score that the search saw for this budget, weights repaired in haste.
        uniform: the same of one ratio for all groups; None where that was not tried.
        score: what the plan was chosen by, on `samples` samples; never below that of a tighter budget.
        search, report: the metric of what is shipped on the search's samples, and on ones that it did not see.
    """

    asked: str
    folder: str
    limit: Count
    reached: Count
    ratio: float
    cost: Cost
    policy: str
    searched: float
    uniform: float | None
    score: float
    samples: Count
    search: Measured | None
    report: Measured | None


class Front(Filed):
    """All points, the tightest budget first.

    Attributes:
        original: what the network cost as it came.
        evaluations: different plans that were scored.
        inputs: SHA-256 of the model and of each data set.
    """

    FILE: ClassVar = "pareto.json"

    version: Literal[1] = 1
    model: str
    resource: Key
    metric: str
    original: Cost
    evaluations: Count
    points: tuple[Point, ...]
    seed: int
    versions: dict[str, str]
    inputs: dict[str, str]
