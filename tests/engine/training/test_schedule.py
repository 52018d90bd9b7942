"""The learning rate at the points that the reference states."""

import pytest

from taomagic.engine.training.schedule import (
    AnnealingOnPlateau,
    FixedLength,
    SoftStartAnnealing,
    should_stop_early,
)
from taomagic.spec.settings import EarlyStoppingSettings


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


@pytest.mark.parametrize(
    ("step", "expected"),
    # 10 epochs of 10 steps with soft start 0.1 and annealing 0.7, the rates of NVIDIA's DetectNet_v2 specs: worked out
    # by hand as 5e-7 · 100^t.
    [(0, 5e-7), (5, 5e-6), (10, 5e-5), (40, 5e-5), (70, 5e-5), (85, 5e-6), (100, 5e-7)],
)
def test_rates_of_detectnet_are_straight_in_the_logarithm(step: int, expected: float) -> None:
    schedule = FixedLength(SoftStartAnnealing(5e-7, 5e-5, 0.1, 0.7), epochs=10, steps=10)
    assert schedule.rate(step, []) == pytest.approx(expected, rel=1e-9)


def test_a_training_of_fixed_length_ends_early_by_its_rule_only() -> None:
    history = [{"epoch": 1.0, "loss": 2.0}, {"epoch": 2.0, "loss": 2.0}]
    curve = SoftStartAnnealing(1e-4, 1e-2, 0.1, 0.7)
    rule = EarlyStoppingSettings("loss", 0.0, 1)
    assert FixedLength(curve, 9, 10, rule).last_epoch(history[:1]) == 9
    assert FixedLength(curve, 9, 10, rule).last_epoch(history) == 2
    assert FixedLength(curve, 9, 10).last_epoch(history) == 9


def costs(*values: float | None) -> list[dict[str, float]]:
    """Return the rows of epochs with these validation costs; ``None``: not validated."""
    rows = [{"epoch": float(epoch), "loss": 1.0} for epoch in range(1, len(values) + 1)]
    for row, value in zip(rows, values, strict=True):
        if value is not None:
            row["validation_loss"] = value
    return rows


#: Two epochs to rise, four to fall, after three without a lower cost; ten steps an epoch.
PLATEAU = AnnealingOnPlateau(1e-6, 1e-4, 2, 4, patience=3, epochs=20, steps=10)


@pytest.mark.parametrize(
    ("step", "expected"),
    # 1e-6 · 100^t; annealing begins after epoch 5, at step 50.
    [(0, 1e-6), (10, 1e-5), (20, 1e-4), (49, 1e-4), (50, 1e-4), (70, 1e-5), (90, 1e-6), (95, 1e-6)],
)
def test_rates_fall_when_the_validation_cost_has_not_fallen_for_a_while(step: int, expected: float) -> None:
    history = costs(0.9, 0.5, 0.6, 0.5, 0.7)[: step // 10]
    assert PLATEAU.rate(step, history) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ((), 20),
        ((0.9, 0.5, 0.6, 0.5), 20),  # two epochs since the lowest
        ((0.9, 0.5, 0.6, 0.5, 0.7), 9),  # three: four more
        ((0.9, 0.5, 0.6, 0.5, 0.7, 0.1), 9),  # annealing goes on whatever comes
        ((0.9, None, None, 0.9), 8),  # epochs count, not validations
        ((0.9, None, None, None, 0.8, None, None, 0.85), 12),
        ((0.5, 0.4) * 8, 9),
        ((*(1.0 - 0.01 * i for i in range(16)), 1.0, 1.0, 1.0), 20),  # 19 + 4, but 20 are all
    ],
)
def test_the_training_ends_when_annealing_is_over(values: tuple[float | None, ...], last: int) -> None:
    assert PLATEAU.last_epoch(costs(*values)) == last


def test_annealing_within_no_epochs_ends_at_once() -> None:
    schedule = AnnealingOnPlateau(1e-6, 1e-4, 0, 0, patience=1, epochs=9, steps=10)
    assert schedule.rate(0, []) == pytest.approx(1e-4)
    assert schedule.last_epoch(costs(0.5, 0.6)) == 2
