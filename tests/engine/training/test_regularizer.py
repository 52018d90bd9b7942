"""The penalty on weights, and its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from taomagic.engine.training.regularizer import Kind, Regularizer


def small() -> nn.Sequential:
    """Return a convolution with a bias, batch normalisation, and a depthwise convolution."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, groups=3))


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("biases", [False, True])
def test_the_gradient_is_that_of_the_penalty(kind: Kind, biases: bool) -> None:
    model = small()
    conv = model[0]
    chosen = [conv.weight, conv.bias] if biases else [conv.weight]
    power = 1 if kind == "L1" else 2
    expected = 0.01 * sum(parameter.abs().pow(power).sum() for parameter in chosen)
    expected.backward()
    wanted = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    regularizer = Regularizer(kind, 0.01, model, biases=biases)
    assert float(regularizer.penalty()) == pytest.approx(expected.item(), rel=1e-5)
    regularizer.add_gradients()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, torch.zeros_like(parameter) if gradient is None else gradient)
