"""How far the smaller network is from where it is to be.

    label_weight * cross-entropy(labels) + output_weight * outputs + feature_weight * features

Class scores are compared as probabilities at a temperature T, by `T^2 * KL(original || smaller)` (Hinton et al. 2015,
arXiv 1503.02531); other outputs, and features, by the mean squared difference in units of the original's
variance. Where there are no labels for the first output, the first part is left out.

A function of the user's in place of this is called with the outputs, by name, the labels (or None) and the
original's outputs, by name, and gives a scalar tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amcc.errors import DataError
from amcc.tuning.targets import Target
from amcc.usercode import call

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Loss:
    """The loss of a step.

    Attributes:
        scales: one over the original's variance, by target; measured once, so that samples weigh the same in all
            steps and processes.
        function: the user's, in place of all.
    """

    targets: Sequence[Target]
    scales: Mapping[str, float]
    label_weight: float
    output_weight: float
    feature_weight: float
    temperature: float
    function: Callable[..., Any] | None = None

    def __call__(self, outputs: Mapping[str, Tensor], labels: Tensor | None, wanted: Mapping[str, Tensor]) -> Tensor:
        """A scalar: the mean over samples.

        Args:
            outputs: of the smaller network, by target.
            labels: class numbers [N], or None.
            wanted: of the original, by target.

        Raises:
            DataError: the user's function raises, or gives no scalar tensor.
        """
        import torch
        from torch.nn.functional import cross_entropy

        if self.function is not None:
            return self._users(self.function, outputs, labels, wanted)
        total = torch.zeros((), device=next(iter(outputs.values())).device)
        features = sum(target.feature for target in self.targets)
        others = len(self.targets) - features
        for target in self.targets:
            own = outputs[target.name].float()
            if target.labelled and labels is not None and self.label_weight:
                total = total + self.label_weight * cross_entropy(own.reshape(len(own), -1), labels)
            weight = self.feature_weight / features if target.feature else self.output_weight / others
            if weight:
                total = total + weight * self._distance(target, own, wanted[target.name])
        return total

    def __str__(self) -> str:
        if self.function is not None:
            return getattr(self.function, "__name__", "function")
        features = self.feature_weight if any(target.feature for target in self.targets) else 0.0
        parts = {"labels": self.label_weight, "outputs": self.output_weight, "features": features}
        return " + ".join(f"{weight:g} {name}" for name, weight in parts.items() if weight)

    def _distance(self, target: Target, own: Tensor, wanted: Tensor) -> Tensor:
        from torch.nn.functional import kl_div, log_softmax, mse_loss, softmax

        if target.classes is None:
            return mse_loss(own, wanted) * self.scales[target.name]
        axis, T = target.classes, self.temperature
        mine, theirs = log_softmax(own / T, axis), softmax(wanted / T, axis)
        each = kl_div(mine, theirs, reduction="none").sum(axis)
        return T * T * each.mean()

    def _users(
        self,
        function: Callable[..., Any],
        outputs: Mapping[str, Tensor],
        labels: Tensor | None,
        wanted: Mapping[str, Tensor],
    ) -> Tensor:
        import torch

        name = getattr(function, "__name__", "loss")
        found = call(function, outputs, labels, wanted, name=f"loss '{name}'")
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            raise DataError(f"loss '{name}' gave {type(found).__name__}, not a tensor with one number")
        return found.reshape(())


def scales_of(targets: Sequence[Target], wanted: Mapping[str, Tensor]) -> dict[str, float]:
    """One over the variance of each target that is compared by squared difference."""
    return {
        target.name: 1 / max(float(wanted[target.name].double().var(correction=0)), _LEAST_VARIANCE)
        for target in targets
        if target.classes is None
    }
