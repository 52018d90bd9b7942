"""The learning rate at the points that the reference states."""

import pytest

from taomagic.engine.training.schedule import SoftStartAnnealing, should_stop_early


@pytest.mark.parametrize(
    ("progress", "rate"), [(0.0, 5e-5), (0.075, 1e-3), (0.5, 2e-2), (0.8, 2e-2), (0.9, 1e-3), (1.0, 5e-5)]
)
def test_the_documented_schedule_passes_the_documented_points(progress, rate):
    schedule = SoftStartAnnealing(5e-5, 2e-2, 0.15, 0.8)
    assert schedule(progress) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([3, 2, 1], False),
        ([1, 1, 1], True),
        ([1, 0.95, 0.9], True),
        ([1, 0.8, 0.9], False),
        ([1, 0.8, 0.9, 0.85], True),
    ],
)
def test_training_stops_when_the_monitor_has_not_fallen_for_patience_epochs(values, stops):
    assert should_stop_early(values, patience=2, min_delta=0.1) is stops
