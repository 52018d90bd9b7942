"""A batch whose values are too large for float16 costs a step, not the training; a loss that stays broken ends it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.training.loop import NotFiniteLoss, train_epoch
from taomagic.engine.training.report import StepResult
from taomagic.engine.training.step import MOST_OVERFLOWS, Step

CPU = Device(torch.device("cpu"))


class Square:
    """The mean square of what the network says; NaN where an image is infinite."""

    def __init__(self, output: Tensor) -> None:
        self.total = output.square().mean()

    def named(self) -> dict[str, Tensor]:
        return {"square": self.total}


def batch(value: float) -> Batch:
    images = torch.full((2, 3, 4, 4), value) * torch.rand(2, 3, 4, 4)
    labels = torch.zeros(2, 1, dtype=torch.int64)
    return Batch(images, torch.zeros(2, 1, 4), labels, labels.bool(), ("a", "b"), global_size=2)


def train(values: list[float], *, float16: bool) -> tuple[Any, Step, list[StepResult]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    step = Step(
        model,
        lambda *outputs, batch: Square(outputs[0]),
        CPU,
        torch.optim.SGD(model.parameters(), lr=0.1),
        SimpleNamespace(penalty=lambda: 0.0, add_gradients=lambda: None),  # type: ignore[arg-type]
        torch.amp.GradScaler("cpu", enabled=float16),
    )
    told: list[StepResult] = []
    result = train_epoch(
        (batch(value) for value in values),
        len(values),
        step,
        learning_rate_at=lambda _: 0.1,
        on_step=told.append,
    )
    return result, step, told


def test_a_step_that_overflows_is_skipped_and_leaves_weights_and_statistics_sound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result, step, told = train([1.0, np.inf, 1.0, np.inf, 1.0], float16=True)
    assert [each.index for each in told] == [0, 2, 4]
    assert np.isfinite(result.loss)
    assert result.loss == pytest.approx(np.mean([each.loss for each in told]))
    assert all(torch.isfinite(tensor).all() for tensor in step.model.state_dict().values())
    assert "Step 2: a value is too large for float16; the step is skipped." in caplog.text
    assert step.overflows == 0


@pytest.mark.parametrize("values", [[np.inf, np.inf], [1.0] + [np.inf] * MOST_OVERFLOWS])
def test_a_loss_that_is_never_finite_ends_the_training(values: list[float]) -> None:
    with pytest.raises(NotFiniteLoss):
        train(values, float16=True)


def test_in_other_precisions_nothing_is_skipped() -> None:
    with pytest.raises(NotFiniteLoss):
        train([1.0, np.inf, 1.0], float16=False)
