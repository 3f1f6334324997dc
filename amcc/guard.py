"""The check of a target on one set of samples: the metric with its confidence bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amcc.bounds import drop_upper, fewest_for_drop, mean_upper, share_lower, statistic_upper
from amcc.data import Dataset
from amcc.errors import BudgetError
from amcc.fidelity import Fidelity, fidelity
from amcc.ir import Array, Graph
from amcc.metric import Evaluator, Metric, Top1
from amcc.target import Target

EXACT, BOOTSTRAP = "exact", "bootstrap"


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        value: the metric, or its drop where the target is a drop.
        bound: the metric is at least so much, or its drop at most, at the target's confidence.
        passed: the bound is within the target.
    """

    metric: float
    value: float
    bound: float
    passed: bool


class Guard:
    """Checks networks on samples; the same for the same seed.

    Args:
        graph: the original.

    Attributes:
        method: how bounds are found: exactly from counts for top-1, else by the bootstrap.
        original: the original's metric on these samples.

    Raises:
        DataError: the metric fails on these samples.
    """

    def __init__(
        self,
        graph: Graph,
        data: Dataset,
        target: Target,
        metric: str | Metric | None = None,
        *,
        threads: int = 0,
        seed: int = 0,
    ) -> None:
        self._evaluator = Evaluator(graph, data, metric, threads=threads)
        self._target, self._seed = target, seed
        self._reference = self._evaluator.outputs(graph)
        self.data = data
        self.name = self._evaluator.name
        self.original = self._evaluator.original
        self.method = EXACT if isinstance(self._evaluator.function, Top1) else BOOTSTRAP

    def check(self, graph: Graph, count: int | None = None) -> Verdict:
        """The target's bound for a network.

        Args:
            count: tell what `count` samples of the same kind would show, for guidance; not a guarantee.
        """
        outputs = self._evaluator.outputs(graph)
        metric = self._evaluator.measure(outputs, self.data.labels)
        drops = self._target.kind == "max-drop"
        value = self.original - metric if drops else metric
        bound = self._bound(outputs)
        if count:
            bound = value + (bound - value) * (len(self.data) / count) ** 0.5
        passed = bound <= self._target.value if drops else bound >= self._target.value
        return Verdict(metric, value, bound, bool(passed))

    def demand_enough(self) -> None:
        """Find out before the search whether so few samples can show anything.

        Raises:
            BudgetError: even a network that is right on every sample would not pass.
        """
        target, count = self._target, len(self.data)
        if self.method == BOOTSTRAP:
            return
        if target.kind == "max-drop":
            if drop_upper(0, 0, count, target.alpha) <= target.value:
                return
            needed = f"about {fewest_for_drop(target.value, target.alpha)} are needed"
        elif target.value >= 1:
            needed = "a share of all samples is never sure"
        else:
            if share_lower(count, count, target.alpha) >= target.value:
                return
            needed = f"{math.ceil(math.log(target.alpha) / math.log(target.value))} are needed"
        raise BudgetError(
            f"{target} cannot be shown at {target.confidence:.4g} confidence on {count} samples: {needed}",
            where=self.data.source,
            hint="give more data, a lower --confidence or a wider target; --report-data and --calib of their own "
            "leave more of --data",
        )

    def _bound(self, outputs: Mapping[str, Array]) -> float:
        function, alpha, count = self._evaluator.function, self._target.alpha, len(self.data)
        drops = self._target.kind == "max-drop"
        if isinstance(function, Top1):
            before, after = function.right(self._reference), function.right(outputs)
            if drops:
                return drop_upper(int((before & ~after).sum()), int((after & ~before).sum()), count, alpha)
            return share_lower(int(after.sum()), count, alpha)
        if isinstance(function, Fidelity):
            least = fidelity(mean_upper(function.errors(outputs), alpha, self._seed))
            return self.original - least if drops else least
        if drops:
            return statistic_upper(
                lambda i: self._of(self._reference, i) - self._of(outputs, i), count, alpha, self._seed
            )
        return -statistic_upper(lambda i: -self._of(outputs, i), count, alpha, self._seed)

    def _of(self, outputs: Mapping[str, Array], indices: Array) -> float:
        labels = self.data.labels
        some = {name: array[indices] for name, array in outputs.items()}
        return self._evaluator.measure(some, None if labels is None else np.asarray(labels[indices]))
