"""After which epochs a network is validated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from taomagic.engine.training.network import Network


@pytest.mark.parametrize(
    ("first", "period", "last", "expected"),
    [
        (30, 10, 120, [30, 40, 50, 60, 70, 80, 90, 100, 110, 120]),  # NVIDIA's specs
        (1, 1, 4, [1, 2, 3, 4]),
        (2, 3, 9, [2, 5, 8, 9]),  # the last one always
        (5, 2, 3, [3]),  # the first one lies behind the end
        (3, 3, 7, [3, 6, 7]),  # SSD: every third one
    ],
)
def test_the_first_one_then_every_period_and_the_last(
    first: int, period: int, last: int, expected: list[int]
) -> None:
    network = SimpleNamespace(has_validation=True, first_validation_epoch=first, validation_period=period)
    found = [epoch for epoch in range(1, last + 1) if Network.is_validated(network, epoch, last)]  # type: ignore[arg-type]
    assert found == expected


def test_without_validation_data_there_is_nothing_to_validate() -> None:
    network = SimpleNamespace(has_validation=False, first_validation_epoch=1, validation_period=1)
    assert not Network.is_validated(network, 4, 4)  # type: ignore[arg-type]
