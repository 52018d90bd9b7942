"""The loss against hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch

from taomagic.engine.detectnet_v2.loss import GridLoss, box_cost, coverage_cost
from taomagic.engine.detectnet_v2.targets import GridTargets
from taomagic.spec.settings_detectnet_v2 import ClassCostSettings, CostSettings


def cost(*, auto: bool = False, low: float = 0.0001, high: float = 0.9999) -> CostSettings:
    car = ClassCostSettings(1.0, 0.05, {"cov": 1.0, "bbox": 10.0}, {"cov": 1.0, "bbox": 10.0})
    cyclist = ClassCostSettings(8.0, 0.25, {"cov": 1.0, "bbox": 10.0}, {"cov": 1.0, "bbox": 1.0})
    return CostSettings({"car": car, "cyclist": cyclist}, auto, high, low)


def targets() -> GridTargets:
    coverage = torch.tensor([[[[0.0, 1.0]], [[0.25, 0.0]]]])  # [1, 2, 1, 2]
    boxes = torch.zeros(1, 2, 4, 1, 2)
    boxes[0, 0, :, 0, 1] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    return GridTargets(coverage, coverage * 0.5, boxes)


def test_coverage_is_a_weighted_cross_entropy() -> None:
    predicted = torch.tensor([[[[0.5, 0.8]], [[0.5, 0.5]]]])
    found = coverage_cost(predicted, targets().coverage, torch.tensor([0.05, 0.25]))
    assert float(found[0, 0, 0, 0]) == pytest.approx(-math.log(0.5 + 1e-5) * 0.95, rel=1e-5)
    assert float(found[0, 0, 0, 1]) == pytest.approx(-math.log(0.8 + 1e-5) * 0.05, rel=1e-5)
    quarter = -(0.25 * math.log(0.50001) + 0.75 * math.log(0.50001)) * 0.75
    assert float(found[0, 1, 0, 0]) == pytest.approx(quarter, rel=1e-5), "a quarter is background"


def test_a_sure_and_wrong_cell_costs_much_but_not_infinitely() -> None:
    predicted = torch.tensor([[[[1.0]]]], requires_grad=True)
    found = coverage_cost(predicted, torch.zeros(1, 1, 1, 1), torch.tensor([0.05])).sum()
    found.backward()
    assert found.item() == pytest.approx(-math.log(1e-5) * 0.95, rel=0.01)
    assert predicted.grad is not None
    assert bool(predicted.grad.isfinite().all())


def test_boxes_count_where_there_is_coverage_by_its_weight() -> None:
    found = box_cost(torch.zeros(1, 2, 4, 1, 2), targets())
    assert found[0, 0, :, 0, 1].tolist() == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert float(found[0, 1].sum() + found[0, 0, :, 0, 0].sum()) == 0.0


def test_the_total_weighs_classes_and_objectives() -> None:
    loss = GridLoss(cost())
    parts = loss.parts(torch.full((1, 2, 1, 2), 0.5), torch.zeros(1, 2, 4, 1, 2), targets())
    assert list(parts) == [("car", "cov"), ("car", "bbox"), ("cyclist", "cov"), ("cyclist", "bbox")]
    assert float(parts["car", "bbox"]) == pytest.approx(0.5 / 8), "the mean over four sides of two cells"
    values = {part: float(value) for part, value in parts.items()}
    expected = (values["car", "cov"] / 11 + values["car", "bbox"] * 10 / 11) / 9
    expected += (values["cyclist", "cov"] / 11 + values["cyclist", "bbox"] * 10 / 11) * 8 / 9
    assert float(loss.total(parts)) == pytest.approx(expected, rel=1e-5)


def test_a_mask_scales_cells() -> None:
    loss = GridLoss(cost())
    predicted, boxes = torch.full((1, 2, 1, 2), 0.5), torch.zeros(1, 2, 4, 1, 2)
    mask = torch.tensor([[[[1.0, 0.0]]]])
    parts = loss.parts(predicted, boxes, targets(), mask={"cov": mask, "bbox": mask})
    assert float(parts["car", "bbox"]) == 0.0
    assert float(parts["car", "cov"]) == pytest.approx(-math.log(0.50001) * 0.95 / 2, rel=1e-5)


def costs(cov: float, bbox: float) -> dict[tuple[str, str], torch.Tensor]:
    """Return the parts of a batch with cars, and without cyclists."""
    values = {("car", "cov"): cov, ("car", "bbox"): bbox, ("cyclist", "cov"): 0.0, ("cyclist", "bbox"): 0.0}
    return {part: torch.tensor(value) for part, value in values.items()}


def test_automatic_weights_follow_targets_over_costs() -> None:
    loss = GridLoss(cost(auto=True))
    for _ in range(2):
        loss.note(costs(0.5, 2.0))
    loss.rebalance()
    # 1 / 1.0 against 10 / 4.0
    assert loss.weights["car", "cov"] == pytest.approx(1.0 / 3.5)
    assert loss.weights["car", "bbox"] == pytest.approx(2.5 / 3.5)
    assert loss.weights["cyclist", "cov"] == pytest.approx(1 / 11), (
        "a class that cost nothing keeps its weights"
    )
    loss.rebalance()
    assert loss.weights["car", "cov"] == pytest.approx(1.0 / 3.5), "sums start again with each epoch"


def test_automatic_weights_keep_their_bounds_and_are_off_unless_asked_for() -> None:
    bounded = GridLoss(cost(auto=True, low=0.3, high=0.6))
    bounded.note(costs(1e-6, 1.0))
    bounded.rebalance()
    assert (bounded.weights["car", "cov"], bounded.weights["car", "bbox"]) == (0.6, 0.3)
    fixed = GridLoss(cost())
    fixed.note(costs(1.0, 1.0))
    fixed.rebalance()
    assert fixed.weights["car", "cov"] == pytest.approx(1 / 11)


def test_automatic_weights_survive_a_resume() -> None:
    loss = GridLoss(cost(auto=True))
    loss.note(costs(0.5, 2.0))
    loss.rebalance()
    resumed = GridLoss(cost(auto=True))
    resumed.restore(loss.state())
    assert resumed.weights == loss.weights
    assert GridLoss(cost()).state() == {}, "what never changes needs no memory"


def test_without_an_upper_bound_automatic_weights_vanish() -> None:
    # As in TAO, where an unset max_objective_weight is 0.
    loss = GridLoss(cost(auto=True, low=0.0, high=0.0))
    loss.note(costs(0.5, 2.0))
    loss.rebalance()
    assert loss.weights["car", "cov"] == loss.weights["car", "bbox"] == 0.0
