"""The average of the weights, the loss scale, and going on with both to the very same bits."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.storage.tree import flatten, unflatten
from taomagic.engine.training import state
from taomagic.engine.training.average import LARGEST_DECAY, WeightAverage, decay_after
from taomagic.engine.training.optimizer import set_learning_rate
from taomagic.engine.training.regularizer import Regularizer
from taomagic.engine.training.step import Step
from taomagic.spec.settings import CostScalingSettings

#: The exponent rises by a quarter each step, so that a scale begun anew would be noticed.
SCALING = CostScalingSettings(initial_exponent=10.0, increment=0.25, decrement=1.0)


@dataclass
class Squares:
    """A loss of two parts."""

    first: Tensor
    second: Tensor

    @property
    def total(self) -> Tensor:
        return self.first + self.second

    def named(self) -> dict[str, Tensor]:
        return {"first": self.first, "second": self.second}


def objective(*outputs: Tensor, batch: Batch) -> Squares:
    return Squares(outputs[0].float().square().mean(), outputs[1].float().abs().mean())


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.heads = nn.ModuleList([nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.norm(self.conv(x)).relu()
        return tuple(head(x) for head in self.heads)


def build(precision: torch.dtype | None, average: bool) -> tuple[nn.Module, Step]:
    torch.manual_seed(0)
    model, device = TwoHeads().train(), Device(torch.device("cpu"), precision)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    set_learning_rate(optimizer, 0.05)
    regularizer = Regularizer("L2", 1e-3, model)
    mean = WeightAverage(model) if average else None
    return model, Step(model, objective, device, optimizer, regularizer, device.loss_scaler(SCALING), mean)


def train(step: Step, first: int, last: int) -> None:
    for number in range(first, last):
        torch.manual_seed(number)
        empty = torch.zeros(2, 1, 4)
        batch = Batch(
            torch.randn(2, 3, 6, 6), empty, empty[..., 0].long(), empty[..., 0].bool(), ("a", "b"), 2
        )
        loss, _, _ = step.forward(batch)
        step.update(loss)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("precision", [None, torch.float16])
def test_training_goes_on_to_the_same_bits(precision, average):
    straight, step = build(precision, average)
    train(step, 0, 6)

    halfway, first = build(precision, average)
    train(first, 0, 3)
    tensors: dict[str, Tensor] = {}
    shown = first.average.model if first.average is not None else halfway
    stored = flatten(
        state.collect(halfway, first.optimizer, first.scaler, first.average), tensors, "optimizer"
    )
    checkpoint = copy.deepcopy(shown.state_dict())

    resumed, second = build(precision, average)
    resumed.load_state_dict(checkpoint)
    kept: dict[str, Any] = unflatten(stored, tensors)
    state.restore(kept, resumed, second.optimizer, second.scaler, second.average)
    train(second, 3, 6)

    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert second.scaler.state_dict() == step.scaler.state_dict()
    if average:
        assert step.average is not None
        assert second.average is not None
        assert second.average.steps == step.average.steps == 6
        for name, value in step.average.model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                assert torch.equal(value, second.average.model.state_dict()[name]), name


def test_the_loss_scale_does_not_change_what_is_learned():
    plain, step = build(None, average=False)
    train(step, 0, 4)
    scaled, other = build(None, average=False)
    other.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    train(other, 0, 4)
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, scaled.state_dict()[name], atol=1e-6), name


def test_the_values_of_a_step_are_the_loss_with_the_penalty_its_parts_and_the_penalty():
    _, step = build(None, average=False)
    empty = torch.zeros(1, 1, 4)
    batch = Batch(torch.randn(1, 3, 6, 6), empty, empty[..., 0].long(), empty[..., 0].bool(), ("a",), 2)
    loss, names, values = step.forward(batch)
    assert names == ["loss", "first", "second", "penalty"]
    assert values.tolist()[0] == pytest.approx(sum(values.tolist()[1:]))
    assert float(loss.total.detach()) == pytest.approx(values.tolist()[1] + values.tolist()[2])


def test_the_decay_warms_up_and_ends_at_its_limit():
    assert [decay_after(n) for n in (0, 10)] == [pytest.approx(0.1), pytest.approx(11 / 20)]
    assert decay_after(10**6) == LARGEST_DECAY


def test_the_average_follows_the_weights_as_worked_by_hand():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
        average = WeightAverage(model)
        model.weight.fill_(2.0)
        average.update()
        assert float(average.model.weight.detach()) == pytest.approx(0.1 * 1 + 0.9 * 2)
        model.weight.fill_(0.0)
        average.update()
    assert float(average.model.weight.detach()) == pytest.approx(1.9 * 2 / 11)
