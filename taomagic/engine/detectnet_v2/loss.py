"""What DetectNet_v2 minimises: coverage as a binary question, and the sides of the boxes where there is coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from taomagic.engine.detectnet_v2.targets import GridTargets
from taomagic.engine.training.distributed import sum_over_ranks
from taomagic.spec.settings_detectnet_v2 import ClassCostSettings, CostSettings

#: Keeps logarithms of 0 finite.
_EPSILON = 1e-5
#: Cells with more coverage than this count as foreground.
_FOREGROUND = 0.5

#: A class and one of its objectives, ``cov`` or ``bbox``.
Part = tuple[str, str]


def coverage_cost(predicted: Tensor, wanted: Tensor, foreground_weight: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy of each cell.

    Parameters
    ----------
    predicted, wanted
        [N, C, H, W] coverage, between 0 and 1.
    foreground_weight
        [C] weight of cells with more coverage than a half; the others weigh one minus it.

    Returns
    -------
    Tensor
        [N, C, H, W].
    """
    entropy = -(wanted * torch.log(predicted + _EPSILON) + (1 - wanted) * torch.log(1 - predicted + _EPSILON))
    weight = foreground_weight[:, None, None]
    return entropy * torch.where(wanted > _FOREGROUND, weight, 1 - weight)


def box_cost(predicted: Tensor, targets: GridTargets) -> Tensor:
    """Return the L1 distance of the four sides [N, C, 4, H, W], weighted by the targets' coverage."""
    return targets.weight[:, :, None] * (predicted - targets.boxes).abs()


class GridLoss:
    """The parts of the loss, and how much each of them counts.

    Parameters
    ----------
    settings
        ``cost_function_config``; its classes are the network's channels.

    Attributes
    ----------
    weights
        Weight of each part; the class' own weight is not in it. They change only with ``enable_autoweighting``.
    """

    def __init__(self, settings: CostSettings) -> None:
        self._settings = settings
        self.classes: Sequence[str] = tuple(settings.classes)
        total = sum(one.class_weight for one in settings.classes.values())
        self._class_weights = {name: one.class_weight / total for name, one in settings.classes.items()}
        self._foreground = torch.tensor([one.coverage_foreground_weight for one in settings.classes.values()])
        self.weights: dict[Part, float] = {}
        for name, one in settings.classes.items():
            shares = sum(one.initial_weights.values())
            self.weights.update({(name, part): w / shares for part, w in one.initial_weights.items()})
        self._sums: Tensor | None = None

    def parts(
        self,
        coverage: Tensor,
        boxes: Tensor,
        targets: GridTargets,
        *,
        mask: Mapping[str, Tensor] | None = None,
    ) -> dict[Part, Tensor]:
        """Return the mean cost of every class and objective.

        Parameters
        ----------
        coverage
            [N, C, H, W] after the sigmoid.
        boxes
            [N, C, 4, H, W].
        targets
            What the rasteriser drew.
        mask
            By objective, [N, 1 or C, H, W] factor of every cell; see :mod:`taomagic.engine.detectnet_v2.masks`.
        """
        cov = coverage_cost(coverage.float(), targets.coverage, self._foreground.to(coverage.device))
        box = box_cost(boxes.float(), targets)
        if mask is not None:
            cov = cov * mask["cov"]
            box = box * mask["bbox"][:, :, None]
        # Over images and cells; the boxes' four sides are averaged too.
        means = {"cov": cov.mean(dim=(0, 2, 3)), "bbox": box.mean(dim=(0, 2, 3, 4))}
        return {part: means[part[1]][self.classes.index(part[0])] for part in self.weights}

    def total(self, parts: Mapping[Part, Tensor]) -> Tensor:
        """Return the weighted sum that is minimised."""
        weighted = [
            self._class_weights[part[0]] * self.weights[part] * value for part, value in parts.items()
        ]
        return torch.stack(weighted).sum()

    # -- automatic weights -----------------------------------------------------------------------------------------

    def note(self, parts: Mapping[Part, Tensor]) -> None:
        """Remember the costs of a step for :meth:`rebalance`, without waiting for a GPU to have computed them."""
        if self._settings.enable_autoweighting:
            costs = torch.stack([parts[part].detach() for part in self.weights])
            self._sums = costs if self._sums is None else self._sums + costs

    def rebalance(self) -> None:
        """At the end of an epoch, let each objective weigh what its target says in proportion to what it cost.

        Where several processes train, each has noted its share of the costs, and all get the same weights.
        """
        if not self._settings.enable_autoweighting or self._sums is None:
            return
        sums = dict(zip(self.weights, sum_over_ranks(self._sums).tolist(), strict=True))
        self._sums = None
        for name, one in self._settings.classes.items():
            self._rebalance_class(name, one, sums)

    def state(self) -> dict[str, float]:
        """Return the weights under names such as ``car/cov``; nothing where they never change."""
        if not self._settings.enable_autoweighting:
            return {}
        return {f"{name}/{objective}": weight for (name, objective), weight in self.weights.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on with the weights that :meth:`state` returned."""
        for name, objective in self.weights:
            self.weights[name, objective] = state.get(f"{name}/{objective}", self.weights[name, objective])

    def _rebalance_class(self, name: str, settings: ClassCostSettings, sums: Mapping[Part, float]) -> None:
        wanted = {}
        for objective, target in settings.weight_targets.items():
            cost = sums[name, objective]
            wanted[objective] = target / cost if cost > 0 else 0.0
        total = sum(wanted.values())
        if total <= 0:
            return
        low, high = self._settings.min_objective_weight, self._settings.max_objective_weight
        for objective, value in wanted.items():
            self.weights[name, objective] = min(max(value / total, low), high)
