"""Policies side by side: the same network, data, budget and number of evaluations. `compare.json`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import ClassVar, Literal

from amcc.jsontext import Document, Filed
from amcc.summary import BudgetLine, Count


class Spread(Document):
    """Of one number over several seeds.

    Attributes:
        spread: the sample's standard deviation; 0 for one seed.
    """

    mean: float
    spread: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values, of which there is one at least."""
        spread = stdev(values) if len(values) > 1 else 0.0
        return cls(mean=fmean(values), spread=spread, least=min(values), most=max(values))


class Shipped(Document):
    """A plan's network, repaired as it would be shipped.

    Attributes:
        score: on the samples of the last round; None where weights are not repaired.
        report: the metric on samples that no search saw.
    """

    score: float | None
    report: float


class Original(Document):
    """The metric of the network as it came, on the samples that searches score and on the report's."""

    search: float
    report: float


class Play(Document):
    """One policy with one seed.

    Attributes:
        score: of its best plan that fits.
        found_by: who proposed that one; a policy may begin with the plans of rules.
        own: the best score of plans that the policy proposed under its own name.
        evaluations: plans that it asked to be scored.
        distinct: different ones among them.
        curve: each new best, as the number of evaluations until then and its score.
        keep: of the best plan, the units kept of each group.
    """

    seed: int
    score: float
    found_by: str
    own: float | None
    evaluations: Count
    distinct: Count
    curve: tuple[tuple[int, float], ...]
    keep: tuple[int, ...]
    shipped: Shipped | None = None


class Rival(Document):
    """One policy.

    Attributes:
        score: the best score of each seed.
        report: the metric on unseen samples of what was repaired.
        behind: how far the mean score is below that of the best policy.
    """

    policy: str
    score: Spread
    report: Spread | None
    behind: float
    plays: tuple[Play, ...]


class Grouped(Document):
    """A group and its units."""

    name: str
    size: Count


class Timing(Document):
    """Seconds that a search by one policy took besides its evaluations, on average over the seeds."""

    policy: str
    thinking: float


class Timings(Document):
    """All that no two runs share.

    Attributes:
        evaluation: seconds of one, on average; None where all were in the journals.
    """

    seconds: dict[str, float]
    evaluation: float | None
    policies: tuple[Timing, ...]


class Comparison(Filed):
    """All policies, the one with the best mean score first.

    Attributes:
        episodes: evaluations that each policy had, with each seed; rules need fewer.
        seeds: of the searches; samples and calibration are those of the first.
        samples: that searches score on, that the last round does, and that the report does.
        evaluations: different plans that were scored for all searches together.
    """

    FILE: ClassVar = "compare.json"

    version: Literal[1] = 1
    model: str
    budget: tuple[BudgetLine, ...]
    metric: str
    episodes: Count
    seeds: tuple[int, ...]
    original: Original
    samples: dict[Literal["search", "last round", "report"], Count]
    rivals: tuple[Rival, ...]
    evaluations: Count
    groups: tuple[Grouped, ...]
    recover: Literal["full", "layers", "none"]
    versions: dict[str, str]
    inputs: dict[str, str]
    warnings: tuple[str, ...]
    timings: Timings
